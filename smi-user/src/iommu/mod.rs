//! Watches what is mapped and unmapped in the IOMMU, and for whom.

pub mod boot;
pub mod changes;
#[cfg(test)]
pub(crate) mod made_up;
pub mod readiness;
pub mod topology;

pub use changes::{Changes, ChangesError};
pub use readiness::{Readiness, readiness};
