//! `smilat irqsoff`: find stretches with interrupts or preemption off, count them, write entries.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};
use smi_common::irqsoff::{IrqsoffRecord, Kind};
use tokio::time::{Instant, sleep_until};

use super::{
    failures::together,
    listen::listen,
    messages,
    signals::Signals,
    times::{at, every},
    watch::FETCH,
};
use crate::{
    cli::{Disposition, Format, IrqsoffArgs},
    irqsoff::{
        Claim, Exemptions, Limit, Naming, Picture, Settings, Threshold, Watching, counts, events,
    },
    kernel::{boot, changes::FOLDER, clock::Epoch, cpus::CpuList, sched},
    model::irqsoff::{Event, IRQSOFF_SCHEMA_VERSION, IrqsoffSnapshot},
    output::{Ended, Output, Target},
    report::irqsoff::{Line, entry, line, summary},
    serve::IrqsoffPage,
    units::{ns, show},
    waiting::Sent,
};

/// Exit status when a self-test was not noticed as it should have been.
const UNNOTICED: u8 = 1;

/// How long a CPU may take to tell what it does.
const PICTURE: Duration = Duration::from_secs(1);

/// How often each stack was logged.
const LOGGED: &str = "irqsoff.json";

/// Runs the command.
///
/// # Errors
/// When it could not run, or not to the end.
pub fn run(args: &IrqsoffArgs) -> Result<ExitCode> {
    messages::init(if args.verbose {
        log::LevelFilter::Debug
    } else if args.quiet {
        log::LevelFilter::Error
    } else {
        log::LevelFilter::Info
    });
    let asked = Asked::check(args)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(watch(args, asked))
}

/// What the command line asks for, checked. Nothing has been done yet.
struct Asked {
    settings: Settings,
    exemptions: Exemptions,
    limit: Limit,
    self_test: Option<(u32, Duration)>,
}

impl Asked {
    fn check(args: &IrqsoffArgs) -> Result<Self> {
        let online = CpuList::online()?;
        let cpus = args.cpus.clone().unwrap_or_else(|| online.clone());
        cpus.check_within(&online, &sched::allowed(&online))?;
        let settings = Settings::new(cpus, args.tick, args.level, args.threshold)?;
        let panic = args.disposition == Disposition::Panic;
        ensure!(
            !panic || args.yes_panic_this_machine,
            "--disposition panic ends everything that runs on this machine at the first stretch; add \
             --yes-panic-this-machine if that is what you want"
        );
        ensure!(
            panic || !args.yes_panic_this_machine,
            "--yes-panic-this-machine belongs to --disposition panic"
        );
        let self_test = args
            .self_test
            .map(|asked| self_test(asked, &settings))
            .transpose()?;
        Ok(Self {
            exemptions: Exemptions::find(&args.exempt, args.exempt_file.as_deref())?,
            limit: Limit::load(&Path::new(FOLDER).join(LOGGED), &boot::id()?, args.max_log)?,
            settings,
            self_test,
        })
    }
}

/// Where and how long: on the last watched CPU, so that CPU 0, where machines do their housekeeping, is left alone.
fn self_test(asked: Threshold, settings: &Settings) -> Result<(u32, Duration)> {
    const MAX: Duration = Duration::from_secs(1);
    let length = match asked {
        Threshold::Ticks(ticks) => settings
            .tick
            .saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)),
        Threshold::Time(time) => time,
    };
    let Some(threshold) = settings.threshold else {
        bail!("--self-test needs a threshold to be noticed by; leave --threshold 0 out");
    };
    let least = threshold + settings.tick;
    ensure!(
        length >= least,
        "--self-test {} would not be noticed for sure: what lasts for threshold and tick together, {}, is; make it longer, or \
         lower --threshold",
        show(length),
        show(least)
    );
    ensure!(
        length <= MAX,
        "--self-test {} is above {}, the longest that this does to a machine",
        show(length),
        show(MAX)
    );
    let cpu = settings
        .cpus
        .highest()
        .context("there is no CPU to test on")?;
    Ok((cpu, length))
}

