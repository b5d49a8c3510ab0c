//! Recordings: a header and the snapshots of a run, a line of JSON each.

mod reader;

pub use reader::{Line, Reader, RecordingError};
