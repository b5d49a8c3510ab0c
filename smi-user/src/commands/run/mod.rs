//! `smilat run`: detect, count, report.

mod exports;
mod lasting;
mod outlets;
mod progress;
mod recording;
mod reload;
mod service;

use std::{future::pending, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use tokio::time::{self, Instant, MissedTickBehavior, interval_at, sleep_until};

use super::{
    messages,
    signals::{Hangups, Signals},
    watch::{FETCH, Prepared, Watch},
};
use crate::{
    cli::RunArgs,
    config::Options,
    detector,
    model::Snapshot,
    output::Ended,
    settings::Settings,
    units::{ns, show},
};
use exports::Exports;
use lasting::Lasting;
use outlets::{Outlets, tell_plan};
use progress::Progress;
use reload::Reload;
use service::Service;

/// Exit status when a gap exceeded the hardlimit.
const EXCEEDED: u8 = 1;

/// Runs the command; `options` are the `args` as they were written.
///
/// # Errors
/// When it could not run, or not to the end.
pub fn run(args: &RunArgs, options: &Options) -> Result<ExitCode> {
    let level = if args.verbose {
        log::LevelFilter::Debug
    } else if args.quiet {
        log::LevelFilter::Error
    } else {
        log::LevelFilter::Info
    };
    messages::init(level);
    if args.detection.detector == detector::Choice::All {
        print!("{}", detector::list());
        return Ok(ExitCode::SUCCESS);
    }
    let prepared = Prepared::new(&args.detection)?;
    check_limit(args.hardlimit, &prepared.settings)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(collect(args, options, prepared))
}

fn check_limit(hardlimit: Option<Duration>, settings: &Settings) -> Result<()> {
    if let Some(limit) = hardlimit {
        ensure!(
            limit >= settings.threshold,
            "--hardlimit {} is below --threshold {}: gaps in between are dropped in the kernel and could not be judged; lower the threshold",
            show(limit),
            show(settings.threshold)
        );
    }
    Ok(())
}

async fn collect(args: &RunArgs, options: &Options, prepared: Prepared) -> Result<ExitCode> {
    let mut reload = Reload::new(args, options);
    let mut signals = match reload {
        Some(_) => Signals::but_hangup()?,
        None => Signals::new()?,
    };
    let mut hangups = Hangups::new(reload.is_some())?;
    let mut service = Service::new();
    let exports = Exports::prepare(args)?;
    let recording = recording::claim(args)?;
    let ready = prepared.begin(&args.detection)?;
    let plan = ready.plan();
    tell_plan(args, &plan);
    let mut lasting = Lasting::new(ready.start(&args.detection)?);
    // Only now: a run that could not start must not have emptied a file, or begun a recording.
    let mut outlets = Outlets::open(args, exports, recording, &plan)?;
    lasting
        .watch()?
        .give_up_privileges(&args.detection, reload.is_some());

    let began = Instant::now();
    let end = args.duration.map(|duration| began + duration);
    let mut ticks = every(args.interval);
    let mut fetches = every(FETCH.min(args.interval));
    service.ready(lasting.watch()?.info());
    let mut progress = Progress::new(args, began);
    let mut complete = false;
    let failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            () = outlets.closed() => {
                progress.clear();
                if !outlets.go_on() {
                    break None;
                }
            }
            () = at(end) => {
                complete = true;
                break None;
            }
            () = hangups.next() => {
                let Some(reload) = &mut reload else { continue };
                service.reloading();
                progress.clear();
                let outcome = reload.again(&mut lasting);
                if let Some(ended) = outcome.ended {
                    pass_on(ended, &mut outlets, &mut lasting);
                    ticks.reset();
                }
                if let Some(error) = outcome.failure {
                    break Some(error);
                }
                if let Some(interval) = outcome.interval {
                    outlets.set_interval(interval);
                    ticks = every(interval);
                    fetches = every(FETCH.min(interval));
                }
                outlets.exports().set(outcome.interval, outcome.push.as_ref());
                match lasting.watch() {
                    Ok(watch) => service.ready(watch.info()),
                    Err(error) => break Some(error),
                }
            }
            _ = ticks.tick() => {
                let snapshot = match lasting.snapshot() {
                    Ok(snapshot) => Arc::new(snapshot),
                    Err(error) => break Some(error),
                };
                progress.clear();
                service.interval(&snapshot);
                pass_on(snapshot, &mut outlets, &mut lasting);
            }
            _ = fetches.tick() => {
                let warnings = match lasting.watch().and_then(Watch::fetch) {
                    Ok(warnings) => warnings,
                    Err(error) => break Some(error),
                };
                for warning in warnings {
                    progress.clear();
                    log::warn!("{warning}");
                }
                service.alive();
                progress.show();
            }
        }
    };
    progress.clear();
    service.stopping();
    let (snapshot, stopped) = match lasting.finish() {
        Ok((mut snapshot, stopped)) => {
            snapshot.recording_lost = outlets.recording_lost();
            (Ok(Arc::new(snapshot)), stopped)
        }
        Err(error) => (Err(error), Ok(())),
    };
    let ended = outlets.finish(snapshot.as_ref().ok(), signals.next()).await;
    let status = match (&snapshot, &ended) {
        (Ok(snapshot), Ok(ended)) => judge(args, snapshot, complete && *ended == Ended::Written),
        _ => Ok(ExitCode::SUCCESS),
    };
    // What was found has been reported; now all that went wrong.
    together([failure, snapshot.err(), stopped.err(), ended.err()]).map_or(status, Err)
}

/// One error that tells all of these, the same ones once; `None` if there is none.
fn together(errors: impl IntoIterator<Item = Option<Error>>) -> Option<Error> {
    errors.into_iter().flatten().reduce(|first, next| {
        let (told, more) = (format!("{first:#}"), format!("{next:#}"));
        if told.contains(&more) {
            first
        } else {
            anyhow!("{told}; {more}")
        }
    })
}

/// The exit status of a run that came to its end; `complete`: its duration is over, and all was reported.
fn judge(args: &RunArgs, snapshot: &Snapshot, complete: bool) -> Result<ExitCode> {
    let watched = snapshot.cpus.iter().any(|cpu| cpu.exposure_ns > 0);
    if complete && !watched {
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

/// Reports an interval; counts single gaps as given up that were neither reported nor recorded.
fn pass_on(mut snapshot: Arc<Snapshot>, outlets: &mut Outlets, lasting: &mut Lasting) {
    Arc::make_mut(&mut snapshot).recording_lost = outlets.recording_lost();
    let given_up = outlets.interval(&snapshot);
    if given_up > 0
        && let Ok(watch) = lasting.watch()
    {
        watch.give_up(given_up);
    }
}

/// Ticks from now on, the first after one `period`; of those that were missed, none is made up for.
fn every(period: Duration) -> time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_told_and_the_same_once() {
        assert!(together([None, None]).is_none());
        let one = || Some(anyhow!("the disk").context("cannot write"));
        let told = together([one(), None, one(), Some(anyhow!("other"))]).expect("errors");
        assert_eq!(format!("{told:#}"), "cannot write: the disk; other");
        let alone = together([None, one()]).expect("an error");
        assert_eq!(alone.to_string(), "cannot write");
    }
}
