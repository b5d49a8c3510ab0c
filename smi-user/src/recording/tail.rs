//! The end of the file that is being recorded to: a whole line, whatever happens to the disk.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::mend::{Mended, mend};

/// See the module.
pub(super) struct Tail {
    file: File,
    /// Up to where it holds whole lines.
    len: u64,
    /// Whether there may be something behind that.
    dirty: bool,
    /// Whether there is anything but this run's header in it.
    pub(super) has_snapshots: bool,
    /// Whether this run has written its header into it.
    pub(super) headed: bool,
}

impl Tail {
    /// Opens `path`, which is made if need be, and puts its end right.
    ///
    /// # Errors
    /// When it cannot be opened or put right.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Mended)> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        let mended = mend(&file)?;
        let len = file.metadata()?.len();
        let tail = Self {
            file,
            len,
            dirty: false,
            has_snapshots: len > 0,
            headed: false,
        };
        Ok((tail, mended))
    }

    /// Length of its whole lines.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether `path` still leads to it, and nobody else has changed it.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let (Ok(named), Ok(own)) = (path.metadata(), self.file.metadata()) else {
            return false;
        };
        (named.dev(), named.ino()) == (own.dev(), own.ino())
            && (self.dirty || own.len() == self.len)
    }

    /// Adds `line` so that it is the kernel's when this returns, or nothing of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.len)?;
        }
        self.dirty = true;
        let written = (&self.file).write_all(line);
        match written {
            Ok(()) => self.len += line.len() as u64,
            Err(_) => self.file.set_len(self.len)?,
        }
        self.dirty = false;
        written
    }

    /// Has the kernel write to the disk what it was given.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
