//! Puts a full file of a recording aside, and compresses it.
//!
//! At each step all that is complete is in a file whose name the reader knows, so that a kill at any moment loses nothing:
//! older files move up, the oldest first, so that one missing in between is the next to be filled; `FILE` becomes `FILE.1`,
//! which is compressed to `FILE.1.gz.tmp`, which becomes `FILE.1.gz` when it is whole and on the disk; then `FILE.1` goes.
//! What has such a name but is not smilat's is neither moved, nor replaced, nor deleted.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use super::{own, parts};
use crate::kernel::sched;

/// When to put a file aside, and how many to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    /// Size in bytes that no file exceeds, unless a single snapshot does or the disk does not allow it.
    pub(crate) size: u64,
    /// Files kept beside the one being written.
    pub(crate) keep: u64,
}

/// How long after a failure compressing is tried again.
const AGAIN: Duration = Duration::from_mins(1);

/// How long the end of a run waits for a compression, before it is stopped and left to the next run.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How long stopping it may take.
const STOPPING: Duration = Duration::from_secs(1);

/// Puts `path` aside as `FILE.1`, or deletes it if none is to be kept.
///
/// # Errors
/// When it cannot be moved; it is still there then.
pub(super) fn put_aside(path: &Path, keep: u64) -> io::Result<()> {
    make_room(path, keep)?;
    if keep == 0 {
        fs::remove_file(path)
    } else {
        fs::rename(path, parts::plain(path))
    }
}

/// Moves the compressed files up by one as far as need be, and deletes those beyond `keep`.
fn make_room(path: &Path, keep: u64) -> io::Result<()> {
    let numbers = parts::numbers(path)?;
    let free = (1..=keep).find(|number| !numbers.contains(number));
    // Those that would be moved or replaced.
    for number in 1..=free.map_or(keep, |free| free - 1) {
        let path = parts::compressed(path, number);
        if own::is_foreign(&path)? {
            return Err(own::foreign(&path));
        }
    }
    for number in (1..free.unwrap_or(keep)).rev() {
        fs::rename(
            parts::compressed(path, number),
            parts::compressed(path, number + 1),
        )?;
    }
    for number in numbers.range(keep + 1..) {
        let path = parts::compressed(path, *number);
        if !own::is_foreign(&path)? {
            fs::remove_file(path)?;
        }
    }
    // With one to keep, nothing was moved onto it.
    if keep == 1 && numbers.contains(&1) {
        fs::remove_file(parts::compressed(path, 1))?;
    }
    Ok(())
}

/// Finishes what a killed process left: a file not compressed, or not wholly.
///
/// # Errors
/// When it cannot be, or was stopped; nothing is lost then.
fn finish(path: &Path, keep: u64, stop: &AtomicBool) -> io::Result<()> {
    let plain = parts::plain(path);
    for found in [&plain, &parts::unfinished(path)] {
        if own::is_foreign(found)? {
            return Err(own::foreign(found));
        }
    }
    remove(&parts::unfinished(path))?;
    if !plain.try_exists()? {
        return Ok(());
    }
    if parts::compressed(path, 1).try_exists()? {
        if same(&plain, &parts::compressed(path, 1), stop)? {
            return remove(&plain);
        }
        make_room(path, keep)?;
    }
    compress(path, stop)
}

/// Compresses `FILE.1`.
fn compress(path: &Path, stop: &AtomicBool) -> io::Result<()> {
    let (plain, unfinished) = (parts::plain(path), parts::unfinished(path));
    let packed_path = parts::compressed(path, 1);
    let content = File::open(&plain)?;
    // Compressing takes a while, and the power may fail.
    content.sync_data()?;
    let mut content = Stoppable { content, stop };
    let mut pack = || {
        let packed = BufWriter::new(File::create(&unfinished)?);
        let mut packed = GzEncoder::new(packed, Compression::default());
        io::copy(&mut content, &mut packed)?;
        let packed = packed.finish()?.into_inner()?;
        packed.sync_all()?;
        check(stop)?;
        if packed_path.symlink_metadata().is_ok() {
            return Err(own::foreign(&packed_path));
        }
        fs::rename(&unfinished, &packed_path)
    };
    if let Err(error) = pack() {
        // Half of it is of no use, and the disk may be full.
        let _removed = remove(&unfinished);
        return Err(error);
    }
    File::open(parts::folder(path))?.sync_all()?;
    remove(&plain)
}

