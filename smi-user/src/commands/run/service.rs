//! What a service manager is told (`sd_notify(3)`): nothing where there is none.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::{
    model::{DetectorInfo, Snapshot},
    units::show_ns,
};

/// See the module.
pub(super) struct Service {
    /// Time between signs of life: a quarter of the longest that it bears without one.
    signs: Option<Duration>,
    last_sign: Option<Instant>,
    told_failure: bool,
}

impl Service {
    /// Reads from the environment what is wanted.
    pub(super) fn new() -> Self {
        Self {
            signs: sd_notify::watchdog_enabled().map(|limit| limit / 4),
            last_sign: None,
            told_failure: false,
        }
    }

    /// The detector runs.
    pub(super) fn ready(&mut self, detector: &DetectorInfo) {
        let status = watching(detector);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// An interval ended.
    pub(super) fn interval(&mut self, snapshot: &Snapshot) {
        self.tell(&[NotifyState::Status(&status(snapshot))]);
    }

    /// The counts were fetched just now: the collection is alive.
    pub(super) fn alive(&mut self) {
        let Some(signs) = self.signs else { return };
        if self.last_sign.is_none_or(|last| last.elapsed() >= signs) {
            self.last_sign = Some(Instant::now());
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// The configuration is about to be read again.
    pub(super) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The run is about to end.
    pub(super) fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    fn tell(&mut self, what: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(what)
            && !self.told_failure
        {
            self.told_failure = true;
            log::warn!("the service manager cannot be told anything (NOTIFY_SOCKET): {error}");
        }
    }
}

fn watching(detector: &DetectorInfo) -> String {
    format!(
        "watching CPU {} by {}, threshold {}",
        detector.cpus,
        detector.name,
        show_ns(detector.threshold_ns as f64)
    )
}

fn status(snapshot: &Snapshot) -> String {
    let total = snapshot.total();
    let longest = total.max_ns.map_or_else(String::new, |ns| {
        format!(", longest {}", show_ns(ns as f64))
    });
    format!(
        "{}: {} gaps in {} of exposure{longest}",
        watching(&snapshot.detector),
        total.count,
        show_ns(total.exposure_ns as f64),
    )
}
