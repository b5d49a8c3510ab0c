//! Lines of `smilat iommu`'s NDJSON.

use serde::Deserialize;

use super::{
    lines::RecordingError,
    reader::{Raw, Reader},
};
use crate::model::iommu::{IOMMU_SCHEMA_VERSION, IommuEvent, IommuSnapshot};

/// A line of it.
#[derive(Clone, Debug, PartialEq)]
pub enum IommuLine {
    /// Something that was found.
    Event(Box<IommuEvent>),
    /// All that was counted.
    Snapshot(Box<IommuSnapshot>),
    /// A line that ends before its object does, or is none.
    Torn {
        /// Number of the line in its file, from 1.
        number: u64,
        /// Its length.
        bytes: u64,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Parsed {
    Event(Box<IommuEvent>),
    Snapshot(Box<IommuSnapshot>),
}

/// What every version says of itself.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
    /// What no other command's snapshot has.
    #[serde(rename = "domains")]
    _domains: serde::de::IgnoredAny,
}

#[derive(Deserialize)]
struct VersionLine {
    snapshot: Version,
}

/// Whether it is a line of `smilat iommu`, of whatever version.
pub(super) fn is_line(text: &[u8]) -> bool {
    parse(text).is_some() || version(text).is_some()
}

fn parse(text: &[u8]) -> Option<Parsed> {
    serde_json::from_slice(text).ok()
}

fn version(text: &[u8]) -> Option<u32> {
    let line: VersionLine = serde_json::from_slice(text).ok()?;
    Some(line.snapshot.schema_version)
}

/// Reads on in a file whose first line is of `smilat iommu`.
pub struct IommuReader {
    reader: Reader,
    /// Whether that first line was told.
    begun: bool,
}

impl IommuReader {
    /// Goes on with `reader`, which has just refused the first line with [`RecordingError::Iommu`].
    pub fn new(reader: Reader) -> Self {
        Self {
            reader,
            begun: false,
        }
    }

    /// The next line; `None` after the last.
    ///
    /// # Errors
    /// When the file cannot be read, or is a newer smilat's.
    pub fn next_line(&mut self) -> Result<Option<IommuLine>, RecordingError> {
        let raw = if self.begun {
            self.reader.next_raw()?
        } else {
            Some(self.reader.raw())
        };
        self.begun = true;
        let Some(Raw {
            number,
            bytes,
            text,
        }) = raw
        else {
            return Ok(None);
        };
        if let Some(version) = version(text).filter(|version| *version > IOMMU_SCHEMA_VERSION) {
            return Err(RecordingError::Newer {
                path: self.reader.path().to_owned(),
                version,
                reads: IOMMU_SCHEMA_VERSION,
            });
        }
        Ok(Some(match parse(text) {
            Some(Parsed::Event(event)) => IommuLine::Event(event),
            Some(Parsed::Snapshot(snapshot)) => IommuLine::Snapshot(snapshot),
            None => IommuLine::Torn { number, bytes },
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, path::PathBuf};

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::{
        iommu::made_up::{ratio, snapshot},
        report::{Ndjson, iommu::Line},
    };

    fn text() -> Vec<u8> {
        let mut text = Ndjson::line(&Line::Event(&ratio())).to_vec();
        text.extend(Ndjson::line(&Line::Snapshot(&snapshot())));
        text
    }

    /// Reads a file that holds `content`.
    fn read(content: &[u8]) -> Result<Vec<IommuLine>, RecordingError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path: PathBuf = folder.path().join("file");
        fs::write(&path, content).expect("written");
        let mut reader = Reader::open(&path)?;
        match reader.next_line() {
            Err(RecordingError::Iommu(refused)) => assert_eq!(refused, path),
            Err(error) => return Err(error),
            Ok(line) => panic!("{line:?}"),
        }
        let mut reader = IommuReader::new(reader);
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line()? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn every_line_is_read_compressed_or_not() {
        let expected = [
            IommuLine::Event(Box::new(ratio())),
            IommuLine::Snapshot(Box::new(snapshot())),
        ];
        assert_eq!(read(&text()).expect("read"), expected);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&text()).expect("packed");
        assert_eq!(
            read(&packed.finish().expect("packed")).expect("read"),
            expected
        );
    }

    #[test]
    fn torn_lines_are_told_with_what_is_left_of_them() {
        let whole = text();
        let lines = read(&whole[..whole.len() - 20]).expect("read");
        let first = whole
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        let torn = IommuLine::Torn {
            number: 2,
            bytes: (whole.len() - 20 - first - 1) as u64,
        };
        assert_eq!(lines, [IommuLine::Event(Box::new(ratio())), torn]);
        // An object that is whole is so without the end of its line.
        assert_eq!(read(&whole[..whole.len() - 1]).expect("read").len(), 2);
    }

    #[test]
    fn a_newer_one_and_others_are_refused() {
        let newer = String::from_utf8(text())
            .expect("text")
            .replace("\"schema_version\":1", "\"schema_version\":7");
        let error = read(newer.as_bytes()).expect_err("refused").to_string();
        assert!(error.contains("schema_version 7"), "{error}");
        for foreign in [
            "{\"event\":{\"kind\":\"disabled\"}}\n",
            "{\"snapshot\":{\"schema_version\":1,\"cpus\":[]}}\n",
        ] {
            let error = read(foreign.as_bytes()).expect_err("refused").to_string();
            assert!(error.contains("no recording of smilat"), "{error}");
        }
    }
}
