//! A line on the terminal that says how far a run is, where nothing else would for a while.

use std::{
    io::{self, IsTerminal as _, Write as _},
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
            Some(duration) => write(&format!("{elapsed} of {} s", duration.as_secs())),
            None => write(&format!("{elapsed} s, Ctrl-C ends")),
        }
    }

    pub(super) fn clear(&mut self) {
        if self.shown_s.take().is_some() {
            write("");
        }
    }
}

/// Puts `text` in the place of what stands in the line. A terminal that was closed takes nothing, which is no reason to
/// panic, as `eprint!` would: what was found is yet to be written elsewhere.
fn write(text: &str) {
    let _gone = write!(io::stderr(), "\r\x1b[K{text}");
}
