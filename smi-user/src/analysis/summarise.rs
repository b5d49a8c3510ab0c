//! From the lines of recordings to a [`Summary`], one line after the other.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::{
    events::Events,
    kept::Kept,
    notes::Notes,
    periods,
    timeline::{self, Timeline, before, ns_between},
    totals,
};
use crate::{
    model::{
        CauseStats, CpuSnapshot, DetectorInfo, Gap, GapKind, Header, Interval, Snapshot, Summary,
        Verdict,
    },
    recording::{Line, Remark},
    units::{show, show_ns},
};

/// Wall clock and time since start differ by more only when somebody set the clock.
const CLOCK_SET_NS: u64 = 1_000_000_000;
/// More windows skipped than one in so many are worth a remark.
const SKIPPED: u64 = 20;

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

/// Takes lines and adds them up.
pub struct Summariser {
    name: String,
    asked_limit_ns: Option<u64>,
    header: Option<Header>,
    started: Option<Timestamp>,
    interval_ns: Option<u64>,
    snapshots: u64,
    runs: u64,
    ended: Option<Timestamp>,
    /// The snapshot before, of the run that goes on.
    last: Option<Box<Snapshot>>,
    finished: Vec<CpuSnapshot>,
    gaps_dropped: u64,
    highest_threshold_ns: u64,
    over: u64,
    /// What needs to know when the recording began.
    series: Option<Series>,
    notes: Remarks,
}

struct Series {
    timeline: Timeline,
    kept: Kept,
    events: Events,
}

/// What went wrong, or changed.
#[derive(Default)]
struct Remarks {
    torn: Notes,
    files: Notes,
    settings: Notes,
    clock: Notes,
    cut: Notes,
    before: Notes,
    missing: u64,
    incomplete: u64,
}

impl Summariser {
    /// Nothing read yet. `hardlimit_ns` goes before the one in the recording.
    pub fn new(name: String, hardlimit_ns: Option<u64>) -> Self {
        Self {
            name,
            asked_limit_ns: hardlimit_ns,
            header: None,
            started: None,
            interval_ns: None,
            snapshots: 0,
            runs: 0,
            ended: None,
            last: None,
            finished: Vec::new(),
            gaps_dropped: 0,
            highest_threshold_ns: 0,
            over: 0,
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
        if self
            .started
            .is_some_and(|started| started != header.started)
        {
            self.end_run();
        }
        self.started = Some(header.started);
        self.interval_ns = Some(header.interval_ns);
        self.header.get_or_insert(header);
    }

    fn snapshot(&mut self, snapshot: Box<Snapshot>) {
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.last || snapshot.elapsed_ns < last.elapsed_ns)
        {
            self.end_run();
        }
        self.snapshots += 1;
        self.highest_threshold_ns = self
            .highest_threshold_ns
            .max(snapshot.detector.threshold_ns);
        let earlier = self.last.take();
        let interval_ns = self.interval(earlier.as_deref(), &snapshot);
        let series = self.series.get_or_insert_with(|| {
            let began = before(snapshot.time, interval_ns);
            Series {
                timeline: Timeline::new(began, interval_ns),
                kept: Kept::default(),
                events: Events::new(began),
            }
        });
        if earlier.is_none() {
            self.runs += 1;
        }
        self.notes.look(earlier.as_deref(), &snapshot);
        // What a run had counted before the first line that is left of it is in the totals, but at no known time.
        if earlier.is_some() || snapshot.interval <= 1 {
            let (counts, causes) = added(earlier.as_deref(), &snapshot);
            series
                .timeline
                .add(snapshot.time, interval_ns, &counts, &causes);
        }
        if let Some(limit) = limit(self.asked_limit_ns, self.header.as_ref()) {
            self.over += snapshot
                .gaps
                .iter()
                .filter(|gap| gap.duration_ns > limit)
                .count() as u64;
        }
        series.kept.add(&snapshot.gaps, &series.timeline);
        if complete(earlier.as_deref(), &snapshot) {
            series.events.add(&snapshot.gaps);
        } else {
            self.notes.incomplete += 1;
        }
        self.ended = self.ended.max(Some(snapshot.time));
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
        if !last.last {
            self.notes.cut.add(|| {
                format!(
                    "the run that was recorded until {:.0} has no last snapshot: it was killed, or still goes on",
                    last.time
                )
            });
        }
    }

    /// What all lines say together.
    ///
    /// # Errors
    /// When there was no snapshot, or the hardlimit asked for cannot be judged.
    pub fn finish(mut self) -> Result<Summary, SummaryError> {
        let (Some(last), Some(series), Some(ended)) =
            (self.last.clone(), self.series.take(), self.ended)
        else {
            return Err(SummaryError::Empty(self.name));
        };
        self.end_run();
        if let Some(hardlimit_ns) = self
            .asked_limit_ns
            .filter(|limit| *limit < self.highest_threshold_ns)
        {
            return Err(SummaryError::BelowThreshold {
                name: self.name,
                hardlimit_ns,
                threshold_ns: self.highest_threshold_ns,
            });
        }
        let all = Snapshot {
            cpus: self.finished,
            ..*last
        };
        let total = all.total();
        let began = series.timeline.began();
        let (gaps, gaps_left_out) = series.kept.finish(&series.timeline);
        let (periods, periods_searched) = periods::find(
            series.events.finish(),
            ns_between(began, ended),
            &periods::Sampling::of(&all.detector, all.cpus.len()),
        );
        let mut remarks = Vec::new();
        self.notes.finish(self.snapshots, &mut remarks);
        counts_of(&all, self.gaps_dropped, &mut remarks);
        let limit = limit(self.asked_limit_ns, self.header.as_ref());
        Ok(Summary {
            verdict: limit.map(|limit| verdict(limit, &total, self.over, &gaps)),
            name: self.name,
            header: self.header,
            began,
            ended,
            snapshots: self.snapshots,
            runs: self.runs,
            total,
            causes: all.causes(),
            smis: all
                .cpus
                .iter()
                .filter_map(|cpu| Some(cpu.smis?.counted))
                .max(),
            timeline: series.timeline.finish(ended),
            gaps,
            gaps_left_out,
            periods,
            periods_searched,
            remarks,
            detector: all.detector,
            attribution: all.attribution,
            cpus: all.cpus,
        })
    }
}

