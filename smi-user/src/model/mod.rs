//! Plain data: what was counted, and what follows from it by arithmetic alone.

mod carry;
mod cause;
mod cost;
mod count;
mod histogram;
pub mod iommu;
pub mod iommu_boot;
pub mod iommu_recording;
pub mod iommu_topology;
pub mod irqsoff;
mod own_cost;
mod recording;
mod snapshot;
mod summary;

pub use cause::{Attribution, Cause, CauseStats, CounterInfo, Proof, SmiCounts, StealCounts};
pub use cost::SmiCost;
pub use histogram::{Bucket, Histogram};
pub use own_cost::{BpfCost, OwnCost};
pub use recording::{Header, Machine, NO_HYPERVISOR};
pub use snapshot::{
    CpuSnapshot, DetectorInfo, Gap, GapKind, GapStats, Interval, RecordCounts, SCHEMA_VERSION,
    SamplerCounts, Snapshot, StretchCounts, TracerCounts, WindowCounts, WindowRecord,
};
pub use summary::{Comparison, Difference, Period, PeriodSearch, Slot, Summary, Verdict};
