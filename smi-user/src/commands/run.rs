//! `smilat run`: detect, count, report.

use std::{
    future::pending,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::tz::TimeZone;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::{beside::Beside, messages, signals::Signals};
use crate::{
    attribution::Attribution,
    bpf::{Bpf, BpfError},
    cli::{Format, RunArgs},
    collector::Collector,
    detector::{self, Detector},
    kernel::{cpus::CpuList, perf::PerfError, refusal, sched},
    model::DetectorInfo,
    output::{Ended, Output},
    report::{Ndjson, Report, Text},
    settings::{Settings, Wanted},
    units::{ns, show, show_ns},
};

/// Exit status when a gap exceeded the hardlimit.
const EXCEEDED: u8 = 1;

/// How often waiting single gaps are fetched and the user is told what happened.
const FETCH: Duration = Duration::from_millis(100);

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
    if args.detector == detector::Choice::All {
        print!("{}", detector::list());
        return Ok(ExitCode::SUCCESS);
    }
    let (detector, why) = detector::choose(args.detector)?;
    let settings = settings(args, detector.as_ref())?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(collect(args, &settings, detector.as_ref(), &why))
}

fn settings(args: &RunArgs, detector: &dyn Detector) -> Result<Settings> {
    let preset = args.preset.defaults();
    let wanted = Wanted {
        threshold: args.threshold,
        width: args.width.unwrap_or(preset.width),
        window: args.window.unwrap_or(preset.window),
        irqs_off_max: args.irqs_off_max.unwrap_or(preset.irqs_off_max),
        mode: args
            .mode
            .unwrap_or_else(|| detector.default_mode(preset.mode)),
        cpus: args.cpus.clone(),
        rt_priority: args.rt_priority,
        records_per_s: args.max_gap_records,
        force: args.force,
    };
    let online = CpuList::online()?;
    let allowed = sched::allowed(&online);
    let settings = Settings::check(wanted, &online, &allowed)?;
    if let Some(limit) = args.hardlimit {
        ensure!(
            limit >= settings.threshold,
            "--hardlimit {} is below --threshold {}: gaps in between are dropped in the kernel and could not be judged; lower the threshold",
            show(limit),
            show(settings.threshold)
        );
    }
    Ok(settings)
}

async fn collect(
    args: &RunArgs,
    settings: &Settings,
    detector: &dyn Detector,
    why: &str,
) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let highest_cpu = CpuList::possible()?.highest().unwrap_or_default();
    let mut bpf = Bpf::load(highest_cpu).map_err(|error| explain(error.into()))?;
    // In force until this function returns.
    let mut beside = Beside::begin(args, settings)?;
    let plan = plan(detector, why, settings) + &beside.plan();
    let mut report = report(args);
    let to_terminal = args.format == Format::Text && args.output.is_none();
    if to_terminal {
        // A reader that is gone already shows itself again when the first report is written.
        let _gone = io::stdout().write_all(&report.plan(&plan));
    } else if !args.quiet {
        eprint!("{plan}");
    }
    let attribution = Attribution::start(&mut bpf, args.counter, &settings.cpus)?;
    let running = detector.start(&mut bpf, settings).map_err(explain)?;
    // Only now: a run that could not start must not have emptied the file.
    let output = Output::open(args.output.as_deref())?;
    if !to_terminal {
        output.send(report.plan(&plan));
    }
    let mut collector = Collector::new(bpf, running, attribution, detector, settings);
    tell_noise(collector.info());
    for warning in collector.warnings() {
        log::warn!("{warning}");
    }

    let began = Instant::now();
    let end = args.duration.map(|duration| began + duration);
    let mut ticks = interval_at(began + args.interval, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let fetch = FETCH.min(args.interval);
    let mut fetches = interval_at(began + fetch, fetch);
    fetches.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut progress = Progress::new(args, began);
    let mut left_out = 0u64;
    let mut complete = false;
    let failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            () = output.closed() => break None,
            () = at(end) => {
                complete = true;
                break None;
            }
            _ = ticks.tick() => {
                let mut snapshot = match collector.snapshot() {
                    Ok(snapshot) => snapshot,
                    Err(error) => break Some(error),
                };
                progress.clear();
                beside.add_to(&mut snapshot);
                if !output.send(report.interval(&snapshot)) {
                    collector.give_up(&snapshot);
                    left_out += 1;
                    if left_out == 1 {
                        log::warn!("the reader of the reports does not keep up: some intervals are left out");
                    }
                }
            }
            _ = fetches.tick() => {
                if let Err(error) = collector.fetch() {
                    break Some(error);
                }
                for warning in collector.warnings() {
                    progress.clear();
                    log::warn!("{warning}");
                }
                progress.show();
            }
        }
    };
    progress.clear();
    let (mut snapshot, stopped) = collector.finish()?;
    beside.add_to(&mut snapshot);
    let put_back = beside.end();
    let last = report.end(&snapshot);
    let ended = tokio::select! {
        ended = output.finish(last) => ended?,
        () = signals.next() => bail!("interrupted while the reader of the reports did not take the last one"),
    };
    if left_out > 0 {
        log::warn!("{left_out} intervals were not reported; the totals include them");
    }
    // What was found has been reported; now what went wrong.
    if let Some(error) = failure {
        return Err(error);
    }
    stopped?;
    put_back?;
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

