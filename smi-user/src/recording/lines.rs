//! What a line of a recording is, and what is none.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{Header, SCHEMA_VERSION, Snapshot};

/// A recording that cannot be read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why; not called a source, for then those who tell all sources would tell it twice.
        why: io::Error,
    },
    /// Its first line is not smilat's.
    #[error(
        "{} is no recording of smilat: its first line is neither a header nor a snapshot; give a file that `smilat run --record` or `--format ndjson` wrote", .0.display()
    )]
    Foreign(PathBuf),
    /// It is one of `smilat iommu`, which has no gaps; [`super::IommuReader`] reads on in it.
    #[error(
        "{} is a recording of `smilat iommu`, which has no gaps; give one that `smilat run` wrote, or see this one by `smilat report`", .0.display()
    )]
    Iommu(PathBuf),
    /// A newer smilat wrote it.
    #[error(
        "{} has schema_version {version}, and this smilat reads up to {reads}; use the smilat that wrote it, or a newer one", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest that this one reads.
        reads: u32,
    },
    /// Nothing is in it.
    #[error(
        "{} is empty: nothing has been recorded in it; give a file that `smilat run --record` or `--format ndjson` wrote", .0.display()
    )]
    Empty(PathBuf),
}

impl RecordingError {
    /// What is wrong, without the name of the file.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Io { why, .. } => why.to_string(),
            Self::Foreign(_) => "it is no recording of smilat".to_owned(),
            Self::Newer { version, reads, .. } => {
                format!("it has schema_version {version}, and this smilat reads up to {reads}")
            }
            Self::Iommu(_) => "it is a recording of `smilat iommu`".to_owned(),
            Self::Empty(_) => "it is empty".to_owned(),
        }
    }
}

/// A line of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A file, or a run, begins.
    Header(Box<Header>),
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// A line that ends before its object does, or is none: the writer was killed, or the disk was full. Also where one
    /// was cut off to go on after it, and where the rest of a compressed file is missing or damaged.
    Torn {
        /// Number of the line in its file, from 1.
        number: u64,
        /// Its length.
        bytes: u64,
    },
}

/// How a line with a header begins.
const HEADER: &[u8] = b"{\"recording\":";
/// How one with a snapshot does.
const SNAPSHOT: &[u8] = b"{\"schema_version\":";

/// A line with a header, as it is written.
#[derive(Serialize)]
pub(super) struct HeaderOut<'a> {
    /// The header.
    pub(super) recording: &'a Header,
    /// Bytes of a torn line that was cut off the file before this one was added.
    #[serde(skip_serializing_if = "none")]
    pub(super) torn_bytes: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn none(bytes: &u64) -> bool {
    *bytes == 0
}

/// A line with a header, as it is read.
#[derive(Deserialize)]
struct HeaderIn {
    recording: Box<Header>,
    #[serde(default)]
    torn_bytes: u64,
}

/// What every version says of itself.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

#[derive(Deserialize)]
struct HeaderVersion {
    recording: Version,
}

/// What is in a line.
pub(super) enum Parsed {
    /// A header, and how many bytes of a torn line were cut off before it.
    Header(Box<Header>, u64),
    Snapshot(Box<Snapshot>),
    /// A line of another version.
    Version(u32),
    Nothing,
}

/// Reads a line, with or without its end.
pub(super) fn parse(text: &[u8]) -> Parsed {
    let version = |version: u32, parsed| {
        if version > SCHEMA_VERSION {
            Parsed::Version(version)
        } else {
            parsed
        }
    };
    if text.starts_with(HEADER) {
        match serde_json::from_slice::<HeaderIn>(text) {
            Ok(line) => version(
                line.recording.schema_version,
                Parsed::Header(line.recording, line.torn_bytes),
            ),
            Err(_) => serde_json::from_slice(text)
                .map_or(Parsed::Nothing, |line: HeaderVersion| {
                    version(line.recording.schema_version, Parsed::Nothing)
                }),
        }
    } else {
        match serde_json::from_slice::<Box<Snapshot>>(text) {
            Ok(snapshot) => version(snapshot.schema_version, Parsed::Snapshot(snapshot)),
            Err(_) => serde_json::from_slice(text).map_or(Parsed::Nothing, |line: Version| {
                version(line.schema_version, Parsed::Nothing)
            }),
        }
    }
}

/// Whether `text` may be the beginning of a line of smilat's.
pub(super) fn begins_like_ours(text: &[u8]) -> bool {
    let begins = |with: &[u8]| text.starts_with(with) || with.starts_with(text);
    begins(HEADER) || begins(SNAPSHOT)
}

/// The refusal of a version that this smilat does not know.
pub(super) fn newer(path: &Path, version: u32) -> RecordingError {
    RecordingError::Newer {
        path: path.to_owned(),
        version,
        reads: SCHEMA_VERSION,
    }
}
