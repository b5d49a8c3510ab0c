//! What is missing between the lines of a recording.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::model::{Header, Snapshot};

/// Something that is missing in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Files of a run: deleted as `--rotate-keep` has it, or not beside the others.
    PartsMissing {
        /// When the run began.
        started: Timestamp,
        /// The first that is missing.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Snapshots: the disk was full or too slow, or their file is missing.
    SnapshotsMissing {
        /// Where the next one is.
        path: PathBuf,
        /// Number of the interval before.
        after: u64,
        /// Number of the interval that comes next.
        before: u64,
    },
    /// The rest of a file: of a compressed one that is damaged, or of one beside `FILE` that cannot be read or is no
    /// recording.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line from which on nothing can be had.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartsMissing {
                started,
                first,
                last,
            } => {
                let parts = match last - first {
                    0 => format!("part {first}"),
                    _ => format!("parts {first} to {last}"),
                };
                write!(
                    f,
                    "{parts} of the run of {started} not there: rotated away, or in files that were not given"
                )
            }
            Self::SnapshotsMissing {
                path,
                after,
                before,
            } => write!(
                f,
                "{} snapshots are missing in {}, between intervals {after} and {before}: single gaps of that time are \
                 not there, totals include them",
                before - after - 1,
                path.display()
            ),
            Self::Damaged { path, line, why } => write!(
                f,
                "{} cannot be read from line {line} on, and what it held is missing here: {why}",
                path.display()
            ),
        }
    }
}

/// Follows the numbers of files and intervals.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The run that the last header was of, and its number.
    run: Option<(Timestamp, u64)>,
    /// The interval before; `None` where none can be said to come first.
    interval: Option<u64>,
}

impl Sequence {
    /// A header comes.
    pub(super) fn header(&mut self, header: &Header) -> Option<Remark> {
        let known = self.run.filter(|(started, _)| *started == header.started);
        self.run = Some((header.started, header.part));
        let before = known.map_or(0, |(_, part)| part);
        if known.is_none() {
            self.interval = (header.part == 1).then_some(0);
        }
        (header.part > before + 1).then(|| Remark::PartsMissing {
            started: header.started,
            first: before + 1,
            last: header.part - 1,
        })
    }

    /// A snapshot comes.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot, path: &Path) -> Option<Remark> {
        let next = snapshot.interval;
        let after = self.interval.replace(next)?;
        // A lower number is another run's, in a file without headers.
        (next > after + 1).then(|| Remark::SnapshotsMissing {
            path: path.to_owned(),
            after,
            before: next,
        })
    }
}
