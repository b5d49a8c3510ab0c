//! Takes hold of a file to record to, without changing it yet.

use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Reader, RecordingError, own, parts};

/// A file that this process alone records to, until this is dropped.
pub(crate) struct Claim {
    path: PathBuf,
    lock: PathBuf,
    held: File,
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Ok(to) = path.read_link() {
                    bail!(
                        "cannot record to {}: it is a link to {}, which is not there; give --record the file itself, or \
                         remove the link",
                        path.display(),
                        to.display()
                    );
                }
                path.to_owned()
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot record to {}", path.display()));
            }
        };
        check(&path)?;
        let name = path.display();
        ensure!(
            path.file_name().is_some(),
            "cannot record to \"{name}\": it is no name of a file"
        );
        // They would be moved and replaced.
        for beside in [parts::plain(&path), parts::unfinished(&path)] {
            if own::is_foreign(&beside).with_context(|| format!("cannot record to {name}"))? {
                bail!("cannot record to {name}: {}", own::foreign(&beside));
            }
        }
        let lock = parts::lock(&path);
        let held = hold(&lock, &path)?;
        let claim = Self { path, lock, held };
        // Without it, neither can files be put aside nor reports into one of them be refused.
        parts::numbers(&claim.path).with_context(|| {
            format!(
                "cannot record to {}: its folder cannot be listed, and files are put aside in it; allow that, or give \
                 --record a file in another folder",
                claim.path.display()
            )
        })?;
        Ok(claim)
    }

    /// Whether `file` is one that is recorded to or put aside, or would be if it were made.
    pub(crate) fn includes(&self, file: &Path) -> bool {
        own::includes(&self.path, file)
    }

    /// Whether an open file, of which this is known, is one of them.
    pub(crate) fn is_one(&self, found: &Metadata) -> bool {
        own::is_one_of(&self.path, found)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Held to the end, so it is this process's, unless somebody put another in its place. One that stays, after a
        // kill, is taken over by the next.
        if is_at(&self.held, &self.lock) {
            let _removed = std::fs::remove_file(&self.lock);
        }
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

/// Whether `path` leads to `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (path.symlink_metadata(), file.metadata()) {
        (Ok(named), Ok(own)) => (named.dev(), named.ino()) == (own.dev(), own.ino()),
        _ => false,
    }
}

/// Holds the lock of `path`.
fn hold(lock: &Path, path: &Path) -> Result<File> {
    let failed = || format!("cannot record to {}", path.display());
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Whatever has this name: no link is followed, and no pipe waited for.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(lock)
            .with_context(|| {
                format!(
                    "cannot make {}, and a recording needs a folder to put files aside in",
                    lock.display()
                )
            })
            .with_context(failed)?;
        let Some(holder) = holder(&file).with_context(failed)? else {
            bail!(
                "{}: {} is needed as a lock, but is no lock of smilat's, and is left as it is; move it away",
                failed(),
                lock.display()
            );
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = if holder.is_empty() {
                    "another smilat".to_owned()
                } else {
                    format!("process {holder}")
                };
                bail!(
                    "{}: {holder} is recording to it (and holds {}); end that one, or give --record another file",
                    failed(),
                    lock.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                if holder.is_empty() {
                    // Made just now.
                    let _removed = std::fs::remove_file(lock);
                }
                return Err(error)
                    .with_context(|| {
                        format!(
                            "cannot lock {}; where the file system has no locks (flock), give --record a file on another one",
                            lock.display()
                        )
                    })
                    .with_context(failed);
            }
        }
        // Its holder may have removed it between the two calls, and then another may be made and held.
        if is_at(&file, lock) {
            // Only for the other's message.
            let _told = file
                .set_len(0)
                .and_then(|()| file.write_all_at(std::process::id().to_string().as_bytes(), 0));
            return Ok(file);
        }
    }
}

/// The process that a lock names, empty where it names none yet; `None` if the file is no lock of smilat's.
fn holder(file: &File) -> io::Result<Option<String>> {
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    // More digits than any process's number has.
    let mut text = [0; 16];
    let read = file.read_at(&mut text, 0)?;
    let text = &text[..read];
    Ok((read < 16 && text.iter().all(u8::is_ascii_digit))
        .then(|| String::from_utf8_lossy(text).into_owned()))
}
