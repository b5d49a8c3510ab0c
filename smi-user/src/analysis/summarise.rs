//! From the lines of recordings to a [`Summary`], one line after the other.

mod remarks;
mod settings;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use thiserror::Error;

use super::{
    clock::Clock,
    events::Events,
    kept::Kept,
    limits::Limits,
    periods::{self, Sampling},
    smis::Smis,
    timeline::{self, Timeline, before},
    totals,
};
use crate::{
    model::{CauseStats, CpuSnapshot, Header, Interval, Period, PeriodSearch, Snapshot, Summary},
    recording::{Line, Remark},
    units::show,
};
use remarks::Remarks;
use settings::Settings;

/// Why there is no summary.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SummaryError {
    /// Nothing was recorded.
    #[error(
        "{0} holds no snapshot, so there is nothing to report; record for longer than one --interval"
    )]
    Empty(String),
    /// Gaps between the two were not recorded.
    #[error(
        "--hardlimit {} is below the threshold {} of {name}: gaps in between were dropped in the kernel and cannot be judged; give at least the threshold",
        show(Duration::from_nanos(*hardlimit_ns)), show(Duration::from_nanos(*threshold_ns))
    )]
    BelowThreshold {
        /// The recording.
        name: String,
        /// The limit asked for.
        hardlimit_ns: u64,
        /// The highest threshold in it.
        threshold_ns: u64,
    },
}

/// What tells one run from all others: when it began, and where.
type Run = (Timestamp, Option<String>);

/// Takes lines and adds them up.
pub struct Summariser {
    name: String,
    asked_limit_ns: Option<u64>,
    /// The first of all.
    header: Option<Header>,
    /// The run that goes on, where a header told it.
    run: Option<Run>,
    /// Runs that ended, and their last intervals.
    ended: BTreeMap<Run, u64>,
    /// The last interval of the run whose lines come although it ended.
    over: Option<u64>,
    interval_ns: Option<u64>,
    snapshots: u64,
    runs: u64,
    /// The snapshot before, of the run that goes on.
    last: Option<Box<Snapshot>>,
    /// The last one of the run that ended before.
    newest: Option<Box<Snapshot>>,
    finished: Vec<CpuSnapshot>,
    gaps_dropped: u64,
    settings: Settings,
    limits: Limits,
    smis: Smis,
    /// What needs to know when the recording began.
    series: Option<Series>,
    notes: Remarks,
}

struct Series {
    clock: Clock,
    timeline: Timeline,
    kept: Kept,
    events: Events,
}

/// What a snapshot is to the one before.
enum Comes {
    /// Of the same run, after it.
    On,
    /// Of the same run, and read before.
    Again,
    /// Of another run, whose header is not there.
    Anew,
}

impl Summariser {
    /// Nothing read yet. `hardlimit_ns` goes before the one in the recording.
    pub fn new(name: String, hardlimit_ns: Option<u64>) -> Self {
        Self {
            name,
            asked_limit_ns: hardlimit_ns,
            header: None,
            run: None,
            ended: BTreeMap::new(),
            over: None,
            interval_ns: None,
            snapshots: 0,
            runs: 0,
            last: None,
            newest: None,
            finished: Vec::new(),
            gaps_dropped: 0,
            settings: Settings::default(),
            limits: Limits::new(hardlimit_ns),
            smis: Smis::default(),
            series: None,
            notes: Remarks::default(),
        }
    }

    /// Takes the next line of `file`.
    pub fn add(&mut self, file: &str, line: Line) {
        match line {
            Line::Header(header) => self.header(*header),
            Line::Snapshot(snapshot) => self.snapshot(snapshot),
            Line::Torn { number, bytes } => self.notes.torn.add(|| {
                format!(
                    "line {number} of {file} is torn after {bytes} bytes: smilat was killed, or the disk full; the totals of \
                     the line after it include what it held"
                )
            }),
        }
    }

    /// Takes what the reader found to be missing. Missing snapshots are seen here, too, and told once.
    pub fn remark(&mut self, remark: &Remark) {
        if !matches!(remark, Remark::SnapshotsMissing { .. }) {
            self.notes.files.add(|| remark.to_string());
        }
    }

