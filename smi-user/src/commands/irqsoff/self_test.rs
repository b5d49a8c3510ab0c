//! A stretch that is made on purpose, and whether it was noticed.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use tokio::time::Instant;

use crate::{irqsoff::Watching, model::irqsoff::Event, units::show};

/// Exit status when it was not noticed as it should have been.
const UNNOTICED: u8 = 1;

/// How long it may take to be noticed.
const PATIENCE: Duration = Duration::from_secs(5);

/// One that was made.
pub(super) struct SelfTest {
    cpu: u32,
    made_ns: u64,
    over: Instant,
}

impl SelfTest {
    /// Makes one, on that CPU and of that length.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn make((cpu, length): (u32, Duration), watching: &mut Watching) -> Result<Self> {
        let made_ns = watching.self_test(cpu, length)?;
        Ok(Self {
            cpu,
            made_ns,
            over: Instant::now(),
        })
    }

    /// Whether it should have been noticed by now.
    pub(super) fn is_overdue(&self) -> bool {
        self.over.elapsed() > PATIENCE
    }

    /// Whether the self-test was noticed as it should have been; says so.
    pub(super) fn judge(&self, noticed: Option<&Event>, tick: Duration) -> ExitCode {
        let made = Duration::from_nanos(self.made_ns);
        let Some(event) = noticed else {
            log::error!(
                "self-test failed: interrupts were off on CPU {} for {}, and that was not noticed",
                self.cpu,
                show(made)
            );
            return ExitCode::from(UNNOTICED);
        };
        let right =
            event.cpu == self.cpu && Duration::from_nanos(event.least_ns).abs_diff(made) <= tick;
        if right {
            log::info!(
                "self-test passed: interrupts were off on CPU {} for {}, and that was noticed as at least {}",
                self.cpu,
                show(made),
                show(Duration::from_nanos(event.least_ns))
            );
            return ExitCode::SUCCESS;
        }
        log::error!(
            "self-test failed: interrupts were off on CPU {} for {}, and what was noticed is at least {} on CPU {}",
            self.cpu,
            show(made),
            show(Duration::from_nanos(event.least_ns)),
            event.cpu
        );
        ExitCode::from(UNNOTICED)
    }
}
