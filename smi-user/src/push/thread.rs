//! The thread that pushes: one snapshot after the other, each until it is taken, refused or given up.

use std::time::{Duration, Instant};

use super::{
    answer::Answer,
    backoff::Backoff,
    endpoint::Connection,
    queue::{Job, Pause, Queue, WAITING},
};
use crate::report::otlp::{self, PushCounts, Sender};

/// How long a receiver may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who pushes; the rest of [`Sender`] is known with the first snapshot.
pub(super) struct Who {
    pub(super) instance: String,
    pub(super) hostname: Option<String>,
    pub(super) kernel: String,
    pub(super) hardlimit_ns: Option<u64>,
}

impl Who {
    /// `job` is the first of the run.
    fn from(&self, job: &Job) -> Sender {
        let elapsed = Duration::from_nanos(job.snapshot.elapsed_ns);
        let started = job.snapshot.time.checked_sub(elapsed);
        Sender {
            instance: self.instance.clone(),
            hostname: self.hostname.clone(),
            kernel: self.kernel.clone(),
            hardlimit_ns: self.hardlimit_ns,
            // Only a clock that is thousands of years off has no such time.
            started: started.unwrap_or(job.snapshot.time),
        }
    }
}

/// What is told of failures: when they begin and when they are over, not each.
struct Outage<'a> {
    connection: &'a Connection,
    lost_before: Option<u64>,
}

impl Outage<'_> {
    fn failed(&mut self, why: &str, then: &str, counts: PushCounts) {
        if self.lost_before.is_none() {
            self.lost_before = Some(counts.lost);
            log::warn!("cannot push to {}: {why}; {then}", self.connection.url());
        } else {
            log::debug!("cannot push to {}: {why}", self.connection.url());
        }
    }

    fn over(&mut self, counts: PushCounts) {
        if let Some(before) = self.lost_before.take() {
            let lost = match counts.lost - before {
                0 => "nothing was".to_owned(),
                1 => "1 snapshot was".to_owned(),
                more => format!("{more} snapshots were"),
            };
            let url = self.connection.url();
            log::warn!("pushing to {url} works again; {lost} given up meanwhile");
        }
    }
}

/// Pushes what `queue` has until its end.
pub(super) fn push_all(queue: &Queue, connection: &Connection, who: &Who) {
    let mut sender: Option<Sender> = None;
    let mut encoded: Option<(u64, Vec<u8>)> = None;
    let mut backoff = Backoff::default();
    let mut pause: Option<Pause> = None;
    let mut outage = Outage {
        connection,
        lost_before: None,
    };
    let mut told_rejection = false;
    while let Some((job, counts)) = queue.next(pause.take()) {
        let sender = sender.get_or_insert_with(|| who.from(&job));
        // Once for all attempts, so that a receiver that did take the first sees the same points again.
        let body = match encoded.take() {
            Some((number, body)) if number == job.number => body,
            _ => otlp::request(sender, &job.snapshot, &job.interval_max_ns, counts),
        };
        let answer = connection.send(&body, queue.patience(PATIENCE));
        encoded = Some((job.number, body));
        match answer {
            Answer::Taken { rejected, message } => {
                queue.delivered(&job, rejected);
                backoff.reset();
                outage.over(queue.counts());
                if (rejected > 0 || !message.is_empty()) && !told_rejection {
                    told_rejection = true;
                    log::warn!(
                        "{} took a snapshot but rejected {rejected} of its data points: {}; further ones are counted \
                         and not told",
                        connection.url(),
                        if message.is_empty() {
                            "it does not say why"
                        } else {
                            &message
                        }
                    );
                }
            }
            Answer::TryAgain { why, after } => {
                queue.retry();
                let then = format!(
                    "trying again, while up to {WAITING} snapshots wait; the collection goes on"
                );
                outage.failed(&why, &then, queue.counts());
                let from = Instant::now();
                pause = Some(Pause {
                    from,
                    until: from + after.unwrap_or_else(|| backoff.next()),
                    asked: after.is_some(),
                });
            }
            Answer::Refused { why } => {
                let before = queue.counts();
                queue.refused(&job);
                let then = "this snapshot is given up, and the next one is tried in its turn; the collection goes on";
                outage.failed(&why, then, before);
            }
        }
    }
}
