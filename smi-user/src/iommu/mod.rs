//! Watches what is mapped and unmapped in the IOMMU, and for whom.

mod fault_log;
mod fault_sources;
mod faults;
mod growth;
mod ratio;

pub use fault_log::FaultLog;
pub use fault_sources::{FaultSources, emits_tracepoint};
pub use faults::{FaultReader, Report, tracepoint_access};
pub use growth::{Grown, Growth};
pub use ratio::{RatioAlarm, RatioDeltas, RatioVerdict};