impl Remarks {
    /// Looks at what changed from one snapshot to the next.
    fn look(&mut self, earlier: Option<&Snapshot>, snapshot: &Snapshot) {
        let Some(earlier) = earlier else {
            if snapshot.interval > 1 {
                self.before.add(|| {
                    format!(
                        "what is left of the run begins with interval {}: what came before is in the totals, but not on the \
                         time line",
                        snapshot.interval
                    )
                });
            }
            return;
        };
        self.missing += snapshot
            .interval
            .saturating_sub(earlier.interval)
            .saturating_sub(1);
        let (was, is) = (settings(&earlier.detector), settings(&snapshot.detector));
        if was != is {
            self.settings.add(|| {
                format!(
                    "settings changed at {:.0}: {was} before, {is} after",
                    snapshot.time
                )
            });
        }
        let elapsed = snapshot.elapsed_ns - earlier.elapsed_ns;
        let forward = ns_between(earlier.time, snapshot.time);
        let backward = ns_between(snapshot.time, earlier.time);
        if forward.abs_diff(elapsed) > CLOCK_SET_NS || backward > 0 {
            self.clock.add(|| {
                format!(
                    "the wall clock was set between {:.0} and {:.0}: times before and after do not fit together",
                    earlier.time, snapshot.time
                )
            });
        }
    }

    fn finish(self, snapshots: u64, remarks: &mut Vec<String>) {
        self.torn.finish("torn lines", remarks);
        self.files.finish("missing or damaged files", remarks);
        self.before
            .finish("runs whose beginning is missing", remarks);
        self.cut.finish("runs without a last snapshot", remarks);
        self.settings.finish("changes of settings", remarks);
        self.clock.finish("times the clock was set", remarks);
        if self.missing > 0 {
            remarks.push(format!(
                "{} snapshots are missing: what they counted is in the next one, the single gaps they held are lost",
                self.missing
            ));
        }
        if self.incomplete > 0 {
            remarks.push(format!(
                "not all gaps were passed on singly in {} of {snapshots} intervals: fixed intervals were looked for in \
                 the others",
                self.incomplete
            ));
        }
    }
}

/// Remarks on the whole.
fn counts_of(all: &Snapshot, dropped: u64, remarks: &mut Vec<String>) {
    let limited = all.sum(|cpu| cpu.records.limited);
    let lost = all.sum(|cpu| cpu.records.lost) + dropped;
    if limited + lost > 0 {
        remarks.push(format!(
            "single gaps not passed on: {limited} above --max-gap-records, {lost} for lack of room; all are counted"
        ));
    }
    let scheduled = all.sum(|cpu| cpu.windows.scheduled);
    let skipped = all.sum(|cpu| cpu.windows.skipped);
    if skipped > scheduled / SKIPPED {
        remarks.push(format!(
            "{skipped} of {scheduled} windows were skipped ({:.0} %): the CPUs were offline or gave no time",
            skipped as f64 / scheduled as f64 * 100.0
        ));
    }
    if all.detector.gap_kind == GapKind::WindowMax {
        remarks.push(
            "each gap is the longest of its window (hwlat): there may be more gaps than were counted"
                .to_owned(),
        );
    }
    let went_back = all.sum(|cpu| cpu.stretches.clock_went_back);
    if went_back > 0 {
        remarks.push(format!(
            "the CPUs' clock went back {went_back} times: gaps near those moments are in doubt"
        ));
    }
    if all.cpus.iter().all(|cpu| cpu.exposure_ns == 0) {
        remarks.push("no window was sampled, so nothing is known of gaps".to_owned());
    }
}

/// What decides which gaps are seen, in words.
fn settings(detector: &DetectorInfo) -> String {
    format!(
        "{}, threshold {}, {} of every {}, mode {}, CPU {}",
        detector.name,
        show_ns(detector.threshold_ns as f64),
        show_ns(detector.width_ns as f64),
        show_ns(detector.window_ns as f64),
        detector.mode,
        detector.cpus
    )
}

/// What all CPUs added from `earlier` on.
fn added(earlier: Option<&Snapshot>, snapshot: &Snapshot) -> (Interval, Vec<CauseStats>) {
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
        let since = timeline::since(cpu, before);
        for cause in timeline::causes_since(cpu, before, &since, &snapshot.gaps) {
            totals::add_cause(&mut causes, &cause);
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

fn limit(asked_ns: Option<u64>, header: Option<&Header>) -> Option<u64> {
    asked_ns.or_else(|| header?.hardlimit_ns)
}

fn verdict(hardlimit_ns: u64, total: &Interval, over: u64, gaps: &[Gap]) -> Verdict {
    Verdict {
        hardlimit_ns,
        max_ns: total.max_ns,
        exceeded: total.max_ns.is_some_and(|max| max > hardlimit_ns),
        over,
        worst: gaps
            .iter()
            .max_by_key(|gap| gap.duration_ns)
            .filter(|gap| gap.duration_ns > hardlimit_ns)
            .copied(),
    }
}

#[cfg(test)]
mod tests;
