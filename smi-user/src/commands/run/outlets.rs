//! Where a run's snapshots go. None of the ways out holds up another, nor the collection, and none that ends takes the run
//! with it while there is another.

use std::{
    cell::Cell,
    future::pending,
    io::{self, IsTerminal as _, Write as _},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Error, Result, anyhow};
use bytes::Bytes;
use jiff::tz::TimeZone;
use tokio::time::timeout;

use super::{super::failures::together, exports::Exports, recording};
use crate::{
    cli::{Format, RunArgs},
    model::Snapshot,
    output::{Ended, Output, Target},
    recording::{Claim, Recorder},
    report::{Ndjson, Report, Text},
    units::ns,
    waiting::Sent,
};

/// How long an interrupted end still waits for what a reader or a disk has almost taken.
const GRACE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Outlets {
    exports: Exports,
    recorder: Option<Recorder>,
    report: Box<dyn Report>,
    format: Format,
    /// `None` once nothing can be written there any more, and the run goes on for the others.
    output: Option<Output>,
    /// Why that is so, where it is a failure.
    failure: Option<Error>,
    /// The other ways out, for people; empty where there is none.
    others: String,
    left_out: u64,
}

impl Outlets {
    /// Opens all that `args` ask for, and says what is about to be done. Nothing that is there already is changed unless
    /// all can be opened.
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
        let target = Target::reach(args.output.as_deref())?;
        let recorder = recording
            .map(|claim| recording::begin(args, claim))
            .transpose()?;
        let output = Output::begin(target)?;
        if !plan_on_terminal(args) {
            output.send(report.plan(plan));
        }
        Ok(Self {
            exports,
            recorder,
            report,
            format: args.format,
            output: Some(output),
            failure: None,
            others: others(args),
            left_out: 0,
        })
    }

    /// Has the recording say that snapshots come at another interval from now on.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        if let Some(recorder) = &mut self.recorder {
            recorder.set_interval(interval);
        }
    }

    /// Snapshots that are missing in the recording so far, if there is one.
    pub(super) fn recording_lost(&self) -> Option<u64> {
        self.recorder.as_ref().map(Recorder::lost)
    }

    /// Passes on the interval that ended with `snapshot`; returns how many single gaps, of this interval and of those
    /// before, are known since the last call to have been neither reported nor recorded.
    pub(super) fn interval(&mut self, snapshot: &Arc<Snapshot>) -> u64 {
        self.exports.publish(snapshot);
        // Made once, and shared.
        let line = (self.recorder.is_some() || self.format == Format::Ndjson)
            .then(|| Ndjson::line(&**snapshot));
        let reported = self.output.as_ref().is_some_and(|output| {
            let text = match (&line, self.format) {
                (Some(line), Format::Ndjson) => line.clone(),
                _ => self.report.interval(snapshot),
            };
            let sent = output.send(text);
            if sent == Sent::Full {
                self.left_out += 1;
                if self.left_out == 1 {
                    log::warn!(
                        "the reader of the reports does not keep up: some intervals are left out"
                    );
                }
            }
            sent == Sent::Taken
        });
        if self.failure.is_some() {
            // Told already; how many is told at the end.
            self.left_out += 1;
        }
        let gaps = snapshot.gaps.len() as u64;
        let only_here = if reported { 0 } else { gaps };
        let Some(recorder) = &mut self.recorder else {
            return only_here;
        };
        let line = line.unwrap_or_else(|| Ndjson::line(&**snapshot));
        let recorded = recorder.send(line, only_here);
        recorder.gaps_lost() + if recorded { 0 } else { only_here }
    }

    /// Those who take the newest snapshot when they want it.
    pub(super) fn exports(&mut self) -> &mut Exports {
        &mut self.exports
    }

    /// Returns once the reports cannot be written any more: the reader went away, or writing failed.
    pub(super) async fn closed(&mut self) {
        match &mut self.output {
            Some(output) => output.ended().await,
            None => pending().await,
        }
    }

    /// After [`Self::closed`]: whether the run is to go on, for there are other ways out; says so then.
    pub(super) fn go_on(&mut self) -> bool {
        if self.others.is_empty() {
            return false;
        }
        let Some(output) = self.output.take() else {
            return true;
        };
        let (name, others) = (output.name().to_owned(), &self.others);
        match output.outcome() {
            Some(Err(error)) => {
                log::error!(
                    "{error:#}; no reports are written there any more, and the run goes on for {others}"
                );
                self.failure = Some(error);
            }
            _ => log::warn!(
                "the reader of {name} went away; the run goes on for {others} (Ctrl-C ends it)"
            ),
        }
        true
    }

    /// Passes on the whole run, if it could be read to its end, and waits until all is written and those who are to get the
    /// last snapshot have it; no longer than until `interrupted`, but for a moment. Then it says what is left undone.
    ///
    /// # Errors
    /// When something could not be written; all that could not is told.
    pub(super) async fn finish(
        self,
        snapshot: Option<&Arc<Snapshot>>,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Ended> {
        let Self {
            mut exports,
            recorder,
            mut report,
            output,
            failure,
            left_out,
            ..
        } = self;
        if let Some(snapshot) = snapshot {
            exports.publish(snapshot);
        }
        let last = snapshot.map_or_else(Bytes::new, |snapshot| report.end(snapshot));
        let (mut reported, mut recorded) = (None, None);
        let write_report = async {
            reported = Some(match output {
                Some(output) => output.finish(last).await,
                // It was told when it went.
                None => Ok(Ended::Written),
            });
        };
        let record = async {
            let Some(recorder) = recorder else {
                recorded = Some(Ok(()));
                return;
            };
            let line = snapshot.map(|snapshot| Ndjson::line(&**snapshot));
            let (whole, tidied) = recorder.finish(line).await;
            recorded = Some(whole);
            tidied.await;
        };
        {
            let done = Cell::new(false);
            let mut written = pin!(async {
                tokio::join!(write_report, record);
                done.set(true);
            });
            tokio::select! {
                // None waits for another, and none keeps another from its end.
                _ = async { tokio::join!(&mut written, exports.finish()) } => {}
                // Ending the exports says what of them is left undone. What is just being written is no reason to fail.
                () = interrupted => if !done.get() {
                    let _in_time = timeout(GRACE, written).await;
                }
            }
        }
        if left_out > 0 {
            log::warn!("{left_out} intervals were not reported; the totals include them");
        }
        // Whoever relies on the reports or the recording must learn that they are not whole.
        let reported = reported.unwrap_or_else(|| {
            Err(anyhow!(
                "interrupted before the last report was written: its reader did not take it, or the disk is slow"
            ))
        });
        let recorded = recorded.unwrap_or_else(|| {
            Err(anyhow!(
                "interrupted before the recording was complete: its disk is slow"
            ))
        });
        let (ended, unreported) = match reported {
            Ok(ended) => (ended, None),
            Err(error) => (Ended::ReaderGone, Some(error)),
        };
        together([failure, unreported, recorded.err()]).map_or(Ok(ended), Err)
    }
}

/// The ways out beside the reports, for people.
fn others(args: &RunArgs) -> String {
    let asked = [
        (args.record.is_some(), "--record"),
        (args.listen.is_some(), "--listen"),
        (args.push.otlp.is_some(), "--otlp"),
    ];
    let names: Vec<&str> = asked
        .iter()
        .filter_map(|(asked, name)| asked.then_some(*name))
        .collect();
    names.join(", ")
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

#[cfg(test)]
#[path = "outlets_tests.rs"]
mod tests;