/// Warns about a threshold that the loop's own steps exceed.
fn tell_noise(detector: &DetectorInfo) {
    let threshold = show_ns(detector.threshold_ns as f64);
    let floor = show_ns(detector.noise_floor_ns as f64);
    log::debug!(
        "a step takes {:.1} ns, noise floor {floor}",
        detector.step_ns
    );
    if detector.noise_floor_ns > detector.threshold_ns {
        log::warn!(
            "the threshold {threshold} is below this machine's noise floor of {floor}: one step of the loop in 10,000 \
             takes that long by itself, so many of the gaps counted will be no gaps"
        );
    }
}

/// What is about to be done to which CPUs, and what it costs.
fn plan(detector: &dyn Detector, why: &str, settings: &Settings) -> String {
    let Settings {
        threshold,
        width,
        window,
        mode,
        ref cpus,
        ..
    } = *settings;
    let scheduling = detector.scheduling(settings);
    format!(
        "smilat {}: {} detector ({why}), threshold {}\n\
         watching CPU {cpus}, mode {mode}: {} of every {}, {scheduling}\n\
         cost: {:.2} % of each watched CPU, {:.2} CPUs in all; there an interrupt may wait up to {}, other threads up to {}\n",
        env!("CARGO_PKG_VERSION"),
        detector.name(),
        show(threshold),
        show(width),
        show(window),
        settings.duty_per_cpu() * 100.0,
        settings.duty_per_cpu() * cpus.len() as f64,
        show(detector.irqs_off(settings)),
        show(width),
    )
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

/// Adds to a refusal of the kernel's what may be behind it and what would help.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let errno = error
        .downcast_ref::<BpfError>()
        .and_then(BpfError::errno)
        .or_else(|| {
            let mut causes = error.chain();
            let perf = causes.find_map(|cause| cause.downcast_ref::<PerfError>())?;
            perf.source.raw_os_error()
        });
    match refusal::hint(errno) {
        Some(hint) => anyhow::anyhow!("{error:#}: {hint}"),
        None => error,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// A line on the terminal that says how far a run is, where nothing else would for a while.
struct Progress {
    enabled: bool,
    began: Instant,
    duration: Option<Duration>,
    shown_s: Option<u64>,
}

impl Progress {
    fn new(args: &RunArgs, began: Instant) -> Self {
        Self {
            enabled: !args.quiet
                && args.interval > Duration::from_secs(2)
                && io::stderr().is_terminal(),
            began,
            duration: args.duration,
            shown_s: None,
        }
    }

    fn show(&mut self) {
        let elapsed = self.began.elapsed().as_secs();
        if !self.enabled || self.shown_s == Some(elapsed) {
            return;
        }
        self.shown_s = Some(elapsed);
        match self.duration {
            Some(duration) => eprint!("\r\x1b[K{elapsed} of {} s", duration.as_secs()),
            None => eprint!("\r\x1b[K{elapsed} s, Ctrl-C ends"),
        }
    }

    fn clear(&mut self) {
        if self.shown_s.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
