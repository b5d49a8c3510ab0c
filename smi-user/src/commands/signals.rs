//! The signals that end a command, or have it read its configuration again.

use std::future::pending;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches those that end a command from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Within a runtime of tokio's.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            hangup: Some(caught(SignalKind::hangup())?),
            ..Self::but_hangup()?
        })
    }

    /// As [`Self::new`], where a hang-up is to mean something else.
    pub(super) fn but_hangup() -> Result<Self> {
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: None,
        })
    }

    /// Waits for one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = next(self.hangup.as_mut()) => {}
        }
    }
}

/// Catches hang-ups from now on, if they are wanted.
pub(super) struct Hangups(Option<Signal>);

impl Hangups {
    /// Within a runtime of tokio's.
    pub(super) fn new(wanted: bool) -> Result<Self> {
        let hangup = wanted.then(|| caught(SignalKind::hangup())).transpose()?;
        Ok(Self(hangup))
    }

    /// Waits for one; for ever if none is wanted.
    pub(super) async fn next(&mut self) {
        next(self.0.as_mut()).await;
    }
}

fn caught(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot handle signals")
}

async fn next(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}
