//! A line on the terminal that says how far a run is, where nothing else would for a while.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use tokio::time::Instant;

use crate::cli::RunArgs;

/// See the module.
pub(super) struct Progress {
    enabled: bool,
    began: Instant,
    duration: Option<Duration>,
    shown_s: Option<u64>,
}

impl Progress {
    pub(super) fn new(args: &RunArgs, began: Instant) -> Self {
        Self {
            enabled: !args.quiet
                && args.interval > Duration::from_secs(2)
                && io::stderr().is_terminal(),
            began,
            duration: args.duration,
            shown_s: None,
        }
    }

    pub(super) fn show(&mut self) {
        let elapsed = self.began.elapsed().as_secs();
        if !self.enabled || self.shown_s == Some(elapsed) {
            return;
        }
        self.shown_s = Some(elapsed);
        match self.duration {
            Some(duration) => eprint!("\r\x1b[K{elapsed} of {} s", duration.as_secs()),
            None => eprint!("\r\x1b[K{elapsed} s, Ctrl-C ends"),
        }
    }

    pub(super) fn clear(&mut self) {
        if self.shown_s.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
