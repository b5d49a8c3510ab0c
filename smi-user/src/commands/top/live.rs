//! The view of this machine.

use std::{io, io::IsTerminal as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use jiff::tz::TimeZone;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{Shared, View, keys::Command, notes::Notes, screen::Screen, theme};
use crate::{
    cli::TopArgs,
    commands::{
        signals::Signals,
        watch::{FETCH, Prepared, Watch},
    },
    kernel::{hostname, release},
    model::{DetectorInfo, Snapshot},
    output::{Ended, Output},
    report::{
        Report as _, Text,
        tui::{Direction, Subject, step},
    },
    units::show_ns,
};

/// How long the last summary may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The signals by which a shell stops and continues a command.
pub(super) struct JobControl {
    stop: Signal,
    go_on: Signal,
}

impl JobControl {
    /// Catches them from now on.
    pub(super) fn new() -> Result<Self> {
        let new = |number| signal(SignalKind::from_raw(number)).context("cannot handle signals");
        Ok(Self {
            stop: new(libc::SIGTSTP)?,
            go_on: new(libc::SIGCONT)?,
        })
    }

    /// Waits for one and passes it on to `screen`.
    pub(super) async fn next(&mut self) -> fn(&Screen) {
        tokio::select! {
            _ = self.stop.recv() => Screen::suspend,
            _ = self.go_on.recv() => Screen::again,
        }
    }
}

/// Watches and shows until the user has enough.
pub(super) async fn run(args: &TopArgs, notes: &Notes) -> Result<()> {
    let prepared = Prepared::new(&args.detection)?;
    let mut signals = Signals::new()?;
    let mut jobs = JobControl::new()?;
    let ready = prepared.begin(&args.detection)?;
    let subject = Subject {
        recording: None,
        host: hostname::hostname(),
        kernel: Some(release::release()),
        plan: ready.plan(),
    };
    let mut watch = ready.start(&args.detection)?;
    let shared = Shared::new(subject);
    let (commands, mut asked) = mpsc::unbounded_channel();
    let mut screen = Screen::open(View {
        shared: shared.clone(),
        notes: notes.clone(),
        commands,
        drawn: None,
    })?;
    let mut summary = Summary::new();
    let lowest_ns = lowest_threshold(watch.info());

    let began = Instant::now();
    let mut ticks = interval_at(began + args.interval, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let fetch = FETCH.min(args.interval);
    let mut fetches = interval_at(began + fetch, fetch);
    fetches.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            ended = screen.ended() => break ended.err(),
            pass_on = jobs.next() => pass_on(&screen),
            Some(command) = asked.recv() => {
                if let Command::Threshold(direction) = command {
                    change_threshold(&mut watch, &shared, lowest_ns, direction);
                }
            }
            _ = ticks.tick() => {
                match watch.snapshot() {
                    Ok(snapshot) => summary.take(Arc::new(snapshot), &shared),
                    Err(error) => break Some(error),
                }
            }
            _ = fetches.tick() => match watch.fetch() {
                Ok(warnings) => warnings.iter().for_each(|warning| log::warn!("{warning}")),
                Err(error) => break Some(error),
            }
        }
    };
    screen.close().await;
    let (snapshot, stopped) = watch.finish()?;
    if !args.quiet {
        tokio::select! {
            printed = summary.print(&snapshot) => printed?,
            () = signals.next() => bail!("interrupted while the terminal did not take the summary"),
            () = sleep(LAST_WORDS) => bail!("the terminal did not take the summary"),
        }
    }
    match failure {
        Some(error) => Err(error),
        None => stopped,
    }
}

/// What the end says of the whole.
struct Summary {
    text: Text,
}

impl Summary {
    fn new() -> Self {
        let colour = theme().colour && io::stdout().is_terminal();
        Self {
            text: Text::new(false, colour, None, TimeZone::system()),
        }
    }

    fn take(&mut self, snapshot: Arc<Snapshot>, shared: &Shared) {
        // It remembers the longest gaps and says nothing yet.
        let _nothing = self.text.interval(&snapshot);
        shared.lock().snapshot(snapshot);
    }

