//! The watch, and what is written of it.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};
use smi_common::irqsoff::{IrqsoffRecord, Kind};
use tokio::time::Instant;

use super::{super::watch::explain, asked::Asked};
use crate::{
    cli::{Disposition, Format, IrqsoffArgs},
    irqsoff::{Exemptions, Limit, Picture, Watching, counts, events},
    kernel::{clock::Epoch, naming::Naming, panic},
    model::irqsoff::{CpuCounts, Event, IRQSOFF_SCHEMA_VERSION, IrqsoffSnapshot},
    output::Output,
    report::{
        Ndjson,
        irqsoff::{Line, entry, summary},
    },
    units::{ns, show},
    waiting::Sent,
};

/// How long a CPU may take to tell what it does.
const PICTURE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Journal {
    pub(super) watching: Watching,
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
    /// What the user was warned of; once is enough.
    warned: BTreeSet<String>,
    /// A state file that is being made.
    dump: Option<Dump>,
    /// The longest stretch with interrupts off that was found, for a self-test.
    pub(super) noticed: Option<Event>,
    self_test: bool,
}

/// A state file that waits for the CPUs to tell what they do.
struct Dump {
    why: String,
    time: Timestamp,
    picture: Picture,
    until: Instant,
}

impl Journal {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub(super) fn new(args: &IrqsoffArgs, asked: Asked) -> Result<Self> {
        if args.disposition == Disposition::Dump {
            let folder = &args.dump_folder;
            fs::create_dir_all(folder)
                .and_then(|()| tempfile::tempfile_in(folder))
                .with_context(|| {
                    format!(
                        "cannot write to {}; choose another --dump-folder",
                        folder.display()
                    )
                })?;
        }
        let watching =
            Watching::start(asked.settings, &asked.exemptions, args.counter).map_err(explain)?;
        Ok(Self {
            watching,
            exemptions: asked.exemptions,
            limit: asked.limit,
            naming: Naming::default(),
            disposition: args.disposition,
            dump_folder: args.dump_folder.clone(),
            format: args.reports.format,
            zone: TimeZone::system(),
            began: Instant::now(),
            interval: 0,
            logged: 0,
            suppressed: 0,
            warned: BTreeSet::new(),
            dump: None,
            noticed: None,
            self_test: asked.self_test.is_some(),
        })
    }

    /// Says what is about to be done, and what it costs.
    pub(super) fn tell_plan(&mut self, args: &IrqsoffArgs) {
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
        if !args.reports.quiet {
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
    ///
    /// # Errors
    /// When it cannot be taken, or what is asked for cannot be done.
    pub(super) fn fetch(&mut self, output: &Output) -> Result<()> {
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
        self.finish_dump();
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
        let admitted = is_logged && (self.self_test || self.limit.admits(event));
        if admitted
            && !self.self_test
            && let Err(error) = self.limit.add(event)
        {
            self.warn(&format!("{:#}", anyhow::Error::new(error)));
        }
        self.logged += u64::from(admitted);
        self.suppressed += u64::from(is_logged && !admitted);
        let text = entry(event, tick_ns, &self.zone);
        match self.format {
            Format::Ndjson => self.send(output, Ndjson::line(&Line::Event(event))),
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
                panic::panic().context("cannot panic the machine")?;
            }
        }
        Ok(())
    }

    fn finish_dump(&mut self) {
        let cpus = self.watching.ticking();
        let is_over =
            |dump: &mut Dump| dump.picture.is_complete(&cpus) || Instant::now() >= dump.until;
        if let Some(dump) = self.dump.take_if(is_over) {
            let written = dump.picture.write(
                &self.dump_folder,
                &dump.why,
                dump.time,
                &cpus,
                &mut self.naming,
            );
            // A full disk is no reason to look no longer.
            match written {
                Ok(path) => log::warn!("the state of the machine is in {}", path.display()),
                Err(error) => log::error!("the state of the machine is lost: {error:#}"),
            }
        }
    }

    /// Whether a state file is being made.
    pub(super) fn is_dumping(&self) -> bool {
        self.dump.is_some()
    }

    /// All that was counted so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn snapshot(&mut self, last: bool) -> Result<IrqsoffSnapshot> {
        self.interval += 1;
        let settings = self.watching.settings();
        let (tick_ns, threshold_ns) = (ns(settings.tick), settings.threshold.map(ns));
        let stats = self.watching.stats()?;
        let cpus: Vec<_> = settings
            .cpus
            .iter()
            .filter_map(|cpu| Some(counts(cpu, stats.get(cpu as usize)?)))
            .collect();
        let any = |of: fn(&CpuCounts) -> u64| cpus.iter().any(|cpu| of(cpu) > 0);
        if any(|cpu| cpu.smis_unread) {
            self.warn(
                "the counter of SMIs could not be read at some ticks: one that an SMI made late counts as interrupts off there",
            );
        }
        if any(|cpu| cpu.records_lost) {
            self.warn("some stretches are counted only: too many came at once to pass on each");
        }
        Ok(IrqsoffSnapshot {
            schema_version: IRQSOFF_SCHEMA_VERSION,
            time: Timestamp::now(),
            interval: self.interval,
            elapsed_ns: ns(self.began.elapsed()),
            last,
            tick_ns,
            threshold_ns,
            logged: self.logged,
            suppressed: self.suppressed,
            cpus,
        })
    }

    /// What is reported at the end of an interval.
    pub(super) fn interval(&self, snapshot: &IrqsoffSnapshot) -> Bytes {
        match self.format {
            Format::Ndjson => Ndjson::line(&Line::Snapshot(snapshot)),
            Format::Text => Bytes::new(),
        }
    }

    /// What is reported at the end.
    pub(super) fn end(&self, snapshot: &IrqsoffSnapshot) -> Bytes {
        match self.format {
            Format::Ndjson => Ndjson::line(&Line::Snapshot(snapshot)),
            Format::Text => summary(snapshot).into(),
        }
    }

    /// Hands over a report.
    pub(super) fn send(&mut self, output: &Output, report: Bytes) {
        if output.send(report) == Sent::Full {
            self.warn("the reader of the reports does not keep up: some entries are left out");
        }
    }

    fn warn(&mut self, of: &str) {
        if self.warned.insert(of.to_owned()) {
            log::warn!("{of}");
        }
    }
}