async fn watch(args: &IrqsoffArgs, asked: Asked) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let _claim = Claim::take(Path::new(FOLDER), &asked.settings.cpus)?;
    let target = Target::reach(args.output.as_deref())?;
    let server = args
        .listen
        .map(|address| listen(address, args.interval, args.quiet))
        .transpose()?;
    let started = Timestamp::now();
    let self_test = asked.self_test;
    let mut log = Log::new(args, asked)?;
    log.tell_plan(args);
    // Only now: a run that could not start must not have emptied a file.
    let mut output = Output::begin(target)?;

    let began = Instant::now();
    let end = args.duration.map(|duration| began + duration);
    let mut intervals = every(args.interval);
    let mut fetches = every(FETCH);
    let mut test = None;
    if let Some((cpu, length)) = self_test {
        // Until then the ticks are not known to come.
        sleep_until(began + 10 * log.watching.settings().tick).await;
        test = Some(SelfTest {
            cpu,
            made_ns: log.watching.self_test(cpu, length)?,
        });
    }
    let failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            () = output.ended() => break None,
            () = at(end) => break None,
            _ = intervals.tick() => {
                match log.snapshot(false) {
                    Ok(snapshot) => {
                        let text = log.interval(&snapshot);
                        log.send(&output, text);
                        if let Some(server) = &server {
                            server.publish(Arc::new(IrqsoffPage { started, snapshot }));
                        }
                    }
                    Err(error) => break Some(error),
                }
            }
            _ = fetches.tick() => {
                if let Err(error) = log.fetch(&output) {
                    break Some(error);
                }
                if test.is_some() && (log.noticed.is_some() || began.elapsed() > Duration::from_secs(5)) {
                    break None;
                }
            }
        }
    };
    log.watching.stop();
    let last = log.fetch(&output);
    let snapshot = log.snapshot(true);
    let report = snapshot
        .as_ref()
        .map_or_else(|_| Bytes::new(), |snapshot| log.end(snapshot));
    let ended = tokio::select! {
        ended = output.finish(report) => ended,
        () = signals.next() => Ok(Ended::ReaderGone),
    };
    let status = test.map_or(ExitCode::SUCCESS, |test| log.judge(&test));
    let failures = [failure, last.err(), snapshot.err(), ended.err()];
    together(failures).map_or(Ok(status), Err)
}

/// A stretch that was made on purpose.
struct SelfTest {
    cpu: u32,
    made_ns: u64,
}

/// The watch, and what is written of it.
struct Log {
    watching: Watching,
    exemptions: Exemptions,
    limit: Limit,
    naming: Naming,
    disposition: Disposition,
    dump_folder: PathBuf,
    format: Format,
    zone: TimeZone,
    began: Instant,
    interval: u64,
    logged: u64,
    suppressed: u64,
    lost_told: bool,
    left_out: bool,
    /// A state file that is being made.
    dump: Option<Dump>,
    /// The longest stretch with interrupts off that was found, for a self-test.
    noticed: Option<Event>,
    self_test: bool,
}

/// A state file that waits for the CPUs to tell what they do.
struct Dump {
    why: String,
    time: Timestamp,
    picture: Picture,
    until: Instant,
}

impl Log {
    fn new(args: &IrqsoffArgs, asked: Asked) -> Result<Self> {
        let watching = Watching::start(asked.settings, &asked.exemptions, args.counter)?;
        Ok(Self {
            watching,
            exemptions: asked.exemptions,
            limit: asked.limit,
            naming: Naming::default(),
            disposition: args.disposition,
            dump_folder: args.dump_folder.clone(),
            format: args.format,
            zone: TimeZone::system(),
            began: Instant::now(),
            interval: 0,
            logged: 0,
            suppressed: 0,
            lost_told: false,
            left_out: false,
            dump: None,
            noticed: None,
            self_test: asked.self_test.is_some(),
        })
    }

    /// Says what is about to be done, and what it costs.
    fn tell_plan(&mut self, args: &IrqsoffArgs) {
        let settings = self.watching.settings();
        let threshold = settings.threshold.map_or_else(
            || "threshold 0: only how late ticks come is measured".to_owned(),
            |threshold| {
                format!(
                    "stretches of {} and more, those of {} and more for sure",
                    show(threshold),
                    show(threshold + settings.tick)
                )
            },
        );
        if !args.quiet {
            log::info!(
                "smilat {}: interrupts and preemption off on CPU {}, a tick every {}, {threshold}",
                env!("CARGO_PKG_VERSION"),
                settings.cpus,
                show(settings.tick)
            );
            for one in self.exemptions.iter() {
                let reason = one.reason.as_deref().unwrap_or("by the command line");
                log::info!("exempt: {} ({reason})", one.function);
            }
        }
        for warning in self.watching.warnings() {
            log::warn!("{warning}");
        }
    }

    /// Takes what waits, and does about it what is asked for.
    fn fetch(&mut self, output: &Output) -> Result<()> {
        self.watching.follow()?;
        let mut records: Vec<IrqsoffRecord> = Vec::new();
        self.watching.take_records(|record| records.push(*record));
        let tick_ns = ns(self.watching.settings().tick);
        let epoch = Epoch::now();
        for record in &records {
            if let Some(dump) = &mut self.dump {
                dump.picture.take(record);
            }
            let event = events::event(record, tick_ns, epoch, &mut self.naming, &self.exemptions)?;
            if let Some(event) = event {
                self.take(&event, tick_ns, output)?;
            }
        }
        self.finish_dump()?;
        for warning in self.watching.warnings() {
            log::warn!("{warning}");
        }
        Ok(())
    }