    fn header(&mut self, header: Header) {
        let run = (header.started, header.machine.hostname.clone());
        if self.run.as_ref() != Some(&run) {
            self.end_run();
            self.over = self.ended.get(&run).copied();
            if self.over.is_none() {
                self.notes.run(&header);
                self.limits.run(header.hardlimit_ns);
            }
            self.run = Some(run);
        }
        self.interval_ns = Some(header.interval_ns);
        self.header.get_or_insert(header);
    }

    fn comes(&self, snapshot: &Snapshot) -> Comes {
        let Some(last) = &self.last else {
            return Comes::On;
        };
        let same = snapshot.interval == last.interval && snapshot.elapsed_ns == last.elapsed_ns;
        // A run whose detector cannot go on ends with its last snapshot again.
        if same && snapshot.last && !last.last {
            return Comes::On;
        }
        let further = snapshot.interval > last.interval && snapshot.elapsed_ns >= last.elapsed_ns;
        if further && !last.last {
            Comes::On
        } else if self.run.is_some()
            && snapshot.interval <= last.interval
            && snapshot.time <= last.time
        {
            Comes::Again
        } else {
            Comes::Anew
        }
    }

    fn snapshot(&mut self, snapshot: Box<Snapshot>) {
        if let Some(reached) = self.over {
            if snapshot.interval <= reached {
                self.notes.twice += 1;
            } else {
                self.notes.late += 1;
            }
            return;
        }
        match self.comes(&snapshot) {
            Comes::On => {}
            Comes::Again => {
                self.notes.twice += 1;
                return;
            }
            Comes::Anew => {
                self.end_run();
                self.run = None;
            }
        }
        self.snapshots += 1;
        self.settings.look(&snapshot);
        let earlier = self.last.take();
        let interval_ns = self.interval(earlier.as_deref(), &snapshot);
        let series = self.series.get_or_insert_with(|| Series {
            clock: Clock::new(snapshot.time, interval_ns),
            timeline: Timeline::new(interval_ns),
            kept: Kept::default(),
            events: Events::new(),
        });
        let set = self.notes.look(earlier.as_deref(), &snapshot);
        if let Some(earlier) = &earlier {
            if set {
                series.clock.set(earlier.time, snapshot.time, interval_ns);
            }
            if earlier.detector.cpus != snapshot.detector.cpus {
                self.smis.others(earlier);
            }
        } else {
            self.runs += 1;
            if self.runs > 1 && series.clock.run(snapshot.time, interval_ns) {
                self.notes.overlaps(before(snapshot.time, interval_ns));
            }
        }
        let position = series.clock.snapshot(snapshot.time);
        // What a run had counted before the first line that is left of it is in the totals, but at no known time.
        if earlier.is_some() || snapshot.interval <= 1 {
            let after = earlier.as_ref().map_or(0, |earlier| earlier.interval);
            let missing = snapshot.interval > after + 1;
            let (counts, causes) = added(earlier.as_deref(), &snapshot, missing);
            series
                .timeline
                .add(position, interval_ns, !missing, &counts, &causes);
        }
        self.limits.add(&snapshot.gaps, &series.clock);
        series
            .kept
            .add(&snapshot.gaps, &series.timeline, &series.clock);
        if complete(earlier.as_deref(), &snapshot) {
            series.events.add(&snapshot.gaps, &series.clock);
        } else {
            self.notes.incomplete += 1;
        }
        self.last = Some(snapshot);
    }

    /// How long the interval was that ended with `snapshot`.
    fn interval(&self, earlier: Option<&Snapshot>, snapshot: &Snapshot) -> u64 {
        match earlier {
            Some(earlier) => snapshot.elapsed_ns - earlier.elapsed_ns,
            None if snapshot.interval <= 1 => snapshot.elapsed_ns,
            None => self
                .interval_ns
                .unwrap_or(snapshot.elapsed_ns / snapshot.interval.max(1)),
        }
    }

    fn end_run(&mut self) {
        let Some(last) = self.last.take() else { return };
        totals::add_run(&mut self.finished, &last.cpus);
        self.gaps_dropped += last.gaps_dropped;
        self.smis.end_run(&last);
        let threshold_ns = self.settings.end_run();
        self.limits.end_run(last.max_ns(), threshold_ns);
        if let Some(run) = &self.run {
            self.ended.insert(run.clone(), last.interval);
        }
        if !last.last {
            self.notes.cut.add(|| {
                format!(
                    "the run that was recorded until {:.0} has no last snapshot: it was killed, or still goes on",
                    last.time
                )
            });
        }
        self.newest = Some(last);
    }

