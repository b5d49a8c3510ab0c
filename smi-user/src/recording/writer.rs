//! Writes the files of a recording, one after another.

use std::{
    io, mem,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    claim::{Claim, check},
    lines::HeaderOut,
    mend::Mended,
    parts,
    rotation::{AtEnd, Compressor, GRACE, Rotation, put_aside},
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
    /// Snapshots since then.
    since_sync: u64,
    /// Why the kernel could not write to the disk what it had taken, if it once could not.
    unsynced: Option<io::Error>,
    /// Whether it could not the last time.
    sync_fails: bool,
    /// Snapshots of which it is not sure for that reason that they are on the disk.
    unsure: u64,
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
            since_sync: 0,
            unsynced: None,
            sync_fails: false,
            unsure: 0,
        };
        if is_there(&parts::plain(&path)) || is_there(&parts::unfinished(&path)) {
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

    /// Snapshots of which it is not sure that they are on the disk, for it failed to take what had been written.
    pub(super) fn unsure(&self) -> u64 {
        self.unsure
    }

    /// Adds a line, which is the kernel's when this returns; a full file is put aside before. `interval_ns` is the time from
    /// this snapshot to the next: another header tells if it has changed.
    ///
    /// # Errors
    /// When it cannot be written; the file ends with the line before then.
    pub(super) fn append(&mut self, line: &[u8], interval_ns: u64) -> io::Result<()> {
        if let Some(tail) = &self.tail
            && !tail.is_at(self.claim.path())
        {
            log::warn!(
                "{} was moved, deleted or changed by somebody else; the recording goes on under its name",
                self.path().display()
            );
            self.tail = None;
        }
        if self.header.interval_ns != interval_ns {
            self.header.interval_ns = interval_ns;
            if let Some(tail) = &mut self.tail {
                tail.headed = false;
            }
        }
        self.make_room(line.len() as u64);
        self.ready()?;
        let Some(tail) = &mut self.tail else {
            return Err(io::Error::other("it is not open"));
        };
        tail.append(line)?;
        tail.has_snapshots = true;
        self.since_sync += 1;
        if self.synced.elapsed() >= SYNC {
            self.sync();
        }
        Ok(())
    }

    /// Has everything on the disk.
    ///
    /// # Errors
    /// When something of this run may not be on the disk.
    pub(super) fn sync_all(&mut self) -> io::Result<()> {
        self.sync();
        self.unsynced.take().map_or(Ok(()), Err)
    }

    /// Ends it. What was put aside is compressed if that takes a short time, or else by the next run.
    pub(super) fn end(mut self) {
        match self.compressor.end(GRACE) {
            Ok(AtEnd::Done) => {}
            Ok(AtEnd::Stopped) => log::debug!(
                "{} is not compressed yet: the next run does that",
                parts::plain(self.path()).display()
            ),
            // Held until the process ends: nobody else may begin meanwhile.
            Ok(AtEnd::Stuck) => mem::forget(self.claim),
            Err(error) => self.tell("compressed", &error),
        }
    }

    /// Has the kernel write to the disk what it was given.
    fn sync(&mut self) {
        self.synced = Instant::now();
        let Some(tail) = &self.tail else { return };
        let synced = tail.sync();
        let snapshots = mem::take(&mut self.since_sync);
        match synced {
            Ok(()) if self.sync_fails => {
                self.sync_fails = false;
                log::warn!(
                    "the disk of {} takes what is written again; of {} snapshots it is not sure that they are on it",
                    self.path().display(),
                    self.unsure
                );
            }
            Ok(()) => {}
            Err(error) => {
                self.unsure += snapshots;
                if !self.sync_fails {
                    self.sync_fails = true;
                    log::warn!(
                        "the disk of {} did not take what was written in the last {} s: {error}; {snapshots} snapshots may \
                         not be on it",
                        self.path().display(),
                        SYNC.as_secs()
                    );
                }
                self.unsynced.get_or_insert(error);
            }
        }
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
        if is_there(&parts::plain(self.path())) {
            // There is one that could not be compressed.
            if self.compressor.may_try() {
                self.compress();
            }
            return;
        }
        match put_aside(self.path(), self.rotation.keep) {
            Ok(()) => {
                self.tail = None;
                // Compressing it has it on the disk, too.
                self.since_sync = 0;
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

/// Whether there is anything of this name, if only a link to nothing.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