    /// Prints it, unless the reader is gone.
    async fn print(mut self, last: &Snapshot) -> Result<()> {
        let output = Output::open(None)?;
        match output.finish(self.text.end(last)).await? {
            Ended::Written | Ended::ReaderGone => Ok(()),
        }
    }
}

/// The lowest threshold that makes sense, of a detector that was just started: below one step of its loop each reading
/// of the clock would be a gap, and the kernel's tracers, whose steps are not known, tell only of what reaches the
/// threshold they were started with.
fn lowest_threshold(started: &DetectorInfo) -> u64 {
    if started.step_ns > 0.0 {
        started.threshold_ns.min(started.step_ns.ceil() as u64)
    } else {
        started.threshold_ns
    }
}

fn change_threshold(watch: &mut Watch, shared: &Shared, lowest_ns: u64, direction: Direction) {
    let info = watch.info().clone();
    match next_threshold(&info, lowest_ns, direction) {
        Err(refusal) => shared.lock().tell(refusal),
        Ok(threshold_ns) => match watch.set_threshold_ns(threshold_ns) {
            Ok(()) => {
                let mut state = shared.lock();
                state.set_threshold_ns(threshold_ns);
                if threshold_ns < info.noise_floor_ns {
                    state.tell(format!(
                        "threshold {}, below the noise floor of {}: many of the gaps counted will be none",
                        show_ns(threshold_ns as f64),
                        show_ns(info.noise_floor_ns as f64)
                    ));
                }
            }
            Err(error) => log::warn!("the threshold stays as it is: {error:#}"),
        },
    }
}

/// The threshold one step on, or why there is none.
fn next_threshold(
    info: &DetectorInfo,
    lowest_ns: u64,
    direction: Direction,
) -> Result<u64, String> {
    let now = info.threshold_ns;
    match (step(now, direction), direction) {
        (Some(next), Direction::Up) if next <= info.width_ns => Ok(next),
        (_, Direction::Up) => Err(format!(
            "the threshold stays at {}: no longer gap fits the width of {}",
            show_ns(now as f64),
            show_ns(info.width_ns as f64)
        )),
        (Some(next), Direction::Down) if next >= lowest_ns => Ok(next),
        // Between two steps.
        (_, Direction::Down) if now > lowest_ns => Ok(lowest_ns),
        (_, Direction::Down) if info.step_ns > 0.0 => Err(format!(
            "the threshold stays at {}: a step of the loop takes as long, so each reading of the clock would be a gap",
            show_ns(now as f64)
        )),
        (_, Direction::Down) => Err(format!(
            "the threshold stays at {}: the {} detector was started with it and tells of no shorter gaps",
            show_ns(now as f64),
            info.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::GapKind, settings::Mode};

    fn info(threshold_ns: u64) -> DetectorInfo {
        DetectorInfo {
            name: "hwlat".to_owned(),
            gap_kind: GapKind::WindowMax,
            threshold_ns,
            width_ns: 1_000_000,
            window_ns: 100_000_000,
            irqs_off_max_ns: 1_000_000,
            mode: Mode::RoundRobin,
            cpus: "0-1".to_owned(),
            step_ns: 0.0,
            noise_floor_ns: 0,
        }
    }

    #[test]
    fn the_threshold_stays_within_width_and_what_the_detector_tells() {
        let up = |ns| next_threshold(&info(ns), 13_000, Direction::Up);
        let down = |ns| next_threshold(&info(ns), 13_000, Direction::Down);
        assert_eq!(up(13_000), Ok(20_000));
        assert_eq!(up(500_000), Ok(1_000_000));
        let refused = up(1_000_000).expect_err("above the width");
        assert!(refused.contains("width of 1.00 ms"), "{refused}");
        assert_eq!(down(50_000), Ok(20_000));
        assert_eq!(down(20_000), Ok(13_000));
        let refused = down(13_000).expect_err("below what it was started with");
        assert!(refused.contains("hwlat detector was started"), "{refused}");
    }
}
