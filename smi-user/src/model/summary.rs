//! What recordings say, ready to be rendered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Attribution, Cause, CauseStats, CpuSnapshot, DetectorInfo, Gap, Header, Interval};

/// What one recording says: one run, or several of the same machine one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The files it was read from.
    pub name: String,
    /// The first header in them; `None` for plain NDJSON without one. What the headers of further runs say otherwise is in
    /// `remarks`.
    pub header: Option<Header>,
    /// What found the gaps, as set at the end.
    pub detector: DetectorInfo,
    /// What proved their causes, at the end.
    pub attribution: Attribution,
    /// The lowest and the highest threshold that was set: gaps between the two were counted for a part of the time only.
    pub threshold_range_ns: (u64, u64),
    /// Whether it counts every gap for a part of the time, and the longest of each window for another.
    pub gap_kinds_mixed: bool,
    /// When the first interval began.
    pub began: Timestamp,
    /// When the last snapshot was taken.
    pub ended: Timestamp,
    /// Snapshots read.
    pub snapshots: u64,
    /// Runs of smilat in it: more than 1 when it was started again.
    pub runs: u64,
    /// All CPUs together.
    pub total: Interval,
    /// All CPUs' gaps by cause, the most frequent first.
    pub causes: Vec<CauseStats>,
    /// Totals of each CPU, ascending.
    pub cpus: Vec<CpuSnapshot>,
    /// SMIs counted: the highest of all CPUs, since most stop all of them, added up where CPUs were watched one after the
    /// other; `None` without a counter.
    pub smis: Option<u64>,
    /// The time from `began` to `ended` in slots of equal length.
    pub timeline: Vec<Slot>,
    /// Single gaps, oldest first: the longest of each slot where there were too many to keep.
    pub gaps: Vec<Gap>,
    /// Single gaps in the recording that are not in `gaps`.
    pub gaps_left_out: u64,
    /// Fixed intervals at which gaps came, the surest first.
    pub periods: Vec<Period>,
    /// Where fixed intervals were looked for; `None` where there were too few single gaps.
    #[serde(default)]
    pub periods_searched: Option<PeriodSearch>,
    /// How it stands against the hardlimit; `None` without one. Of runs that had different ones, each held against its own,
    /// the one whose longest gap stands worst.
    pub verdict: Option<Verdict>,
    /// What the reader should know before trusting the rest: torn lines, missing parts, records dropped.
    pub remarks: Vec<String>,
}

/// One piece of the time line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// When it began.
    pub began: Timestamp,
    /// How long it is.
    pub length_ns: u64,
    /// All CPUs' gaps and exposure in it. Of lines that are missing, both are in the slot of the next line.
    pub counts: Interval,
    /// The gaps by cause.
    pub causes: Vec<CauseStats>,
}

/// Where fixed intervals were looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeriodSearch {
    /// The shortest interval tried.
    pub shortest_ns: f64,
    /// The longest.
    pub longest_ns: f64,
    /// Events looked at: single gaps, those of several CPUs at the same moment taken together.
    pub events: u64,
}

/// A fixed interval at which gaps came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Period {
    /// Which gaps: those of this cause, or all.
    pub cause: Option<Cause>,
    /// Of them, only those longer than this.
    #[serde(default)]
    pub longer_than_ns: Option<u64>,
    /// From one gap to the next, in ns.
    pub interval_ns: f64,
    /// Half the width of the peak: how far the interval may be off, in ns.
    pub uncertainty_ns: f64,
    /// Events among which it was found, those that are not of its source included.
    pub gaps: u64,
    /// How well they keep time: length of their mean phase vector, 0 (no rhythm) to 1 (a perfect clock).
    pub coherence: f64,
    /// Probability that gaps without any rhythm look at least as regular, all intervals that were tried considered.
    pub p_value: f64,
}

/// How a recording stands against a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The limit.
    pub hardlimit_ns: u64,
    /// The longest gap that was held against it.
    pub max_ns: Option<u64>,
    /// Whether it exceeded the limit.
    pub exceeded: bool,
    /// Single gaps in the recording that exceeded the limit they were held against; more may have been counted only.
    pub over: u64,
    /// The longest of them, where it was recorded singly.
    pub worst: Option<Gap>,
}

/// How one recording differs from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the one that came first.
    pub before: String,
    /// Name of the other.
    pub after: String,
    /// All gaps, and those of each cause that either has.
    pub rows: Vec<Difference>,
    /// What makes the two hard to compare: other thresholds, detectors, machines.
    pub remarks: Vec<String>,
}

/// How the gaps of one cause differ between two recordings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Which gaps: those of this cause, or all.
    pub cause: Option<Cause>,
    /// Gaps a second of exposure before; `None` without exposure. This and all that follows is of the time line, without
    /// what a run had counted before the first line that is left of it.
    pub rate_before: Option<f64>,
    /// The same after.
    pub rate_after: Option<f64>,
    /// `rate_after / rate_before`; `None` where there were none before.
    pub ratio: Option<f64>,
    /// The 95 % confidence interval of `ratio`.
    pub ratio_range: Option<(f64, f64)>,
    /// Probability that rates without any difference come out at least this far apart; `None` where it cannot be told.
    pub rate_p_value: Option<f64>,
    /// Whether the rates differ by more than chance: `rate_p_value` is below 0.01 after Holm's correction for all rows and
    /// both questions. `None` where it cannot be told.
    #[serde(default)]
    pub rate_differs: Option<bool>,
    /// Median and 99th percentile of the durations in ns, before.
    pub p50_p99_before: Option<(f64, f64)>,
    /// The same after.
    pub p50_p99_after: Option<(f64, f64)>,
    /// Longest before, in ns.
    pub max_before: Option<u64>,
    /// Longest after, in ns.
    pub max_after: Option<u64>,
    /// Probability that durations without any difference come out at least this different; `None` where it cannot be told.
    pub duration_p_value: Option<f64>,
    /// Whether the durations differ by more than chance, as `rate_differs`.
    #[serde(default)]
    pub durations_differ: Option<bool>,
}
