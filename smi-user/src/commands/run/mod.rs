//! `smilat run`: detect, count, report.

mod exports;
mod lasting;
mod outlets;
mod progress;
mod recording;
mod reload;
mod service;
mod totals;

use std::{future::ready, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{self, Instant};

use super::{
    failures::together,
    messages,
    signals::{Hangup, Hangups, Signals},
    times::{at, every},
    watch::{Prepared, Watch},
};
use crate::{
    cli::RunArgs,
    config::Options,
    detector,
    model::Snapshot,
    output::Ended,
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
    check_limit(args.hardlimit, prepared.settings.threshold)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(collect(args, options, prepared))
}

fn check_limit(hardlimit: Option<Duration>, threshold: Duration) -> Result<()> {
    if let Some(limit) = hardlimit {
        ensure!(
            limit >= threshold,
            "--hardlimit {} is below --threshold {}: gaps in between are dropped in the kernel and could not be judged; lower the threshold",
            show(limit),
            show(threshold)
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
    let (mut interval, mut ticks) = (args.interval, every(args.interval));
    let mut fetches = every(lasting.watch()?.fetch_every().min(interval));
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
            hangup = hangups.next() => {
                let (Hangup::Reload, Some(reload)) = (hangup, &mut reload) else { break None };
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
                if let Some(changed) = outcome.interval {
                    outlets.set_interval(changed);
                    ticks = every(changed);
                    interval = changed;
                }
                outlets.exports().set(outcome.interval, outcome.push.as_ref());
                match lasting.watch() {
                    Ok(watch) => {
                        fetches = every(watch.fetch_every().min(interval));
                        service.ready(watch.info());
                    }
                    Err(error) => break Some(error),
                }
            }
            _ = ticks.tick() => {
                progress.clear();
                match lasting.snapshot() {
                    Ok(snapshot) => {
                        service.interval(&snapshot);
                        pass_on(snapshot, &mut outlets, &mut lasting);
                    }
                    Err(error) => break Some(error),
                }
                // Where snapshots take longer than the interval, there is no other moment for it.
                if is_due(&mut fetches).await
                    && let Err(error) = fetch(&mut lasting, &mut service, &mut progress)
                {
                    break Some(error);
                }
            }
            _ = fetches.tick() => {
                if let Err(error) = fetch(&mut lasting, &mut service, &mut progress) {
                    break Some(error);
                }
            }
        }
    };
    progress.clear();
    service.stopping();
    let (snapshot, stopped) = match lasting.finish() {
        Ok((mut snapshot, stopped)) => {
            Arc::make_mut(&mut snapshot).recording_lost = outlets.recording_lost();
            (Ok(snapshot), stopped)
        }
        Err(error) => (Err(error), Ok(())),
    };
    let ended = outlets.finish(snapshot.as_ref().ok(), signals.next()).await;
    let status = status(args, &snapshot, &ended, complete);
    // What was found has been reported; now all that went wrong.
    together([failure, snapshot.err(), stopped.err(), ended.err()]).map_or(status, Err)
}

/// The exit status of a run whose last snapshot was reported, if there is one.
fn status(
    args: &RunArgs,
    snapshot: &Result<Arc<Snapshot>>,
    ended: &Result<Ended>,
    complete: bool,
) -> Result<ExitCode> {
    match (snapshot, ended) {
        (Ok(snapshot), Ok(ended)) => judge(args, snapshot, complete && *ended == Ended::Written),
        _ => Ok(ExitCode::SUCCESS),
    }
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
    lasting.give_up(outlets.interval(&snapshot));
}

/// Takes what waits in the kernel's buffers, and says what there is to say.
fn fetch(lasting: &mut Lasting, service: &mut Service, progress: &mut Progress) -> Result<()> {
    for warning in lasting.watch().and_then(Watch::fetch)? {
        progress.clear();
        log::warn!("{warning}");
    }
    service.alive();
    progress.show();
    Ok(())
}

/// Whether the next tick's time has come; takes it if so.
async fn is_due(ticks: &mut time::Interval) -> bool {
    tokio::select! {
        biased;
        _ = ticks.tick() => true,
        () = ready(()) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tick_is_due_once_its_time_has_come() {
        let mut ticks = every(Duration::from_millis(100));
        assert!(!is_due(&mut ticks).await);
        time::advance(Duration::from_millis(350)).await;
        assert!(is_due(&mut ticks).await);
        // Those that were missed are not made up for.
        assert!(!is_due(&mut ticks).await);
    }
}
