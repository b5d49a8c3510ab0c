//! Records on a thread of its own, so that a slow or full disk delays nothing else.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Claim, Rotation, writer::Writer};
use crate::{
    model::Header,
    units::ns,
    waiting::{Queue, Sent, Waiting, queue},
};

/// A recording under way.
pub(crate) struct Recorder {
    queue: Queue<Message>,
    done: oneshot::Receiver<Outcome>,
    tidied: oneshot::Receiver<()>,
    losses: Arc<Losses>,
    path: PathBuf,
    interval_ns: u64,
    /// Snapshots handed over or not.
    all: u64,
    /// Those for which too many waited.
    left_out: u64,
    /// Those since there was room for the last time.
    in_a_row: u64,
}

/// A snapshot to be recorded.
struct Message {
    line: Bytes,
    /// Time to the next one.
    interval_ns: u64,
    /// Its single gaps, if nobody else is told of them.
    only_here: u64,
}

/// What could not be written so far.
#[derive(Default)]
struct Losses {
    /// Snapshots.
    lost: AtomicU64,
    /// Snapshots of which it is not sure that they are on the disk.
    unsure: AtomicU64,
    /// Single gaps of lost snapshots that nobody else was told of, since they were asked for.
    gaps: AtomicU64,
}

/// How writing ended.
struct Outcome {
    /// Why the last snapshot that was lost was.
    why: Option<io::Error>,
    /// Whether all that was written is on the disk.
    synced: io::Result<()>,
}

impl Recorder {
    /// Begins a run in the file of `claim`.
    ///
    /// # Errors
    /// When its header cannot be written.
    pub(crate) fn begin(claim: Claim, rotation: Rotation, header: Header) -> Result<Self> {
        let interval_ns = header.interval_ns;
        let mut writer = Writer::begin(claim, rotation, header)?;
        let path = writer.path().to_owned();
        let (queue, mut waiting) = queue();
        let (told, done) = oneshot::channel();
        let (tidy, tidied) = oneshot::channel();
        let losses = Arc::new(Losses::default());
        let its_losses = Arc::clone(&losses);
        thread::Builder::new()
            .name("smilat/record".to_owned())
            .spawn(move || {
                let why = write(&mut writer, &mut waiting, &its_losses);
                let synced = writer.sync_all();
                its_losses.unsure.store(writer.unsure(), Ordering::Relaxed);
                // Nobody waits for either any more when the run was ended by force.
                let _unheard = told.send(Outcome { why, synced });
                writer.end();
                let _unheard = tidy.send(());
            })
            .context("cannot start the thread that records")?;
        Ok(Self {
            queue,
            done,
            tidied,
            losses,
            path,
            interval_ns,
            all: 0,
            left_out: 0,
            in_a_row: 0,
        })
    }