/// Reads until it is to stop.
struct Stoppable<'a> {
    content: File,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        check(self.stop)?;
        self.content.read(to)
    }
}

fn check(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) {
        Err(io::Error::other("the run has ended"))
    } else {
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether `packed` holds what `plain` does. One that cannot be unpacked does not.
fn same(plain: &Path, packed: &Path, stop: &AtomicBool) -> io::Result<bool> {
    let mut plain = BufReader::new(File::open(plain)?);
    let mut packed = GzDecoder::new(File::open(packed)?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        check(stop)?;
        ours.clear();
        theirs.clear();
        plain.by_ref().take(1 << 16).read_to_end(&mut ours)?;
        // One byte more than is left shows that there is no more.
        let unpacked = packed
            .by_ref()
            .take((ours.len() as u64).max(1))
            .read_to_end(&mut theirs);
        if unpacked.is_err() || ours != theirs {
            return Ok(false);
        }
        if ours.is_empty() {
            return Ok(true);
        }
    }
}

/// Compresses on a thread of its own that gives way to all others.
pub(super) struct Compressor {
    running: Option<Running>,
    failed: Option<Instant>,
}

/// A compression under way.
struct Running {
    thread: JoinHandle<io::Result<()>>,
    stop: Arc<AtomicBool>,
    /// Without a message; its other end goes when the thread ends.
    alive: mpsc::Receiver<()>,
}

impl Running {
    /// Whether it ends within this time.
    fn ends_within(&self, time: Duration) -> bool {
        self.alive.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }
}

/// How a compression stood at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// Nothing is left to do.
    Done,
    /// `FILE.1` is left to the next run.
    Stopped,
    /// It does not even stop, for the disk does not answer: files may change until the process ends.
    Stuck,
}

impl Compressor {
    /// One that has nothing to do yet.
    pub(super) fn new() -> Self {
        Self {
            running: None,
            failed: None,
        }
    }

    /// Compresses `FILE.1` if it is there, after what a killed process left.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub(super) fn start(&mut self, path: &Path, keep: u64) -> io::Result<()> {
        let path = path.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let its_stop = Arc::clone(&stop);
        let (lives, alive) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("smilat/gzip".to_owned())
            .spawn(move || {
                let _lives: mpsc::Sender<()> = lives;
                if let Err(error) = sched::give_way() {
                    log::debug!("files are compressed at the usual priority: {error}");
                }
                finish(&path, keep, &its_stop)
            })?;
        self.running = Some(Running {
            thread,
            stop,
            alive,
        });
        Ok(())
    }

    /// Whether it is at work.
    pub(super) fn is_busy(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| !running.thread.is_finished())
    }

    /// Whether it may be tried again after a failure.
    pub(super) fn may_try(&self) -> bool {
        self.failed.is_none_or(|failed| failed.elapsed() > AGAIN)
    }

    /// The outcome of what was started, once: waits for it.
    ///
    /// # Errors
    /// When it failed.
    pub(super) fn outcome(&mut self) -> io::Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let done = running
            .thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that compresses panicked")));
        self.failed = done.is_err().then(Instant::now);
        done
    }

    /// Waits for what was started, but no longer than `grace`: then has it stop.
    ///
    /// # Errors
    /// When it failed.
    pub(super) fn end(&mut self, grace: Duration) -> io::Result<AtEnd> {
        let Some(running) = &self.running else {
            return Ok(AtEnd::Done);
        };
        if running.ends_within(grace) {
            return self.outcome().map(|()| AtEnd::Done);
        }
        running.stop.store(true, Ordering::Relaxed);
        if !running.ends_within(STOPPING) {
            return Ok(AtEnd::Stuck);
        }
        // Unless it was done just then, it failed because it was stopped.
        Ok(self.outcome().map_or(AtEnd::Stopped, |()| AtEnd::Done))
    }
}
