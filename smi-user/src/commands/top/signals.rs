//! The signals that end the view, and those by which a shell stops and continues it.

use std::{future::poll_fn, task::Poll};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::screen::Screen;
use crate::kernel::terminal::release_signals;

/// Those that end a program that does not care, and by which people, shells and services have one end. Those that tell of
/// its own faults or limits are not among them.
const ENDS: [i32; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// The signals that end the view, caught until this is dropped: then they end the program.
pub(in crate::commands) struct Ends(Vec<Signal>);

impl Ends {
    /// Catches them from now on.
    pub(in crate::commands) fn new() -> Result<Self> {
        ENDS.into_iter()
            .map(caught)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Waits for one.
    pub(in crate::commands) async fn next(&mut self) {
        poll_fn(|context| {
            let mut came = self.0.iter_mut().map(|of| of.poll_recv(context).is_ready());
            if came.any(|came| came) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // What is told last may go to a terminal that takes nothing.
        release_signals(&ENDS);
    }
}

/// The signals by which a shell stops and continues a command.
pub(in crate::commands) struct JobControl {
    stop: Signal,
    go_on: Signal,
}

impl JobControl {
    /// Catches them from now on.
    pub(in crate::commands) fn new() -> Result<Self> {
        Ok(Self {
            stop: caught(libc::SIGTSTP)?,
            go_on: caught(libc::SIGCONT)?,
        })
    }

    /// Waits for one and passes it on to `screen`.
    pub(in crate::commands) async fn next(&mut self) -> fn(&Screen) {
        tokio::select! {
            _ = self.stop.recv() => Screen::suspend,
            _ = self.go_on.recv() => Screen::again,
        }
    }
}

fn caught(number: i32) -> Result<Signal> {
    signal(SignalKind::from_raw(number)).context("cannot handle signals")
}
