//! `smilat irqsoff`: find stretches with interrupts or preemption off, count them, write entries.

mod asked;
mod journal;
mod self_test;

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{
    failures::together,
    listen::listen,
    messages,
    signals::Signals,
    times::{at, every},
    watch::FETCH,
};
use crate::{
    cli::IrqsoffArgs,
    irqsoff::Claim,
    kernel::{changes::FOLDER, memory},
    output::{Ended, Output, Target},
    serve::IrqsoffPage,
    units::show,
};
use asked::Asked;
use journal::Journal;
use self_test::SelfTest;

/// How long the first tick may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// When it could not run, or not to the end.
pub fn run(args: &IrqsoffArgs) -> Result<ExitCode> {
    messages::init_for(&args.reports);
    let asked = Asked::check(args)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(watch(args, asked))
}

async fn watch(args: &IrqsoffArgs, asked: Asked) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let _claim = Claim::take(Path::new(FOLDER), &asked.settings.cpus)?;
    let target = Target::reach(args.reports.output.as_deref())?;
    let server = args
        .reports
        .listen
        .map(|address| listen(address, args.reports.interval, args.reports.quiet))
        .transpose()?;
    let started = Timestamp::now();
    let self_test = asked.self_test;
    let mut journal = Journal::new(args, asked)?;
    memory::give_back();
    journal.tell_plan(args);
    // Only now: a run that could not start must not have emptied a file.
    let mut output = Output::begin(target)?;

    let began = Instant::now();
    let end = args.reports.duration.map(|duration| began + duration);
    let mut intervals = every(args.reports.interval);
    let mut fetches = every(FETCH);
    let mut test = None;
    if let Some(asked) = self_test {
        // What comes before the first tick is not seen.
        while !journal.watching.has_ticked(asked.0)? {
            ensure!(
                began.elapsed() < PATIENCE,
                "no self-test: CPU {} did not tick within {}",
                asked.0,
                show(PATIENCE)
            );
            sleep(journal.watching.settings().tick).await;
        }
        test = Some(SelfTest::make(asked, &mut journal.watching)?);
    }
    let mut failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            () = output.ended() => break None,
            () = at(end) => break None,
            _ = intervals.tick() => {
                match journal.snapshot(false) {
                    Ok(snapshot) => {
                        let text = journal.interval(&snapshot);
                        // First: who reads the line may ask for the page of it.
                        if let Some(server) = &server {
                            server.publish(Arc::new(IrqsoffPage { started, snapshot }));
                        }
                        journal.send(&output, text);
                    }
                    Err(error) => break Some(error),
                }
            }
            _ = fetches.tick() => {
                if let Err(error) = journal.fetch(&output) {
                    break Some(error);
                }
                if test.as_ref().is_some_and(|test| journal.noticed.is_some() || test.is_overdue()) {
                    break None;
                }
            }
        }
    };
    // A state file that was begun is finished, for which the CPUs must tick on.
    while failure.is_none() && journal.is_dumping() {
        sleep(FETCH).await;
        failure = journal.fetch(&output).err();
    }
    journal.watching.stop();
    let last = journal.fetch(&output);
    let snapshot = journal.snapshot(true);
    let report = snapshot
        .as_ref()
        .map_or_else(|_| Bytes::new(), |snapshot| journal.end(snapshot));
    let ended = tokio::select! {
        ended = output.finish(report) => ended,
        () = signals.next() => Ok(Ended::ReaderGone),
    };
    let status = test.map_or(ExitCode::SUCCESS, |test| {
        test.judge(journal.noticed.as_ref(), journal.watching.settings().tick)
    });
    let failures = [failure, last.err(), snapshot.err(), ended.err()];
    together(failures).map_or(Ok(status), Err)
}
