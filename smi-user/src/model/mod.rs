//! Plain data: what was counted, and what follows from it by arithmetic alone.

mod cost;
mod histogram;
mod snapshot;

pub use cost::SmiCost;
pub use histogram::{Bucket, Histogram};
pub use snapshot::{
    CpuSnapshot, DetectorInfo, Gap, GapKind, GapStats, Interval, RecordCounts, SCHEMA_VERSION,
    SamplerCounts, Snapshot, StretchCounts, TracerCounts, WindowCounts, WindowRecord,
};
