//! Reads a recording, whole or torn, compressed or not, with the files that were put aside from it.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read},
    mem,
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use super::{
    chain::{self, Part},
    iommu,
    lines::{Line, Parsed, RecordingError, begins_like_ours, newer, parse},
    own::GZIP,
    sequence::{Remark, Sequence},
};

/// A line that is longer is none of smilat's: with 8192 CPUs and the most single gaps that wait, one stays below it.
const LONGEST: u64 = 256 << 20;
const BUFFER: usize = 256 << 10;

/// Reads a recording line by line.
pub struct Reader {
    /// Files still to be read, the next first.
    parts: VecDeque<Part>,
    /// The file being read; `None` between two.
    lines: Option<Box<dyn BufRead + Send>>,
    /// Its name, or that of the last.
    path: PathBuf,
    /// The file that was asked for; what is wrong with others beside it does not keep it from being read.
    asked: PathBuf,
    /// What was wrong with the last such file.
    passed_over: Option<RecordingError>,
    /// Number of the line in its file.
    number: u64,
    /// Whether there was a line in any file.
    any: bool,
    text: Vec<u8>,
    longest: u64,
    /// A line that was read and comes next.
    next: Option<Line>,
    sequence: Sequence,
    remarks: Vec<Remark>,
}

/// A line as it stands in the file.
pub(super) struct Raw<'a> {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its length; more than is there of one that is too long.
    pub(super) bytes: u64,
    pub(super) text: &'a [u8],
}

/// How a line ended.
enum End {
    /// By the end of the line.
    Line,
    /// By the end of the file.
    File,
    /// It is longer than any of smilat's; this long, and not kept.
    TooLong(u64),
    /// The rest of the file is missing or damaged.
    Damaged(io::Error),
}

