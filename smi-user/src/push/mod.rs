//! Pushes snapshots to a receiver of OTLP, on a thread of its own: whatever the receiver does, the collection goes on.
//!
//! Counts are totals since start, so a snapshot that is given up loses no count but the resolution of its time; the next
//! one that arrives makes up for it. How many were given up is counted, told, and pushed.

mod answer;
mod backoff;
mod endpoint;
mod headers;
mod queue;
mod thread;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use endpoint::Connection;
pub use endpoint::{Endpoint, EndpointError};
pub use headers::{Header, Headers};

use crate::{
    kernel::{hostname, release},
    model::Snapshot,
    units::show,
};
use queue::Queue;
use thread::Who;

/// How long the end of a run may wait for the last push.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What is to be pushed where, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where to.
    pub(crate) endpoint: Endpoint,
    /// What tells this smilat from others; the host name where there is none.
    pub(crate) instance: Option<String>,
    /// From one push to the next; the longer of 60 s and `report_interval` where there is none.
    pub(crate) interval: Option<Duration>,
    /// From one snapshot to the next.
    pub(crate) report_interval: Duration,
    /// The limit that gaps are held against.
    pub(crate) hardlimit_ns: Option<u64>,
}

/// What can be changed of pushes at work.
pub(crate) struct Change {
    /// As in [`Plan`].
    pub(crate) interval: Option<Duration>,
    /// What each request has.
    pub(crate) headers: Headers,
}

/// Pushes at work.
pub(crate) struct Push {
    queue: Arc<Queue>,
    connection: Arc<Connection>,
    /// From one push to the next, as asked for.
    interval: Option<Duration>,
    report_interval: Duration,
    ended: oneshot::Receiver<()>,
}

/// From one push to the next, of reports that come every `report_interval`: as `asked`, or the usual.
///
/// # Errors
/// When it makes no sense.
pub(crate) fn interval(asked: Option<Duration>, report_interval: Duration) -> Result<Duration> {
    const USUAL: Duration = Duration::from_mins(1);
    let interval = asked.unwrap_or(USUAL.max(report_interval));
    ensure!(
        interval >= report_interval,
        "--otlp-interval {} is below --interval {}: there is nothing new to push between two reports; lower --interval too",
        show(interval),
        show(report_interval)
    );
    Ok(interval)
}

impl Push {
    /// Makes ready to push what [`Push::publish`] gets. Nothing is sent before that.
    ///
    /// # Errors
    /// When the interval makes no sense, or the thread cannot be started.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let interval = interval(plan.interval, plan.report_interval)?;
        let hostname = hostname::hostname();
        let who = Who {
            instance: plan
                .instance
                .or_else(|| hostname.clone())
                .unwrap_or_else(|| "localhost".to_owned()),
            hostname,
            kernel: release::release(),
            hardlimit_ns: plan.hardlimit_ns,
        };
        let connection = Arc::new(plan.endpoint.connect());
        let queue = Arc::new(Queue::new(interval, plan.report_interval));
        let (done, ended) = oneshot::channel();
        let (its_queue, its_connection) = (Arc::clone(&queue), Arc::clone(&connection));
        std::thread::Builder::new()
            .name("smilat/push".to_owned())
            .spawn(move || {
                thread::push_all(&its_queue, &its_connection, &who);
                // Nobody waits any more when the run was ended by force.
                let _unheard = done.send(());
            })
            .context("cannot start the thread that pushes")?;
        Ok(Self {
            queue,
            connection,
            interval: plan.interval,
            report_interval: plan.report_interval,
            ended,
        })
    }

    /// From now on, reports come every `report_interval`, if another is given, and pushes are made as `change` has it.
    ///
    /// # Errors
    /// As [`interval`]; all goes on as before then.
    pub(crate) fn set(
        &mut self,
        report_interval: Option<Duration>,
        change: Option<Change>,
    ) -> Result<()> {
        let report_interval = report_interval.unwrap_or(self.report_interval);
        let asked = change.as_ref().map_or(self.interval, |to| to.interval);
        let interval = interval(asked, report_interval)?;
        self.queue.set_interval(interval, report_interval);
        (self.interval, self.report_interval) = (asked, report_interval);
        if let Some(change) = change {
            self.connection.set_headers(change.headers);
        }
        Ok(())
    }

    /// Has `snapshot` pushed if its time has come.
    pub(crate) fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.queue.offer(snapshot);
    }

    /// Waits until all is pushed, for a bounded time; then says what was not.
    pub(crate) async fn finish(mut self) {
        let until = Instant::now() + LAST_WAIT;
        self.queue.end(until.into_std());
        // Whether it was in time, or the thread panicked: what has not arrived is told by `Drop`.
        let _in_time = timeout_at(until, &mut self.ended).await;
    }

    /// Waits no longer, and says what did not arrive.
    fn tell_losses(&self) {
        let end = self.queue.abandon();
        let (lost, sent) = (end.counts.lost, end.counts.sent);
        if lost > 0 {
            let newest = if end.newest_missing {
                "the last is among them, so the totals there end before this run did"
            } else {
                "the totals there are complete, only the resolution of that time is lost"
            };
            log::warn!(
                "{lost} of {} snapshots did not get to {}: {newest}",
                lost + sent,
                self.connection.url()
            );
        }
        if end.counts.rejected_points > 0 {
            log::warn!(
                "{} rejected {} data points of those it took",
                self.connection.url(),
                end.counts.rejected_points
            );
        }
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.tell_losses();
    }
}
