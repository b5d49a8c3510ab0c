//! What recordings say: plain computation on the lines of recordings, without a look at where they came from.
//!
//! Lines go in one by one and are not kept: memory does not grow with the length of a recording.

mod clock;
mod compare;
mod events;
mod iommu;
mod kept;
mod limits;
mod notes;
mod periods;
mod smis;
mod statistics;
mod summarise;
#[cfg(test)]
mod synthetic;
mod timeline;
mod totals;

pub use compare::compare;
pub use iommu::{IommuError, IommuSummariser};
pub use summarise::{Summariser, SummaryError};
