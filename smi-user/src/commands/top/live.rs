//! The view of this machine.

use std::{fmt::Write as _, io, io::IsTerminal as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    Shared, View,
    keys::Command,
    notes::Notes,
    screen::Screen,
    signals::{Ends, JobControl},
    theme,
};
use crate::{
    cli::TopArgs,
    commands::{
        failures::together,
        watch::{Prepared, Watch},
    },
    kernel::{hostname, release, terminal::Writer},
    model::{DetectorInfo, Snapshot},
    report::{
        Report as _, Text,
        tui::{Direction, Subject, step},
    },
    units::show_ns,
};

/// How long the last summary may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Watches and shows until the user has enough.
pub(super) async fn run(args: &TopArgs, notes: &Notes) -> Result<()> {
    let prepared = Prepared::new(&args.detection)?;
    let mut signals = Ends::new()?;
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
    // The threshold is all that is still changed.
    watch.give_up_privileges(&args.detection, false);
    let mut summary = Summary::new();
    let lowest_ns = lowest_threshold(watch.info());

    let began = Instant::now();
    let mut ticks = interval_at(began + args.interval, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let fetch = watch.fetch_every().min(args.interval);
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
                    let change = change_threshold(&mut watch, &shared, lowest_ns, direction);
                    summary.thresholds.extend(change);
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
    let mut failures = vec![failure];
    match watch.finish() {
        Err(error) => failures.push(Some(error)),
        Ok((snapshot, stopped)) => {
            failures.push(stopped.err());
            if !args.quiet {
                failures.push(summary.print(&snapshot, &mut signals).await.err());
            }
        }
    }
    together(failures).map_or(Ok(()), Err)
}

/// A change of the threshold: when, and from what to what, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    time: Timestamp,
    from_ns: u64,
    to_ns: u64,
}

/// What the end says of the whole.
struct Summary {
    text: Text,
    thresholds: Vec<Change>,
}

impl Summary {
    fn new() -> Self {
        let colour = theme().colour && io::stdout().is_terminal();
        Self {
            text: Text::new(false, colour, None, TimeZone::system()),
            thresholds: Vec::new(),
        }
    }

    fn take(&mut self, snapshot: Arc<Snapshot>, shared: &Shared) {
        // It remembers the longest gaps and says nothing yet.
        let _nothing = self.text.interval(&snapshot);
        shared.lock().snapshot(snapshot);
    }

    /// Prints it, unless the terminal is gone.
    async fn print(mut self, last: &Snapshot, signals: &mut Ends) -> Result<()> {
        let mut text = self.text.end(last).to_vec();
        text.extend(thresholds(&self.thresholds, &self.text.zone).into_bytes());
        let output = Writer::open().context("cannot open the terminal")?;
        let began = Instant::now();
        let mut written = 0;
        while written < text.len() {
            match output.write(&text[written..]) {
                Ok(taken) => written += taken,
                // Nobody misses the rest.
                Err(_) => break,
            }
            if began.elapsed() > LAST_WORDS {
                bail!("the terminal did not take the summary");
            }
            tokio::select! {
                biased;
                () = signals.next() => bail!("interrupted while the terminal did not take the summary"),
                () = sleep(Duration::from_millis(1)) => {}
            }
        }
        Ok(())
    }
}

/// Which thresholds were in force when, if it was more than one.
fn thresholds(changes: &[Change], zone: &TimeZone) -> String {
    let mut text = String::new();
    let Some(first) = changes.first() else {
        return text;
    };
    // Writing to a string cannot fail.
    let _written = writeln!(
        text,
        "\nThe threshold was changed: counts and durations above mix what reached each of these\n  {:>9} from the start on",
        show_ns(first.from_ns as f64)
    );
    for change in changes {
        let _written = writeln!(
            text,
            "  {:>9} from {} on",
            show_ns(change.to_ns as f64),
            change.time.to_zoned(zone.clone()).strftime("%F %T%.3f")
        );
    }
    text
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

fn change_threshold(
    watch: &mut Watch,
    shared: &Shared,
    lowest_ns: u64,
    direction: Direction,
) -> Option<Change> {
    let info = watch.info().clone();
    let threshold_ns = match next_threshold(&info, lowest_ns, direction) {
        Ok(threshold_ns) => threshold_ns,
        Err(refusal) => {
            shared.lock().tell(refusal);
            return None;
        }
    };
    if let Err(error) = watch.set_threshold_ns(threshold_ns) {
        log::warn!("the threshold stays as it is: {error:#}");
        return None;
    }
    let mut state = shared.lock();
    state.set_threshold_ns(threshold_ns);
    if threshold_ns < info.noise_floor_ns {
        state.tell(format!(
            "threshold {}, below the noise floor of {}: many of the gaps counted will be none",
            show_ns(threshold_ns as f64),
            show_ns(info.noise_floor_ns as f64)
        ));
    }
    Some(Change {
        time: Timestamp::now(),
        from_ns: info.threshold_ns,
        to_ns: threshold_ns,
    })
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
    use crate::{made_up, model::GapKind};

    fn info(threshold_ns: u64) -> DetectorInfo {
        DetectorInfo {
            name: "hwlat".to_owned(),
            gap_kind: GapKind::WindowMax,
            threshold_ns,
            step_ns: 0.0,
            ..made_up::detector()
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
    #[test]
    fn the_end_says_which_thresholds_were_in_force_when() {
        let time = |second| Timestamp::new(second, 0).expect("a time");
        let change = |second, from_ns, to_ns| Change {
            time: time(second),
            from_ns,
            to_ns,
        };
        assert_eq!(thresholds(&[], &TimeZone::UTC), "");
        let changes = [change(60, 10_000, 20_000), change(61, 20_000, 50_000)];
        let told = thresholds(&changes, &TimeZone::UTC);
        for part in [
            "mix what reached each",
            "10.0 us from the start on",
            "20.0 us from 1970-01-01 00:01:00.000 on",
            "50.0 us from 1970-01-01 00:01:01.000 on",
        ] {
            assert!(told.contains(part), "no \"{part}\" in {told}");
        }
    }
}
