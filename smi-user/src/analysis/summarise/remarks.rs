//! What the reader of a summary should know before trusting it.

use jiff::Timestamp;

use super::super::{
    clock::SET_NS,
    compare::{differ, machines},
    notes::Notes,
    timeline::ns_between,
};
use crate::{
    model::{DetectorInfo, GapKind, Header, Snapshot},
    units::show_ns,
};

/// More windows skipped than one in so many are worth a remark.
const SKIPPED: u64 = 20;

/// What went wrong, or changed.
#[derive(Default)]
pub(super) struct Remarks {
    pub(super) torn: Notes,
    pub(super) files: Notes,
    pub(super) cut: Notes,
    settings: Notes,
    machines: Notes,
    clock: Notes,
    before: Notes,
    /// Settings and machine as they were before.
    detector: Option<DetectorInfo>,
    header: Option<Header>,
    missing: u64,
    pub(super) incomplete: u64,
    /// Snapshots that were there already.
    pub(super) twice: u64,
    /// Snapshots of a run that come after another run began.
    pub(super) late: u64,
}

impl Remarks {
    /// Another run begins.
    pub(super) fn run(&mut self, header: &Header) {
        if let Some(was) = &self.header {
            for (what, was, is) in machines(&was.machine, &header.machine) {
                if was != is {
                    self.machines.add(|| {
                        format!(
                            "from the run of {:.0} on, {}",
                            header.started,
                            differ(what, was, is)
                        )
                    });
                }
            }
        }
        self.header = Some(header.clone());
    }

    /// A run's clock has it begin before the one before ended.
    pub(super) fn overlaps(&mut self, began: Timestamp) {
        self.clock.add(|| {
            format!(
                "a run begins at {began:.0} by its clock, before the one before it ended: it is shown after that one, and \
                 its gaps' times are of there"
            )
        });
    }

    /// Looks at what changed from one snapshot to the next. True where the wall clock was set.
    pub(super) fn look(&mut self, earlier: Option<&Snapshot>, snapshot: &Snapshot) -> bool {
        let set = self
            .detector
            .as_ref()
            .is_some_and(|was| !same(was, &snapshot.detector));
        if set && let Some(was) = &self.detector {
            let (was, is) = (settings(was), settings(&snapshot.detector));
            self.settings.add(|| {
                format!(
                    "settings changed at {:.0}: {was} before, {is} after",
                    snapshot.time
                )
            });
        }
        if set || self.detector.is_none() {
            self.detector = Some(snapshot.detector.clone());
        }
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
            return false;
        };
        self.missing += snapshot
            .interval
            .saturating_sub(earlier.interval)
            .saturating_sub(1);
        let elapsed = snapshot.elapsed_ns - earlier.elapsed_ns;
        let forward = ns_between(earlier.time, snapshot.time);
        let backward = ns_between(snapshot.time, earlier.time);
        let clock = if backward > 0 {
            backward + elapsed > SET_NS
        } else {
            forward.abs_diff(elapsed) > SET_NS
        };
        if clock {
            self.clock.add(|| {
                format!(
                    "the wall clock was set between {:.0} and {:.0}, or the machine slept: docs/report.md says where the time \
                     before is shown",
                    earlier.time, snapshot.time
                )
            });
        }
        clock
    }

    /// All of them.
    pub(super) fn finish(self, snapshots: u64, remarks: &mut Vec<String>) {
        self.torn.finish("torn lines", remarks);
        self.files.finish("missing or damaged files", remarks);
        self.before
            .finish("runs whose beginning is missing", remarks);
        self.cut.finish("runs without a last snapshot", remarks);
        self.settings.finish("changes of settings", remarks);
        self.machines.finish("differences of machines", remarks);
        self.clock.finish("times the clock was set", remarks);
        if self.twice > 0 {
            remarks.push(format!(
                "{} snapshots were given twice, in copies of a file or of a part of it: they count once",
                self.twice
            ));
        }
        if self.late > 0 {
            remarks.push(format!(
                "{} snapshots are not counted: they are of a run that goes on after another one began; name the files of each \
                 run in their order",
                self.late
            ));
        }
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
pub(super) fn counts_of(all: &Snapshot, dropped: u64, remarks: &mut Vec<String>) {
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

/// Whether the same gaps are seen.
pub(super) fn same(was: &DetectorInfo, is: &DetectorInfo) -> bool {
    let of = |detector: &DetectorInfo| {
        (
            detector.gap_kind,
            detector.threshold_ns,
            detector.width_ns,
            detector.window_ns,
            detector.mode,
        )
    };
    of(was) == of(is) && was.name == is.name && was.cpus == is.cpus
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
