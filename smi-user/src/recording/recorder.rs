//! Records on a thread of its own, so that a slow or full disk delays nothing else.

use std::{io, path::PathBuf, thread};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Claim, Rotation, writer::Writer};
use crate::model::Header;

/// Snapshots that may wait for a slow disk; further ones are lost.
const WAITING: usize = 64;

/// A recording under way.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Bytes>,
    done: oneshot::Receiver<Losses>,
    path: PathBuf,
    /// Snapshots handed over or not.
    all: u64,
    /// Those for which too many waited.
    left_out: u64,
}

impl Recorder {
    /// Begins a run in the file of `claim`.
    ///
    /// # Errors
    /// When its header cannot be written.
    pub(crate) fn begin(claim: Claim, rotation: Rotation, header: Header) -> Result<Self> {
        let writer = Writer::begin(claim, rotation, header)?;
        let path = writer.path().to_owned();
        let (queue, lines) = mpsc::channel(WAITING);
        let (told, done) = oneshot::channel();
        thread::Builder::new()
            .name("smilat/record".to_owned())
            .spawn(move || {
                let losses = write(writer, lines);
                // Nobody waits for the outcome any more when the run was ended by force.
                let _unheard = told.send(losses);
            })
            .context("cannot start the thread that records")?;
        Ok(Self {
            queue,
            done,
            path,
            all: 0,
            left_out: 0,
        })
    }

    /// Hands over a snapshot's line; false when too many wait already and this one is lost.
    pub(crate) fn send(&mut self, line: Bytes) -> bool {
        self.all += 1;
        let taken = self.queue.try_send(line).is_ok();
        if !taken {
            self.left_out += 1;
            if self.left_out == 1 {
                log::warn!(
                    "the disk of {} does not keep up: some snapshots are not recorded",
                    self.path.display()
                );
            }
        }
        taken
    }

    /// Hands over the last snapshot's line, however long the disk takes, and waits until all is written.
    ///
    /// # Errors
    /// When not all of the run is in the recording.
    pub(crate) async fn finish(self, last: Bytes) -> Result<()> {
        let Self {
            queue,
            done,
            path,
            all,
            left_out,
        } = self;
        // Refused only when the thread has ended, which it does not before.
        let _refused = queue.send(last).await;
        drop(queue);
        let losses = done.await.context("the thread that records panicked")?;
        let name = path.display();
        let lost = losses.lost + left_out;
        if lost > 0 {
            let why = match losses.why {
                Some(error) if left_out == 0 => error.to_string(),
                Some(error) => format!("{error}; for {left_out} of them the disk was too slow"),
                None => "the disk was too slow".to_owned(),
            };
            bail!(
                "{lost} of {} snapshots are missing in {name}: {why}",
                all + 1
            );
        }
        losses
            .sync
            .with_context(|| format!("{name} may not be on the disk as a whole"))
    }
}

/// What could not be written.
struct Losses {
    lost: u64,
    /// Why the last was lost.
    why: Option<io::Error>,
    /// Whether all is on the disk.
    sync: io::Result<()>,
}

fn write(mut writer: Writer, mut lines: mpsc::Receiver<Bytes>) -> Losses {
    let mut losses = Losses {
        lost: 0,
        why: None,
        sync: Ok(()),
    };
    // Those lost since it was last possible to write.
    let mut in_a_row = 0;
    while let Some(line) = lines.blocking_recv() {
        match writer.append(&line) {
            Ok(()) if in_a_row > 0 => {
                log::warn!(
                    "{} can be written again; {in_a_row} snapshots are missing in it",
                    writer.path().display()
                );
                in_a_row = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if in_a_row == 0 {
                    log::warn!(
                        "cannot record to {}: {error}; the collection goes on, and each further snapshot is tried",
                        writer.path().display()
                    );
                }
                in_a_row += 1;
                losses.lost += 1;
                losses.why = Some(error);
            }
        }
    }
    losses.sync = writer.finish();
    losses
}
