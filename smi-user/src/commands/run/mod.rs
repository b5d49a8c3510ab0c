//! `smilat run`: detect, count, report.

mod exports;
mod outlets;
mod progress;
mod recording;

use std::{future::pending, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::{
    messages,
    signals::Signals,
    watch::{FETCH, Prepared},
};
use crate::{
    cli::RunArgs,
    detector,
    output::Ended,
    settings::Settings,
    units::{ns, show},
};
use exports::Exports;
use outlets::{Outlets, tell_plan};
use progress::Progress;

/// Exit status when a gap exceeded the hardlimit.
const EXCEEDED: u8 = 1;

/// Runs the command.
///
/// # Errors
/// When it could not run, or not to the end.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let level = if args.verbose {
        log::LevelFilter::Debug
    } else if args.quiet {
        log::LevelFilter::Error
    } else {
        log::LevelFilter::Warn
    };
    messages::init(level);
    if args.detection.detector == detector::Choice::All {
        print!("{}", detector::list());
        return Ok(ExitCode::SUCCESS);
    }
    let prepared = Prepared::new(&args.detection)?;
    check_limit(args, &prepared.settings)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(collect(args, prepared))
}

fn check_limit(args: &RunArgs, settings: &Settings) -> Result<()> {
    if let Some(limit) = args.hardlimit {
        ensure!(
            limit >= settings.threshold,
            "--hardlimit {} is below --threshold {}: gaps in between are dropped in the kernel and could not be judged; lower the threshold",
            show(limit),
            show(settings.threshold)
        );
    }
    Ok(())
}

async fn collect(args: &RunArgs, prepared: Prepared) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let exports = Exports::prepare(args)?;
    let recording = recording::claim(args)?;
    let ready = prepared.begin(&args.detection)?;
    let plan = ready.plan();
    tell_plan(args, &plan);
    let mut watch = ready.start(&args.detection)?;
    // Only now: a run that could not start must not have emptied a file, or begun a recording.
    let mut outlets = Outlets::open(args, exports, recording, &plan)?;

    let began = Instant::now();
    let end = args.duration.map(|duration| began + duration);
    let mut ticks = interval_at(began + args.interval, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let fetch = FETCH.min(args.interval);
    let mut fetches = interval_at(began + fetch, fetch);
    fetches.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut progress = Progress::new(args, began);
    let mut complete = false;
    let failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            () = outlets.closed() => break None,
            () = at(end) => {
                complete = true;
                break None;
            }
            _ = ticks.tick() => {
                let snapshot = match watch.snapshot() {
                    Ok(snapshot) => Arc::new(snapshot),
                    Err(error) => break Some(error),
                };
                progress.clear();
                if !outlets.interval(&snapshot) {
                    watch.give_up(&snapshot);
                }
            }
            _ = fetches.tick() => {
                let warnings = match watch.fetch() {
                    Ok(warnings) => warnings,
                    Err(error) => break Some(error),
                };
                for warning in warnings {
                    progress.clear();
                    log::warn!("{warning}");
                }
                progress.show();
            }
        }
    };
    progress.clear();
    let (snapshot, stopped) = watch.finish()?;
    let snapshot = Arc::new(snapshot);
    let (ended, exports) = tokio::select! {
        ended = outlets.finish(&snapshot) => ended?,
        () = signals.next() => bail!("interrupted before the last report was written: its reader did not take it, or the disk is slow"),
    };
    tokio::select! {
        () = exports.finish() => {}
        // Ending it says what is left undone.
        () = signals.next() => {}
    }
    // What was found has been reported; now what went wrong.
    if let Some(error) = failure {
        return Err(error);
    }
    stopped?;
    let watched = snapshot.cpus.iter().any(|cpu| cpu.exposure_ns > 0);
    if complete && !watched && ended == Ended::Written {
        bail!(
            "no window came before the end, so nothing was watched; a --duration of several --window is needed"
        );
    }
    let limit_ns = args.hardlimit.map(ns);
    Ok(match (snapshot.max_ns(), limit_ns) {
        (Some(max), Some(limit)) if max > limit => ExitCode::from(EXCEEDED),
        _ => ExitCode::SUCCESS,
    })
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
