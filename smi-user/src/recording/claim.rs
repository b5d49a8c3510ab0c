//! Takes hold of a file to record to, without changing it yet.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Reader, RecordingError, parts};

/// A file that this process alone records to, until this is dropped.
pub(crate) struct Claim {
    path: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl Claim {
    /// Takes hold of `path`: a recording, an empty file, or none yet.
    ///
    /// # Errors
    /// When it is something else, when another smilat records to it, or when nothing can be written there.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        // Files are put aside beside the file itself, not beside a link to it.
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot record to {}", path.display()));
            }
        };
        check(&path)?;
        let lock = parts::lock(&path);
        let held = hold(&lock, &path)?;
        Ok(Self {
            path,
            lock,
            _held: held,
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Held to the end, so it is this process's. One that stays, after a kill, is taken over by the next.
        let _removed = std::fs::remove_file(&self.lock);
    }
}

/// Whether `path` can be recorded to.
///
/// # Errors
/// When it is anything but a recording or empty.
pub(super) fn check(path: &Path) -> Result<()> {
    let name = path.display();
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot record to {name}")),
    };
    ensure!(
        found.is_file(),
        "cannot record to {name}: it is no regular file; a recording needs one, to put it aside when it is full (for pipes \
         and devices there is --format ndjson --output)"
    );
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot record to {name}"))?;
    let mut start = [0];
    if file
        .read(&mut start)
        .with_context(|| format!("cannot read {name}"))?
        == 0
    {
        return Ok(());
    }
    let foreign = || {
        format!(
            "cannot record to {name}: it is not empty and no recording of smilat, and is left as it is; give --record \
             another file, or move this one away"
        )
    };
    // A compressed recording can be read, but not added to.
    ensure!(start == *b"{", foreign());
    let whole = io::Cursor::new(start).chain(file);
    match Reader::single(path, Box::new(whole)).next_line() {
        Ok(_) => Ok(()),
        Err(RecordingError::Foreign(_)) => bail!(foreign()),
        Err(error) => Err(error).with_context(|| {
            format!("cannot record to {name}; give --record another file, or move this one away")
        }),
    }
}

/// Holds the lock of `path`.
fn hold(lock: &Path, path: &Path) -> Result<File> {
    let failed = || format!("cannot record to {}", path.display());
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock)
            .with_context(|| {
                format!(
                    "cannot make {}, and a recording needs a folder to put files aside in",
                    lock.display()
                )
            })
            .with_context(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let holder = match file.read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
                    _ => "another smilat".to_owned(),
                };
                bail!(
                    "{}: {holder} is recording to it (and holds {}); end that one, or give --record another file",
                    failed(),
                    lock.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error)
                    .with_context(|| format!("cannot lock {}", lock.display()))
                    .with_context(failed);
            }
        }
        // Its holder may have removed it between the two calls, and then another may be made and held.
        let named = lock.metadata().map(|named| (named.dev(), named.ino()));
        let own = file
            .metadata()
            .map(|own| (own.dev(), own.ino()))
            .with_context(failed)?;
        if named.is_ok_and(|named| named == own) {
            // Only for the other's message.
            let _told = file
                .set_len(0)
                .and_then(|()| write!(file, "{}", std::process::id()));
            return Ok(file);
        }
    }
}
