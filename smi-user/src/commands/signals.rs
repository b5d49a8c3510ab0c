//! The signals that end a command, or have it read its configuration again.

use std::future::pending;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::kernel::hangup;

/// Catches those that end a command from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Within a runtime of tokio's. Hang-ups that were ignored from the start on (`nohup`) end nothing.
    pub(super) fn new() -> Result<Self> {
        let hangup = (!hangup::is_ignored())
            .then(|| caught(SignalKind::hangup()))
            .transpose()?;
        Ok(Self {
            hangup,
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

/// What a hang-up says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// Read the configuration again.
    Reload,
    /// The terminal that this was started in was closed: nobody is there any more to end it by Ctrl-C.
    TerminalGone,
}

/// Catches hang-ups from now on, if they are wanted.
pub(super) struct Hangups {
    signal: Option<Signal>,
    /// Whether there is one that could be closed, and that is to mean something.
    terminal: bool,
}

impl Hangups {
    /// Within a runtime of tokio's.
    pub(super) fn new(wanted: bool) -> Result<Self> {
        let terminal = !hangup::is_ignored() && hangup::has_terminal();
        let signal = wanted.then(|| caught(SignalKind::hangup())).transpose()?;
        Ok(Self { signal, terminal })
    }

    /// Waits for one; for ever if none is wanted.
    pub(super) async fn next(&mut self) -> Hangup {
        next(self.signal.as_mut()).await;
        if self.terminal && !hangup::has_terminal() {
            Hangup::TerminalGone
        } else {
            Hangup::Reload
        }
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
