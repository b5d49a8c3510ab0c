//! Writes reports on a thread of its own, so that a slow reader delays neither detection nor Ctrl-C.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::waiting::{Queue, Sent, Waiting, queue};

/// Where reports are to go: it can be written to, and holds what it did.
pub(crate) struct Target {
    name: String,
    /// `None` for standard output.
    file: Option<File>,
    /// Made here, and removed again if nothing comes of it.
    made: Option<PathBuf>,
}

impl Target {
    /// Opens `file`, which is made if need be, or standard output.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub(crate) fn reach(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else {
            return Ok(Self {
                name: "standard output".to_owned(),
                file: None,
                made: None,
            });
        };
        let mut options = OpenOptions::new();
        options.write(true);
        let (file, made) = match options.clone().create_new(true).open(path) {
            Ok(file) => (Ok(file), Some(path.to_owned())),
            // There already, if only as a link to what is not.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.create(true).truncate(false).open(path), None)
            }
            Err(error) => (Err(error), None),
        };
        let name = path.display().to_string();
        Ok(Self {
            file: Some(file.with_context(|| format!("cannot write to {name}"))?),
            name,
            made,
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Empty, for nothing was written.
            let _removed = std::fs::remove_file(path);
        }
    }
}

/// Where reports go.
pub(crate) struct Output {
    queue: Queue<Bytes>,
    written: oneshot::Receiver<io::Result<()>>,
    /// How writing ended, once it has before the run did.
    ended: Option<Result<Ended>>,
    name: String,
}

/// How writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All was written.
    Written,
    /// The reader went away; nobody misses the rest.
    ReaderGone,
}

impl Output {
    /// Empties `target`, and writes to it from now on.
    ///
    /// # Errors
    /// When it cannot be emptied.
    pub(crate) fn begin(mut target: Target) -> Result<Self> {
        let name = mem::take(&mut target.name);
        let to: Box<dyn Write + Send> = match target.file.take() {
            None => Box::new(io::stdout()),
            Some(file) => {
                // Pipes and devices have nothing to be emptied of.
                file.metadata()
                    .and_then(|found| {
                        if found.is_file() {
                            file.set_len(0)
                        } else {
                            Ok(())
                        }
                    })
                    .with_context(|| format!("cannot write to {name}"))?;
                Box::new(file)
            }
        };
        let (queue, reports) = queue();
        let (done, written) = oneshot::channel();
        thread::Builder::new()
            .name("smilat/report".to_owned())
            .spawn(move || {
                // Nobody waits for the outcome any more when the run was ended by force.
                let _unheard = done.send(write_all(to, reports));
            })
            .context("cannot start the thread that writes reports")?;
        target.made = None;
        Ok(Self {
            queue,
            written,
            ended: None,
            name,
        })
    }

    /// What is written to, for people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Hands over a report, unless it is empty.
    pub(crate) fn send(&self, report: Bytes) -> Sent {
        let bytes = report.len();
        if bytes == 0 {
            return Sent::Taken;
        }
        self.queue.send(report, bytes)
    }

    /// Returns once nothing can be written any more: the reader went away, or writing failed.
    pub(crate) async fn ended(&mut self) {
        if self.ended.is_none() {
            let written = (&mut self.written).await;
            self.ended = Some(outcome(written, &self.name));
        }
    }

    /// How writing ended, if it has.
    pub(crate) fn outcome(self) -> Option<Result<Ended>> {
        self.ended
    }

    /// Hands over the last report, however long the reader takes, and waits until all is written.
    pub(crate) async fn finish(self, report: Bytes) -> Result<Ended> {
        let Self {
            queue,
            written,
            ended,
            name,
        } = self;
        if let Some(ended) = ended {
            return ended;
        }
        queue.send_last(report).await;
        // Not by joining the thread: a reader that takes nothing would keep it, and with it this process, for ever.
        outcome(written.await, &name)
    }
}

fn outcome(
    written: Result<io::Result<()>, oneshot::error::RecvError>,
    name: &str,
) -> Result<Ended> {
    match written.context("the thread that writes reports panicked")? {
        Ok(()) => Ok(Ended::Written),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Ended::ReaderGone),
        Err(error) => Err(error).with_context(|| format!("cannot write to {name}")),
    }
}

fn write_all(mut target: impl Write, mut reports: Waiting<Bytes>) -> io::Result<()> {
    while let Some(report) = reports.next() {
        target.write_all(&report)?;
        target.flush()?;
    }
    Ok(())
}
