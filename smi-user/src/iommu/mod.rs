//! Watches what is mapped and unmapped in the IOMMU, and for whom.

pub mod boot;
pub mod changes;
mod collecting;
mod domains;
mod events;
mod facts;
#[cfg(test)]
pub(crate) mod made_up;
#[cfg(test)]
pub(crate) mod made_up_sysfs;
pub mod readiness;
mod selection;
pub mod topology;
mod watching;

pub use changes::{Changes, ChangesError};
pub use collecting::Collecting;
pub use domains::{Domains, InUse, kind};
pub use readiness::{Readiness, readiness};
pub use selection::Selection;
pub use watching::{Own, Watching};
