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

/// Pushes at work.
pub(crate) struct Push {
    queue: Arc<Queue>,
    ended: oneshot::Receiver<()>,
    url: String,
}

impl Push {
    /// Makes ready to push what [`Push::publish`] gets. Nothing is sent before that.
    ///
    /// # Errors
    /// When the interval makes no sense, or the thread cannot be started.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        const USUAL: Duration = Duration::from_mins(1);
        let interval = plan.interval.unwrap_or(USUAL.max(plan.report_interval));
        ensure!(
            interval >= plan.report_interval,
            "--otlp-interval {} is below --interval {}: there is nothing new to push between two reports; lower --interval too",
            show(interval),
            show(plan.report_interval)
        );
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
        let url = plan.endpoint.to_string();
        let connection = plan.endpoint.connect();
        let queue = Arc::new(Queue::new(interval, plan.report_interval));
        let (done, ended) = oneshot::channel();
        let its_queue = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("smilat/push".to_owned())
            .spawn(move || {
                thread::push_all(&its_queue, &connection, &who);
                // Nobody waits any more when the run was ended by force.
                let _unheard = done.send(());
            })
            .context("cannot start the thread that pushes")?;
        Ok(Self { queue, ended, url })
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
                self.url
            );
        }
        if end.counts.rejected_points > 0 {
            log::warn!(
                "{} rejected {} data points of those it took",
                self.url,
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
