//! Writes the files of a recording, one after another.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    claim::{Claim, check},
    lines::HeaderOut,
    mend::Mended,
    parts,
    rotation::{Compressor, Rotation, put_aside},
    tail::Tail,
};
use crate::{model::Header, units::show_bytes};

/// How often the kernel is asked to write to the disk what it was given: what a power failure costs at most.
const SYNC: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Writer {
    claim: Claim,
    rotation: Rotation,
    /// The next header to be written.
    header: Header,
    /// Bytes of torn lines that were cut off and that no header tells yet.
    torn_bytes: u64,
    /// `None` while there is no file.
    tail: Option<Tail>,
    compressor: Compressor,
    /// Whether the user knows that files cannot be put aside.
    told: bool,
    synced: Instant,
    /// Why the kernel could not write to the disk what it had taken, if it once could not.
    unsynced: Option<io::Error>,
}

impl Writer {
    /// Begins a run, with its header.
    ///
    /// # Errors
    /// When that cannot be written; no file is made then.
    pub(super) fn begin(claim: Claim, rotation: Rotation, header: Header) -> Result<Self> {
        let path = claim.path().to_owned();
        let is_new = !path.exists();
        let mut writer = Self {
            claim,
            rotation,
            header,
            torn_bytes: 0,
            tail: None,
            compressor: Compressor::new(),
            told: false,
            synced: Instant::now(),
            unsynced: None,
        };
        if parts::plain(&path).exists() || parts::unfinished(&path).exists() {
            writer.compress();
        }
        let begun = writer.open().and_then(|()| {
            writer.make_room(0);
            writer.ready()
        });
        if begun.is_err() && is_new {
            // Empty, for nothing could be written.
            let _removed = std::fs::remove_file(&path);
        }
        begun.with_context(|| format!("cannot record to {}", path.display()))?;
        Ok(writer)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.claim.path()
    }

    /// Adds a line, which is the kernel's when this returns; a full file is put aside before.
    ///
    /// # Errors
    /// When it cannot be written; the file ends with the line before then.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(tail) = &self.tail
            && !tail.is_at(self.claim.path())
        {
            log::warn!(
                "{} was moved, deleted or changed by somebody else; the recording goes on under its name",
                self.path().display()
            );
            self.tail = None;
        }
        self.make_room(line.len() as u64);
        self.ready()?;
        let Some(tail) = &mut self.tail else {
            return Err(io::Error::other("it is not open"));
        };
        tail.append(line)?;
        tail.has_snapshots = true;
        if self.synced.elapsed() >= SYNC {
            self.synced = Instant::now();
            let synced = tail.sync();
            self.unsynced = self.unsynced.take().or(synced.err());
        }
        Ok(())
    }

    /// Has everything on the disk, and waits until what was put aside is compressed.
    ///
    /// # Errors
    /// When the file may not be on the disk.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let synced = self.tail.as_ref().map_or(Ok(()), Tail::sync);
        self.collect();
        self.unsynced.map_or(synced, Err)
    }

    /// Opens the file, and puts its end right.
    fn open(&mut self) -> io::Result<()> {
        let path = self.claim.path();
        check(path).map_err(|error| io::Error::other(format!("{error:#}")))?;
        let (tail, mended) = Tail::open(path)?;
        match mended {
            Mended::Whole => {}
            Mended::Ended => log::warn!(
                "{}: the end of the last line was missing and was added; nothing is lost",
                path.display()
            ),
            Mended::Cut(bytes) => {
                log::warn!(
                    "{}: the last line was torn, by a kill or a full disk; its {} were cut off, all lines before are kept",
                    path.display(),
                    show_bytes(bytes)
                );
                self.torn_bytes += bytes;
            }
        }
        self.tail = Some(tail);
        Ok(())
    }

    /// Has a file that is open and holds this run's header.
    fn ready(&mut self) -> io::Result<()> {
        if self.tail.is_none() {
            self.open()?;
        }
        let Some(tail) = self.tail.as_mut().filter(|tail| !tail.headed) else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(&HeaderOut {
            recording: &self.header,
            torn_bytes: self.torn_bytes,
        })?;
        line.push(b'\n');
        tail.append(&line)?;
        tail.headed = true;
        self.torn_bytes = 0;
        self.header.part += 1;
        Ok(())
    }

    /// Puts the file aside if it is full with `more` bytes. Where that cannot be done it grows, and it is tried again.
    fn make_room(&mut self, more: u64) {
        let full = |tail: &Tail| {
            tail.has_snapshots && tail.len().saturating_add(more) > self.rotation.size
        };
        if !self.tail.as_ref().is_some_and(full) || self.compressor.is_busy() {
            return;
        }
        self.collect();
        if parts::plain(self.path()).exists() {
            // There is one that could not be compressed.
            if self.compressor.may_try() {
                self.compress();
            }
            return;
        }
        match put_aside(self.path(), self.rotation.keep) {
            Ok(()) => {
                self.tail = None;
                self.told = false;
                self.compress();
            }
            Err(error) => self.tell("put aside", &error),
        }
    }

    fn compress(&mut self) {
        if let Err(error) = self.compressor.start(self.claim.path(), self.rotation.keep) {
            self.tell("compressed", &error);
        }
    }

    fn collect(&mut self) {
        if let Err(error) = self.compressor.outcome() {
            self.tell("compressed", &error);
        }
    }

    /// Says that a file cannot be `done`, unless it was said already.
    fn tell(&mut self, done: &str, error: &io::Error) {
        if !self.told {
            self.told = true;
            log::warn!(
                "a full file of the recording {} cannot be {done}: {error}; nothing of it is lost, files grow meanwhile, and \
                 it is tried again",
                self.path().display()
            );
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