impl Reader {
    /// Opens `path`, and with it what was put aside from it (`FILE.1.gz` and so on), which is read before; standard input
    /// if `path` is `-`.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Ok(Self::of(path, chain::open(path)?.into()))
    }

    /// Reads `content`, called `path`.
    pub(super) fn single(path: &Path, content: Box<dyn Read + Send>) -> Self {
        let path = path.to_owned();
        Self::of(&path.clone(), [Part { path, content }].into())
    }

    fn of(path: &Path, parts: VecDeque<Part>) -> Self {
        Self {
            lines: None,
            path: path.to_owned(),
            // Standard input has another name here than on the command line.
            asked: match parts.front() {
                Some(part) if parts.len() == 1 => part.path.clone(),
                _ => path.to_owned(),
            },
            parts,
            passed_over: None,
            number: 0,
            any: false,
            text: Vec::new(),
            longest: LONGEST,
            next: None,
            sequence: Sequence::default(),
            remarks: Vec::new(),
        }
    }

    /// The file that the last line was in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was found to be missing since the last call.
    pub fn remarks(&mut self) -> Vec<Remark> {
        mem::take(&mut self.remarks)
    }

    /// The next line; `None` after the last.
    ///
    /// # Errors
    /// When the file that was asked for cannot be read, is not smilat's, or a newer one's; when nothing was recorded at
    /// all, or nothing of it can be read.
    pub fn next_line(&mut self) -> Result<Option<Line>, RecordingError> {
        if let Some(line) = self.next.take() {
            return Ok(Some(line));
        }
        loop {
            match self.line_or_end_of_part() {
                Ok(Some(line)) => {
                    self.any = true;
                    return Ok(Some(line));
                }
                Ok(None) => self.lines = None,
                Err(error) if self.path != self.asked => {
                    self.remarks.push(Remark::Damaged {
                        path: self.path.clone(),
                        line: match error {
                            RecordingError::Io { .. } => self.number + 1,
                            _ => self.number.max(1),
                        },
                        why: error.why(),
                    });
                    self.passed_over = Some(error);
                    self.lines = None;
                }
                Err(error) => return Err(error),
            }
            if self.lines.is_none() && self.parts.is_empty() {
                return match self.passed_over.take() {
                    _ if self.any => Ok(None),
                    Some(error) => Err(error),
                    None => Err(RecordingError::Empty(self.path.clone())),
                };
            }
        }
    }

    /// The next line of the file being read, or of the next one if there is none; `None` after its last.
    fn line_or_end_of_part(&mut self) -> Result<Option<Line>, RecordingError> {
        if self.lines.is_none() && !self.next_part()? {
            return Ok(None);
        }
        self.line_of_part()
    }

    /// Begins the next file; false when there is none.
    fn next_part(&mut self) -> Result<bool, RecordingError> {
        let Some(Part { path, mut content }) = self.parts.pop_front() else {
            return Ok(false);
        };
        self.path = path;
        self.number = 0;
        let mut start = Vec::new();
        content
            .by_ref()
            .take(GZIP.len() as u64)
            .read_to_end(&mut start)
            .map_err(|why| self.failed(why))?;
        let packed = start == GZIP;
        let whole = io::Cursor::new(start).chain(content);
        self.lines = Some(if packed {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole)))
        } else {
            Box::new(BufReader::with_capacity(BUFFER, whole))
        });
        Ok(true)
    }

    /// The next line of the file being read; `None` after its last.
    fn line_of_part(&mut self) -> Result<Option<Line>, RecordingError> {
        let end = self.read()?;
        if self.text.is_empty() && matches!(end, End::File) {
            return Ok(None);
        }
        if matches!(end, End::File) {
            // It may be growing, and what comes then is no line of its own.
            self.end_part();
        }
        self.number += 1;
        let bytes = match &end {
            End::TooLong(bytes) => *bytes,
            _ => self.text.len() as u64,
        };
        let torn = Line::Torn {
            number: self.number,
            bytes,
        };
        if let End::Damaged(error) = end {
            if self.number == 1
                && self.text.is_empty()
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                return Err(self.failed(error));
            }
            if self.number == 1 && !begins_like_ours(&self.text) {
                return Err(RecordingError::Foreign(self.path.clone()));
            }
            self.remarks.push(Remark::Damaged {
                path: self.path.clone(),
                line: self.number,
                why: error.to_string(),
            });
            self.end_part();
            return Ok(Some(torn));
        }
        // An object that is whole is so without the end of its line, too.
        let line = match parse(&self.text) {
            Parsed::Header(header, torn_bytes) => {
                self.remarks.extend(self.sequence.header(&header));
                if torn_bytes > 0 {
                    self.next = Some(Line::Header(header));
                    return Ok(Some(Line::Torn {
                        number: self.number,
                        bytes: torn_bytes,
                    }));
                }
                Line::Header(header)
            }
            Parsed::Snapshot(snapshot) => {
                let remark = self.sequence.snapshot(&snapshot, &self.path);
                self.remarks.extend(remark);
                Line::Snapshot(snapshot)
            }
            Parsed::Version(version) => return Err(newer(&self.path, version)),
            Parsed::Nothing if self.number == 1 && iommu::is_line(&self.text) => {
                return Err(RecordingError::Iommu(self.path.clone()));
            }
            // A first line that is whole is smilat's, or the file is not.
            Parsed::Nothing
                if self.number == 1
                    && (matches!(end, End::Line) || !begins_like_ours(&self.text)) =>
            {
                return Err(RecordingError::Foreign(self.path.clone()));
            }
            Parsed::Nothing => torn,
        };
        Ok(Some(line))
    }

    /// The line that was read last.
    pub(super) fn raw(&self) -> Raw<'_> {
        Raw {
            number: self.number,
            bytes: self.text.len() as u64,
            text: &self.text,
        }
    }

    /// The next line of the file being read, whatever it is; `None` after its last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next_raw(&mut self) -> Result<Option<Raw<'_>>, RecordingError> {
        let end = self.read()?;
        match &end {
            End::File if self.text.is_empty() => return Ok(None),
            End::File | End::Damaged(_) => self.end_part(),
            End::Line | End::TooLong(_) => {}
        }
        self.number += 1;
        let raw = self.raw();
        Ok(Some(match end {
            End::TooLong(bytes) => Raw { bytes, ..raw },
            _ => raw,
        }))
    }

    /// Has nothing more come of the file being read.
    fn end_part(&mut self) {
        self.lines = Some(Box::new(io::empty()));
    }

    /// Reads a line into `self.text`.
    fn read(&mut self) -> Result<End, RecordingError> {
        self.text.clear();
        let Some(lines) = &mut self.lines else {
            return Ok(End::File);
        };
        // Not to look for the end of a line in what has none, such as a disk.
        let foreign = |start: &[u8]| start.first().is_some_and(|byte| *byte != b'{');
        let read = loop {
            let room = self.longest - self.text.len() as u64;
            let begun = match lines.fill_buf() {
                Ok(start) if self.number == 0 && self.text.is_empty() && foreign(start) => {
                    return Err(RecordingError::Foreign(self.path.clone()));
                }
                begun => begun.map(|_| ()),
            };
            match begun.and_then(|()| lines.take(room).read_until(b'\n', &mut self.text)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let failed = match read {
            Ok(_) if self.text.last() == Some(&b'\n') => return Ok(End::Line),
            Ok(_) if self.text.len() as u64 == self.longest => match skip_line(lines) {
                Ok(more) => {
                    let bytes = self.text.len() as u64 + more;
                    self.text = self.text[..64.min(self.text.len())].to_vec();
                    return Ok(End::TooLong(bytes));
                }
                Err(error) => error,
            },
            Ok(_) => return Ok(End::File),
            Err(error) => error,
        };
        match failed.kind() {
            // The end of a compressed file is missing, or it is damaged: what came before it stands.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput => Ok(End::Damaged(failed)),
            _ => Err(self.failed(failed)),
        }
    }

    fn failed(&self, why: io::Error) -> RecordingError {
        RecordingError::Io {
            path: self.path.clone(),
            why,
        }
    }
}

/// Reads to the end of the line, keeping nothing; says how many bytes that was.
fn skip_line(lines: &mut (impl BufRead + ?Sized)) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let waiting = match lines.fill_buf() {
            Ok(waiting) => waiting,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = waiting.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(waiting.len(), |end| end + 1);
        lines.consume(used);
        skipped += used as u64;
        if end.is_some() || used == 0 {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
