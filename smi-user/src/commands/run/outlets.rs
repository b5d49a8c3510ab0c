//! Where a run's snapshots go. None of the ways out holds up another, nor the collection.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
};

use anyhow::{Result, anyhow};
use jiff::tz::TimeZone;

use super::{exports::Exports, recording};
use crate::{
    cli::{Format, RunArgs},
    model::Snapshot,
    output::{Ended, Output},
    recording::{Claim, Recorder},
    report::{Ndjson, Report, Text},
    units::ns,
};

/// See the module.
pub(super) struct Outlets {
    exports: Exports,
    recorder: Option<Recorder>,
    report: Box<dyn Report>,
    output: Output,
    left_out: u64,
}

impl Outlets {
    /// Opens all that `args` ask for, and says what is about to be done.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(super) fn open(
        args: &RunArgs,
        exports: Exports,
        recording: Option<Claim>,
        plan: &str,
    ) -> Result<Self> {
        let mut report = report(args);
        let output = Output::open(args.output.as_deref())?;
        let recorder = recording
            .map(|claim| recording::begin(args, claim))
            .transpose()?;
        if !plan_on_terminal(args) {
            output.send(report.plan(plan));
        }
        Ok(Self {
            exports,
            recorder,
            report,
            output,
            left_out: 0,
        })
    }

    /// Passes on the interval that ended with `snapshot`; false when its single gaps were neither reported nor recorded.
    pub(super) fn interval(&mut self, snapshot: &Arc<Snapshot>) -> bool {
        self.exports.publish(snapshot);
        let recorded = self
            .recorder
            .as_mut()
            .is_some_and(|recorder| recorder.send(Ndjson::line(snapshot)));
        let taken = self.output.send(self.report.interval(snapshot));
        if !taken {
            self.left_out += 1;
            if self.left_out == 1 {
                log::warn!(
                    "the reader of the reports does not keep up: some intervals are left out"
                );
            }
        }
        taken || recorded
    }

    /// Those who take the newest snapshot when they want it.
    pub(super) fn exports(&mut self) -> &mut Exports {
        &mut self.exports
    }

    /// Returns once the reports cannot be written any more: the reader went away, or writing failed.
    pub(super) async fn closed(&self) {
        self.output.closed().await;
    }

    /// Passes on the whole run, and waits until all is written; what is left to wait for are the exports.
    ///
    /// # Errors
    /// When something could not be written.
    pub(super) async fn finish(mut self, snapshot: &Arc<Snapshot>) -> Result<(Ended, Exports)> {
        self.exports.publish(snapshot);
        let last = self.report.end(snapshot);
        let recorder = self.recorder;
        let recorded = async {
            match recorder {
                Some(recorder) => recorder.finish(Ndjson::line(snapshot)).await,
                None => Ok(()),
            }
        };
        // Neither waits for the other, and neither keeps the other from its end.
        let (ended, recorded) = tokio::join!(self.output.finish(last), recorded);
        if self.left_out > 0 {
            log::warn!(
                "{} intervals were not reported; the totals include them",
                self.left_out
            );
        }
        // Whoever relies on the reports or the recording must learn that they are not whole.
        let ended = match (ended, recorded) {
            (Err(report), Err(recording)) => Err(anyhow!("{report:#}; {recording:#}")),
            (ended, recorded) => recorded.and(ended),
        }?;
        Ok((ended, self.exports))
    }
}

/// Says what is about to be done before anything is: on standard output where the report goes there for people, on
/// standard error otherwise.
pub(super) fn tell_plan(args: &RunArgs, plan: &str) {
    if plan_on_terminal(args) {
        // A reader that is gone already shows itself again when the first report is written.
        let _gone = io::stdout().write_all(&report(args).plan(plan));
    } else if !args.quiet {
        eprint!("{plan}");
    }
}

fn plan_on_terminal(args: &RunArgs) -> bool {
    args.format == Format::Text && args.output.is_none()
}

fn report(args: &RunArgs) -> Box<dyn Report> {
    match args.format {
        Format::Ndjson => Box::new(Ndjson),
        Format::Text => {
            let colour = args.output.is_none()
                && io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            Box::new(Text::new(
                !args.quiet,
                colour,
                args.hardlimit.map(ns),
                TimeZone::system(),
            ))
        }
    }
}
