//! The signals that end a command.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches them from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Within a runtime of tokio's.
    pub(super) fn new() -> Result<Self> {
        let new = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: new(SignalKind::interrupt())?,
            terminate: new(SignalKind::terminate())?,
            hangup: new(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
