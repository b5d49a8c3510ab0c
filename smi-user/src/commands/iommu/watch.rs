//! The watch: entries as things happen, a table each interval, the sum at the end.

use std::{collections::BTreeSet, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};
use tokio::time::Instant;

use super::super::{
    failures::together,
    listen::listen,
    messages,
    signals::Signals,
    times::{at, every},
    watch::{FETCH, explain},
};
use crate::{
    cli::{Format, WatchArgs},
    iommu::Collecting,
    kernel::memory,
    model::iommu::{IommuEvent, IommuSnapshot},
    output::{Ended, Output, Target},
    report::{
        Ndjson,
        iommu::{Line, entry, interval, summary},
    },
    serve::IommuPage,
    waiting::Sent,
};

/// Watches until the end that was asked for, or Ctrl-C.
///
/// # Errors
/// When it could not run, or not to the end.
pub(super) fn run(args: &WatchArgs) -> Result<ExitCode> {
    messages::init_for(&args.reports);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(watch(args))
}

async fn watch(args: &WatchArgs) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let target = Target::reach(args.reports.output.as_deref())?;
    let server = args
        .reports
        .listen
        .map(|address| listen(address, args.reports.interval, args.reports.quiet))
        .transpose()?;
    let started = Timestamp::now();
    let mut collecting = Collecting::start(&args.look, args.max_faults).map_err(explain)?;
    memory::give_back();
    if !args.reports.quiet {
        log::info!(
            "smilat {}: maps and unmaps of {} groups",
            env!("CARGO_PKG_VERSION"),
            collecting.topology().groups.len()
        );
        for source in collecting.fault_sources() {
            log::info!("{source}");
        }
    }
    // Only now: a run that could not start must not have emptied a file.
    let mut output = Output::begin(target)?;
    let mut written = Written {
        format: args.reports.format,
        zone: TimeZone::system(),
        told: BTreeSet::new(),
    };

    let end = args
        .reports
        .duration
        .map(|duration| Instant::now() + duration);
    let mut intervals = every(args.reports.interval);
    let mut fetches = every(FETCH);
    let failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            () = output.ended() => break None,
            () = at(end) => break None,
            _ = intervals.tick() => {
                let snapshot = match collecting.snapshot(false) {
                    Ok(snapshot) => snapshot,
                    Err(error) => break Some(error),
                };
                let text = written.interval(&snapshot);
                // First: who reads the line may ask for the page of it.
                if let Some(server) = &server {
                    server.publish(Arc::new(IommuPage { started, snapshot }));
                }
                written.send(&output, text);
            }
            _ = fetches.tick() => {
                if let Err(error) = written.fetch(&mut collecting, &output) {
                    break Some(error);
                }
            }
        }
    };
    let last = written.fetch(&mut collecting, &output);
    let snapshot = collecting.snapshot(true);
    // What the last snapshot raised.
    let alarms = written.fetch(&mut collecting, &output);
    let report = snapshot
        .as_ref()
        .map_or_else(|_| Bytes::new(), |snapshot| written.end(snapshot));
    let ended = tokio::select! {
        ended = output.finish(report) => ended,
        () = signals.next() => Ok(Ended::ReaderGone),
    };
    let status = if collecting.has_alarmed() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    };
    let failures = [
        failure,
        last.err(),
        snapshot.err(),
        alarms.err(),
        ended.err(),
    ];
    together(failures).map_or(Ok(status), Err)
}

/// How it is written.
struct Written {
    format: Format,
    zone: TimeZone,
    /// What the user was warned of; once is enough.
    told: BTreeSet<String>,
}

impl Written {
    /// Takes what happened and writes it.
    fn fetch(&mut self, collecting: &mut Collecting, output: &Output) -> Result<()> {
        for event in collecting.fetch()? {
            let text = self.event(&event);
            self.send(output, text);
        }
        for warning in collecting.warnings() {
            self.warn(&warning);
        }
        Ok(())
    }

    fn event(&self, event: &IommuEvent) -> Bytes {
        match self.format {
            Format::Ndjson => Ndjson::line(&Line::Event(event)),
            Format::Text => entry(event, &self.zone).into(),
        }
    }

    fn interval(&mut self, snapshot: &IommuSnapshot) -> Bytes {
        if snapshot.records_lost > 0 {
            self.warn(
                "some of what happened is counted only: too much came at once to pass on each",
            );
        }
        match self.format {
            Format::Ndjson => Ndjson::line(&Line::Snapshot(snapshot)),
            Format::Text => interval(snapshot, &self.zone).into(),
        }
    }

    fn end(&self, snapshot: &IommuSnapshot) -> Bytes {
        match self.format {
            Format::Ndjson => Ndjson::line(&Line::Snapshot(snapshot)),
            Format::Text => summary(snapshot).into(),
        }
    }

    fn send(&mut self, output: &Output, report: Bytes) {
        if output.send(report) == Sent::Full {
            self.warn("the reader of the reports does not keep up: some entries are left out");
        }
    }

    fn warn(&mut self, of: &str) {
        if self.told.insert(of.to_owned()) {
            log::warn!("{of}");
        }
    }
}
