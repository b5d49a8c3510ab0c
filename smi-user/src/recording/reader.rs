//! Reads a recording, whole or torn, compressed or not.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek as _},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use thiserror::Error;

use crate::model::{Header, SCHEMA_VERSION, Snapshot};

/// How a gzip file begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A recording that cannot be read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its first line is not smilat's.
    #[error(
        "{} is no recording of smilat: its first line is neither a header nor a snapshot; give a file that `smilat run --record` or `--format ndjson` wrote", .0.display()
    )]
    Foreign(PathBuf),
    /// A newer smilat wrote it.
    #[error(
        "{} has schema_version {version}, and this smilat reads up to {SCHEMA_VERSION}; use the smilat that wrote it, or a newer one", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// A line of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A file, or a run, begins.
    Header(Box<Header>),
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// A line that ends before its object does, or is none: the writer was killed, or the disk was full.
    Torn {
        /// Number of the line in its file, from 1.
        number: u64,
        /// Its length.
        bytes: u64,
    },
}

/// How a line with a header begins.
const HEADER: &[u8] = b"{\"recording\":";

#[derive(Deserialize)]
struct HeaderLine {
    recording: Box<Header>,
}

#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// Reads a recording line by line.
pub struct Reader {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    number: u64,
}

impl Reader {
    /// Opens `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut start = Vec::new();
        file.by_ref()
            .take(GZIP.len() as u64)
            .read_to_end(&mut start)
            .map_err(failed)?;
        file.rewind().map_err(failed)?;
        let lines: Box<dyn BufRead> = if start == GZIP {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(BufReader::new(file))
        };
        Ok(Self {
            path: path.to_owned(),
            lines,
            number: 0,
        })
    }

    /// The next line; `None` after the last.
    ///
    /// # Errors
    /// When the file cannot be read, is not smilat's, or a newer one's.
    pub fn next_line(&mut self) -> Result<Option<Line>, RecordingError> {
        let mut text = Vec::new();
        match self.lines.read_until(b'\n', &mut text) {
            Ok(_) => {}
            // The end of a compressed file is missing: what came before it stands.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(source) => {
                return Err(RecordingError::Io {
                    path: self.path.clone(),
                    source,
                });
            }
        }
        if text.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let torn = Line::Torn {
            number: self.number,
            bytes: text.len() as u64,
        };
        if text.last() != Some(&b'\n') {
            return Ok(Some(torn));
        }
        let parsed = if text.starts_with(HEADER) {
            serde_json::from_slice(&text).map(|line: HeaderLine| Line::Header(line.recording))
        } else {
            serde_json::from_slice(&text).map(Line::Snapshot)
        };
        let Ok(line) = parsed else {
            if let Ok(Version { schema_version }) = serde_json::from_slice(&text) {
                self.check(schema_version)?;
            }
            if self.number == 1 {
                return Err(RecordingError::Foreign(self.path.clone()));
            }
            return Ok(Some(torn));
        };
        self.check(match &line {
            Line::Header(header) => header.schema_version,
            Line::Snapshot(snapshot) => snapshot.schema_version,
            Line::Torn { .. } => SCHEMA_VERSION,
        })?;
        Ok(Some(line))
    }

    fn check(&self, version: u32) -> Result<(), RecordingError> {
        if version > SCHEMA_VERSION {
            return Err(RecordingError::Newer {
                path: self.path.clone(),
                version,
            });
        }
        Ok(())
    }
}