    /// Has the recording say that snapshots come at this interval from the next on.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval_ns = ns(interval);
    }

    /// Hands over a snapshot's line; false when too many wait already and this one is lost. `only_here`: its single gaps,
    /// if nobody else is told of them.
    pub(crate) fn send(&mut self, line: Bytes, only_here: u64) -> bool {
        self.all += 1;
        let bytes = line.len();
        let message = Message {
            line,
            interval_ns: self.interval_ns,
            only_here,
        };
        let name = self.path.display();
        if self.queue.send(message, bytes) == Sent::Taken {
            if self.in_a_row > 0 && self.queue.is_at_ease() {
                log::warn!(
                    "the disk of {name} keeps up again; {} snapshots are missing there",
                    self.in_a_row
                );
                self.in_a_row = 0;
            }
            return true;
        }
        self.left_out += 1;
        self.in_a_row += 1;
        self.losses.lost.fetch_add(1, Ordering::Relaxed);
        if self.in_a_row == 1 {
            log::warn!(
                "the disk of {name} does not keep up: some snapshots are not recorded, {} so far",
                self.left_out
            );
        }
        false
    }

    /// Snapshots that are missing in the recording so far, or not surely on its disk.
    pub(crate) fn lost(&self) -> u64 {
        self.losses.lost.load(Ordering::Relaxed) + self.losses.unsure.load(Ordering::Relaxed)
    }

    /// Single gaps that were taken and lost nevertheless since the last call, of those that nobody else is told of.
    pub(crate) fn gaps_lost(&self) -> u64 {
        self.losses.gaps.swap(0, Ordering::Relaxed)
    }

    /// Hands over the last snapshot's line, however long the disk takes, and waits until all is written. What is left to
    /// wait for, for a few seconds at most, is that a full file is compressed; nothing is lost without that.
    ///
    /// # Errors
    /// When not all of the run is in the recording.
    pub(crate) async fn finish(
        self,
        last: Option<Bytes>,
    ) -> (Result<()>, impl Future<Output = ()>) {
        let Self {
            queue,
            done,
            tidied,
            losses,
            path,
            interval_ns,
            mut all,
            left_out,
            ..
        } = self;
        if let Some(line) = last {
            all += 1;
            // Refused only when the thread has ended, which it does not before.
            let message = Message {
                line,
                interval_ns,
                only_here: 0,
            };
            queue.send_last(message).await;
        } else {
            drop(queue);
        }
        let outcome = done.await.context("the thread that records panicked");
        let whole = outcome.and_then(|outcome| {
            let name = path.display();
            let lost = losses.lost.load(Ordering::Relaxed);
            if lost > 0 {
                let why = match outcome.why {
                    Some(error) if left_out == 0 => error.to_string(),
                    Some(error) => format!("{error}; for {left_out} of them the disk was too slow"),
                    None => "the disk was too slow".to_owned(),
                };
                bail!("{lost} of {all} snapshots are missing in {name}: {why}");
            }
            let unsure = losses.unsure.load(Ordering::Relaxed);
            outcome.synced.with_context(|| {
                format!("{unsure} of {all} snapshots in {name} may not be on the disk")
            })
        });
        (whole, async {
            // It ends, or has panicked, which took nothing from the recording.
            let _ended = tidied.await;
        })
    }
}

/// Writes all that comes; returns why the last that was lost was.
fn write(writer: &mut Writer, lines: &mut Waiting<Message>, losses: &Losses) -> Option<io::Error> {
    let mut why = None;
    // Those lost since it was last possible to write.
    let mut in_a_row = 0;
    while let Some(message) = lines.next() {
        match writer.append(&message.line, message.interval_ns) {
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
                losses.lost.fetch_add(1, Ordering::Relaxed);
                losses.gaps.fetch_add(message.only_here, Ordering::Relaxed);
                why = Some(error);
            }
        }
        losses.unsure.store(writer.unsure(), Ordering::Relaxed);
    }
    why
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;
    use crate::{made_up, recording::samples};

    fn wait_until(done: impl Fn() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(20), "in vain");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[tokio::test]
    async fn what_is_lost_is_known_at_once_and_told_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gaps.ndjson");
        let rotation = Rotation {
            size: 1 << 20,
            keep: 1,
        };
        let claim = Claim::take(&path).expect("free");
        let mut recorder = Recorder::begin(claim, rotation, made_up::header()).expect("begun");
        let line = |interval| Bytes::from(samples::line(interval));
        let len = || fs::metadata(&path).map_or(0, |file| file.len());
        let before = len();
        assert!(recorder.send(line(1), 7));
        wait_until(|| len() > before);
        assert_eq!((recorder.lost(), recorder.gaps_lost()), (0, 0));
        // Somebody puts another file there, which is not written to.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "precious").expect("written");
        assert!(recorder.send(line(2), 5));
        assert!(recorder.send(line(3), 0));
        wait_until(|| recorder.lost() == 2);
        assert_eq!(recorder.gaps_lost(), 5);
        assert_eq!(recorder.gaps_lost(), 0);
        fs::remove_file(&path).expect("removed");
        assert!(recorder.send(line(4), 5));
        let (whole, tidied) = recorder.finish(Some(line(5))).await;
        tidied.await;
        let told = whole.expect_err("some are missing").to_string();
        assert!(
            told.starts_with("2 of 5 snapshots are missing in "),
            "{told}"
        );
        let left = fs::read(&path).expect("read");
        let own = |interval| String::from_utf8(samples::line(interval)).expect("UTF-8");
        assert!(
            String::from_utf8(left)
                .expect("UTF-8")
                .ends_with(&(own(4) + &own(5)))
        );
    }
}
