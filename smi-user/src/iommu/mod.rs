//! Watches what is mapped and unmapped in the IOMMU, and for whom.

pub mod boot;
pub mod changes;
mod collecting;
mod domains;
mod events;
mod facts;
mod fault_log;
mod fault_sources;
mod faults;
mod growth;
#[cfg(test)]
pub(crate) mod made_up;
#[cfg(test)]
pub(crate) mod made_up_sysfs;
mod ratio;
pub mod readiness;
mod selection;
pub mod topology;
mod watching;

pub use changes::{Changes, ChangesError};
pub use collecting::Collecting;
pub use domains::{Domains, InUse, kind};
pub use fault_log::FaultLog;
pub use fault_sources::{FaultSources, emits_tracepoint};
pub use faults::{FaultReader, Report, tracepoint_access};
pub use growth::{Grown, Growth};
pub use ratio::{RatioAlarm, RatioDeltas, RatioVerdict};
pub use readiness::{Readiness, readiness};
pub use selection::Selection;
pub use watching::{Own, Watching};
