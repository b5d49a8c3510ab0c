//! Recordings: a header and the snapshots of a run, a line of JSON each, in a file that is put aside and compressed when it
//! is full.

mod chain;
mod claim;
mod iommu;
mod lines;
mod mend;
mod own;
mod parts;
mod reader;
mod recorder;
mod rotation;
#[cfg(test)]
mod samples;
mod sequence;
mod tail;
mod writer;

pub use chain::{beside, files};
pub(crate) use claim::Claim;
pub use iommu::{IommuLine, IommuReader};
pub use lines::{Line, RecordingError};
pub use reader::Reader;
pub(crate) use recorder::Recorder;
pub(crate) use rotation::Rotation;
pub use sequence::Remark;