    fn take(&mut self, event: &Event, tick_ns: u64, output: &Output) -> Result<()> {
        let is_logged = event.kind.is_disablement()
            && event.exempt.is_none()
            && self.disposition != Disposition::Ignore;
        if self.self_test && event.kind == Kind::Disabled {
            let longest = self.noticed.as_ref().map_or(0, |event| event.least_ns);
            if event.least_ns > longest {
                self.noticed = Some(event.clone());
            }
        }
        // A self-test is to be seen whenever it is made.
        let admitted = is_logged && (self.self_test || self.limit.admit(event)?);
        self.logged += u64::from(admitted);
        self.suppressed += u64::from(is_logged && !admitted);
        let text = entry(event, tick_ns, &self.zone);
        match self.format {
            Format::Ndjson => self.send(output, line(&Line::Event(event))),
            Format::Text if admitted => self.send(output, format!("{text}\n").into()),
            Format::Text => {}
        }
        if !admitted {
            return Ok(());
        }
        match self.disposition {
            Disposition::Ignore | Disposition::Log => {}
            Disposition::Dump if self.dump.is_some() => {
                log::warn!("no state file for this one: another is being made");
            }
            Disposition::Dump => {
                self.watching.ask()?;
                self.dump = Some(Dump {
                    why: text,
                    time: event.time,
                    picture: Picture::default(),
                    until: Instant::now() + PICTURE,
                });
            }
            Disposition::Panic => {
                log::error!("{text}");
                crate::kernel::panic::panic().context("cannot panic the machine")?;
            }
        }
        Ok(())
    }

    fn finish_dump(&mut self) -> Result<()> {
        let cpus = self.watching.ticking();
        let is_over =
            |dump: &mut Dump| dump.picture.is_complete(&cpus) || Instant::now() >= dump.until;
        if let Some(dump) = self.dump.take_if(is_over) {
            let path = dump.picture.write(
                &self.dump_folder,
                &dump.why,
                dump.time,
                &cpus,
                &mut self.naming,
            )?;
            log::warn!("the state of the machine is in {}", path.display());
        }
        Ok(())
    }

    fn snapshot(&mut self, last: bool) -> Result<IrqsoffSnapshot> {
        self.interval += 1;
        let settings = self.watching.settings();
        let stats = self.watching.stats()?;
        let cpus: Vec<_> = settings
            .cpus
            .iter()
            .filter_map(|cpu| Some(counts(cpu, stats.get(cpu as usize)?)))
            .collect();
        let lost = cpus.iter().any(|cpu| cpu.records_lost > 0);
        if lost && !std::mem::replace(&mut self.lost_told, true) {
            log::warn!("some stretches are counted only: too many came at once to pass on each");
        }
        Ok(IrqsoffSnapshot {
            schema_version: IRQSOFF_SCHEMA_VERSION,
            time: Timestamp::now(),
            interval: self.interval,
            elapsed_ns: ns(self.began.elapsed()),
            last,
            tick_ns: ns(settings.tick),
            threshold_ns: settings.threshold.map(ns),
            logged: self.logged,
            suppressed: self.suppressed,
            cpus,
        })
    }

    fn interval(&self, snapshot: &IrqsoffSnapshot) -> Bytes {
        match self.format {
            Format::Ndjson => line(&Line::Snapshot(snapshot)),
            Format::Text => Bytes::new(),
        }
    }

    fn end(&self, snapshot: &IrqsoffSnapshot) -> Bytes {
        match self.format {
            Format::Ndjson => line(&Line::Snapshot(snapshot)),
            Format::Text => summary(snapshot).into(),
        }
    }

    fn send(&mut self, output: &Output, report: Bytes) {
        if output.send(report) == Sent::Full && !std::mem::replace(&mut self.left_out, true) {
            log::warn!("the reader of the reports does not keep up: some entries are left out");
        }
    }

    /// Whether the self-test was noticed as it should have been; says so.
    fn judge(&self, test: &SelfTest) -> ExitCode {
        let made = Duration::from_nanos(test.made_ns);
        let tick = self.watching.settings().tick;
        let Some(event) = &self.noticed else {
            log::error!(
                "self-test failed: interrupts were off on CPU {} for {}, and that was not noticed",
                test.cpu,
                show(made)
            );
            return ExitCode::from(UNNOTICED);
        };
        let right =
            event.cpu == test.cpu && Duration::from_nanos(event.least_ns).abs_diff(made) <= tick;
        if right {
            log::info!(
                "self-test passed: interrupts were off on CPU {} for {}, and that was noticed as at least {}",
                test.cpu,
                show(made),
                show(Duration::from_nanos(event.least_ns))
            );
            return ExitCode::SUCCESS;
        }
        log::error!(
            "self-test failed: interrupts were off on CPU {} for {}, and what was noticed is at least {} on CPU {}",
            test.cpu,
            show(made),
            show(Duration::from_nanos(event.least_ns)),
            event.cpu
        );
        ExitCode::from(UNNOTICED)
    }
}