    /// What all lines say together.
    ///
    /// # Errors
    /// When there was no snapshot, or the hardlimit asked for cannot be judged.
    pub fn finish(self) -> Result<Summary, SummaryError> {
        self.finish_with(|events, span_ns, samplings| {
            periods::find(events.finish(), span_ns, samplings)
        })
    }

    /// [`Self::finish`] without the search for fixed intervals, which takes most of a test's time.
    #[cfg(test)]
    pub(super) fn finish_quickly(self) -> Result<Summary, SummaryError> {
        self.finish_with(|_, _, _| (Vec::new(), None))
    }

    fn finish_with(
        mut self,
        search: impl FnOnce(Events, u64, &[Sampling]) -> (Vec<Period>, Option<PeriodSearch>),
    ) -> Result<Summary, SummaryError> {
        self.end_run();
        let (Some(newest), Some(series), Some(threshold_range_ns)) = (
            self.newest.take(),
            self.series.take(),
            self.settings.thresholds_ns,
        ) else {
            return Err(SummaryError::Empty(self.name));
        };
        if let Some(hardlimit_ns) = self
            .asked_limit_ns
            .filter(|limit| *limit < threshold_range_ns.1)
        {
            return Err(SummaryError::BelowThreshold {
                name: self.name,
                hardlimit_ns,
                threshold_ns: threshold_range_ns.1,
            });
        }
        let all = Snapshot {
            cpus: self.finished,
            ..*newest
        };
        let clock = series.clock;
        let span_ns = clock.reached_ns();
        let (gaps, gaps_left_out) = series.kept.finish(&series.timeline, &clock);
        let (periods, periods_searched) = search(series.events, span_ns, &self.settings.samplings);
        let mut remarks = Vec::new();
        self.notes.finish(self.snapshots, &mut remarks);
        let verdict = self.limits.finish(&clock, &mut remarks);
        remarks::counts_of(&all, self.gaps_dropped, &mut remarks);
        Ok(Summary {
            name: self.name,
            header: self.header,
            threshold_range_ns,
            gap_kinds_mixed: self.settings.mixes_gap_kinds(),
            began: clock.began(),
            ended: clock.time(i128::from(span_ns)),
            snapshots: self.snapshots,
            runs: self.runs,
            total: all.total(),
            causes: all.causes(),
            smis: self.smis.sum(),
            timeline: series.timeline.finish(clock.began(), span_ns),
            gaps,
            gaps_left_out,
            periods,
            periods_searched,
            verdict,
            remarks,
            detector: all.detector,
            attribution: all.attribution,
            cpus: all.cpus,
        })
    }
}

/// What all CPUs added from `earlier` on; lines between may be `missing`.
fn added(
    earlier: Option<&Snapshot>,
    snapshot: &Snapshot,
    missing: bool,
) -> (Interval, Vec<CauseStats>) {
    let mut counts = Interval::default();
    let mut causes = Vec::new();
    for (at, cpu) in snapshot.cpus.iter().enumerate() {
        let before = earlier.and_then(|earlier| {
            // Nearly always at the same place.
            earlier
                .cpus
                .get(at)
                .filter(|then| then.cpu == cpu.cpu)
                .or_else(|| earlier.cpus.iter().find(|then| then.cpu == cpu.cpu))
        });
        let since = timeline::since(cpu, before, missing);
        for cause in timeline::causes_since(cpu, before, &since, &snapshot.gaps) {
            cause.add_to(&mut causes);
        }
        counts.add(&since);
    }
    (counts, causes)
}

/// Whether `snapshot` holds every gap that came since `earlier` singly.
fn complete(earlier: Option<&Snapshot>, snapshot: &Snapshot) -> bool {
    let kept_back = |snapshot: &Snapshot| {
        snapshot.sum(|cpu| cpu.records.limited + cpu.records.lost) + snapshot.gaps_dropped
    };
    kept_back(snapshot) == earlier.map_or(0, kept_back)
}

#[cfg(test)]
mod tests;
