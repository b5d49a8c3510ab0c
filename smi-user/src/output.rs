//! Writes reports on a thread of its own, so that a slow reader delays neither detection nor Ctrl-C.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    thread,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Reports that may wait for a slow reader; further ones are left out.
const WAITING: usize = 64;

/// Where reports go.
pub(crate) struct Output {
    queue: mpsc::Sender<Bytes>,
    written: oneshot::Receiver<io::Result<()>>,
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
    /// Opens `file`, or standard output.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self> {
        let (name, target): (String, Box<dyn Write + Send>) = match file {
            None => ("standard output".to_owned(), Box::new(io::stdout())),
            Some(path) => (
                path.display().to_string(),
                Box::new(
                    File::create(path)
                        .with_context(|| format!("cannot write to {}", path.display()))?,
                ),
            ),
        };
        let (queue, reports) = mpsc::channel(WAITING);
        let (done, written) = oneshot::channel();
        thread::Builder::new()
            .name("smilat/report".to_owned())
            .spawn(move || {
                // Nobody waits for the outcome any more when the run was ended by force.
                let _unheard = done.send(write_all(target, reports));
            })
            .context("cannot start the thread that writes reports")?;
        Ok(Self {
            queue,
            written,
            name,
        })
    }

    /// Hands over a report; false when too many wait already and this one is left out.
    pub(crate) fn send(&self, report: Bytes) -> bool {
        report.is_empty()
            || !matches!(
                self.queue.try_send(report),
                Err(mpsc::error::TrySendError::Full(_))
            )
    }

    /// Returns once nothing can be written any more: the reader went away, or writing failed.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Hands over the last report, however long the reader takes, and waits until all is written.
    pub(crate) async fn finish(self, report: Bytes) -> Result<Ended> {
        let Self {
            queue,
            written,
            name,
        } = self;
        // Refused only when writing has ended already; `written` says why.
        let _refused = queue.send(report).await;
        drop(queue);
        // Not by joining the thread: a reader that takes nothing would keep it, and with it this process, for ever.
        match written
            .await
            .context("the thread that writes reports panicked")?
        {
            Ok(()) => Ok(Ended::Written),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Ended::ReaderGone),
            Err(error) => Err(error).with_context(|| format!("cannot write to {name}")),
        }
    }
}

fn write_all(mut target: impl Write, mut reports: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(report) = reports.blocking_recv() {
        target.write_all(&report)?;
        target.flush()?;
    }
    Ok(())
}
