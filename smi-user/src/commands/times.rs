//! Moments that commands wait for.

use std::{future::pending, time::Duration};

use tokio::time::{self, Instant, MissedTickBehavior, interval_at, sleep_until};

/// Ticks from now on, the first after one `period`; of those that were missed, none is made up for.
pub(super) fn every(period: Duration) -> time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Waits until `time`; for ever where there is none.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
