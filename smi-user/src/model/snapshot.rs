//! One reading of all maps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Attribution, Cause, CauseStats, Histogram, OwnCost, SmiCost, SmiCounts, StealCounts};
use crate::settings::Mode;

/// Version of the snapshot's JSON; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Totals since start, per CPU. One line of NDJSON; every field is explained in `docs/ndjson.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// When it was taken.
    pub time: Timestamp,
    /// Time since the first window could open.
    pub elapsed_ns: u64,
    /// Number of the interval that ended with this snapshot, from 1.
    pub interval: u64,
    /// Whether no further snapshot follows.
    pub last: bool,
    /// What finds the gaps, and how it was set.
    pub detector: DetectorInfo,
    /// What proves the gaps' causes.
    pub attribution: Attribution,
    /// What smilat itself costs.
    #[serde(default)]
    pub own_cost: OwnCost,
    /// The watched CPUs, ascending.
    pub cpus: Vec<CpuSnapshot>,
    /// Single gaps that ended since the snapshot before, oldest first, as far as the rate limit let them through.
    pub gaps: Vec<Gap>,
    /// Single gaps since start that were given up because too many waited for a snapshot.
    pub gaps_dropped: u64,
    /// Snapshots before this one that are missing in the run's recording, or not surely on its disk; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_lost: Option<u64>,
}

/// What finds the gaps, and how it was set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectorInfo {
    /// Its name.
    pub name: String,
    /// What its gaps are.
    pub gap_kind: GapKind,
    /// A gap shorter than this was dropped in the kernel.
    pub threshold_ns: u64,
    /// Time spent sampling in a window.
    pub width_ns: u64,
    /// From one window to the next, on average.
    pub window_ns: u64,
    /// Longest stretch with interrupts off.
    pub irqs_off_max_ns: u64,
    /// Which CPUs at a time.
    pub mode: Mode,
    /// The watched CPUs, in the kernel's list notation.
    pub cpus: String,
    /// Mean time of one step of the loop, measured before the first window.
    pub step_ns: f64,
    /// 99.99th percentile of the time of one step, measured before the first window.
    pub noise_floor_ns: u64,
}

/// What a detector's gaps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// Each is one gap.
    Gap,
    /// Each is the longest of a window; more may lie behind it.
    WindowMax,
}

/// What the records of a kernel tracer add up to; all zero for other detectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracerCounts {
    /// Steps of the tracer's loop above its threshold; hwlat's `count`, summed up.
    pub steps_over: u64,
    /// NMIs the tracer saw.
    pub nmi_count: u64,
    /// Time they took.
    pub nmi_ns: u64,
}

/// One CPU's part of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuSnapshot {
    /// Its number.
    pub cpu: u32,
    /// Time really spent sampling.
    pub exposure_ns: u64,
    /// Windows.
    pub windows: WindowCounts,
    /// Stretches.
    pub stretches: StretchCounts,
    /// Gaps.
    pub gaps: GapStats,
    /// What a kernel tracer says beside its gaps.
    pub tracer: TracerCounts,
    /// Single gaps sent to user space or not.
    pub records: RecordCounts,
    /// The gaps by duration.
    pub histogram: Histogram,
    /// The gaps by cause; each is in one of them.
    pub causes: Vec<CauseStats>,
    /// SMIs; `None` where nothing counts them.
    pub smis: Option<SmiCounts>,
    /// Steal; `None` where nothing tells it.
    pub steal: Option<StealCounts>,
    /// What SMIs cost it; only with `--smi-cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smi_cost: Option<SmiCost>,
}

/// Windows since start. One that is under way is not yet counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCounts {
    /// Those whose time had come: run and skipped together.
    pub scheduled: u64,
    /// Those sampled for at least half of their width.
    pub run: u64,
    /// Those missed, or cut short: the CPU went offline or gave no time.
    pub skipped: u64,
}

/// What the sampling threads count by themselves, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplerCounts {
    /// Windows.
    pub windows: WindowCounts,
    /// Stretches asked for and given up, because no interrupt came to run them.
    pub stretches_given_up: u64,
}

/// Stretches since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StretchCounts {
    /// Those asked for: run and skipped together.
    pub scheduled: u64,
    /// Those that read the clock.
    pub run: u64,
    /// Those whose timer fired after their window's end, or not in time.
    pub skipped: u64,
    /// Readings of the clock.
    pub steps: u64,
    /// Readings that lay before the preceding one; not gaps.
    pub clock_went_back: u64,
}

/// Gaps since start; durations are `None` while there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapStats {
    /// How many.
    pub count: u64,
    /// Sum of their durations.
    pub sum_ns: u64,
    /// The shortest.
    pub min_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
    /// The shortest of the interval that ended with this snapshot.
    pub interval_min_ns: Option<u64>,
    /// The longest of that interval.
    pub interval_max_ns: Option<u64>,
    /// The newest.
    pub last_ns: Option<u64>,
    /// When the newest ended.
    pub last_time: Option<Timestamp>,
}

/// What became of single gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCounts {
    /// Passed to user space.
    pub sent: u64,
    /// Kept back by the rate limit; counted in everything else.
    pub limited: u64,
    /// Lost because the ring buffer was full; counted in everything else.
    pub lost: u64,
}

/// A single gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// On which CPU.
    pub cpu: u32,
    /// When it ended.
    pub end_time: Timestamp,
    /// How long it was.
    pub duration_ns: u64,
    /// What is proven of its cause.
    pub cause: Cause,
    /// By how much the SMI counter moved across it.
    pub smis: u64,
    /// How long the hypervisor let something else have the CPU meanwhile, by its own account.
    pub steal_ns: u64,
    /// What else hwlat says of the window it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowRecord>,
}

/// What hwlat says of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRecord {
    /// The longest gap between the two readings of one step.
    pub inner_ns: u64,
    /// The longest gap between two steps.
    pub outer_ns: u64,
    /// Steps above the threshold.
    pub steps_over: u64,
    /// NMIs in the window.
    pub nmi_count: u64,
    /// Time they took.
    pub nmi_ns: u64,
}

/// What one CPU added in an interval.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Time really spent sampling.
    pub exposure_ns: u64,
    /// Gaps.
    pub count: u64,
    /// Sum of their durations.
    pub sum_ns: u64,
    /// The shortest.
    pub min_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
    /// The gaps by duration.
    pub histogram: Histogram,
}

impl CpuSnapshot {
    /// Everything since start, in the form of an interval.
    pub fn total(&self) -> Interval {
        Interval {
            exposure_ns: self.exposure_ns,
            count: self.gaps.count,
            sum_ns: self.gaps.sum_ns,
            min_ns: self.gaps.min_ns,
            max_ns: self.gaps.max_ns,
            histogram: self.histogram.clone(),
        }
    }

    /// What came since `earlier`, the snapshot of the same CPU one interval before.
    pub fn since(&self, earlier: &Self) -> Interval {
        Interval {
            exposure_ns: self.exposure_ns.saturating_sub(earlier.exposure_ns),
            count: self.gaps.count.saturating_sub(earlier.gaps.count),
            sum_ns: self.gaps.sum_ns.saturating_sub(earlier.gaps.sum_ns),
            min_ns: self.gaps.interval_min_ns,
            max_ns: self.gaps.interval_max_ns,
            histogram: self.histogram.since(&earlier.histogram),
        }
    }
}

impl Interval {
    /// Adds what another CPU added.
    pub fn add(&mut self, other: &Self) {
        self.exposure_ns += other.exposure_ns;
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.into_iter().chain(other.min_ns).min();
        self.max_ns = self.max_ns.max(other.max_ns);
        self.histogram.add(&other.histogram);
    }

    /// Gaps per second of exposure; `None` without exposure.
    pub fn rate(&self) -> Option<f64> {
        (self.exposure_ns > 0).then(|| self.count as f64 * 1e9 / self.exposure_ns as f64)
    }

    /// Mean duration in ns.
    pub fn mean_ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ns as f64 / self.count as f64)
    }

    /// [`Histogram::quantile`], kept between the shortest and the longest gap, which are known exactly.
    pub fn quantile_ns(&self, q: f64) -> Option<f64> {
        let estimate = self.histogram.quantile(q)?;
        let above = self.min_ns.map_or(estimate, |min| estimate.max(min as f64));
        Some(self.max_ns.map_or(above, |max| above.min(max as f64)))
    }
}

impl Snapshot {
    /// All CPUs together since start.
    pub fn total(&self) -> Interval {
        let mut all = Interval::default();
        for cpu in &self.cpus {
            all.add(&cpu.total());
        }
        all
    }

    /// The part of the CPU of that number.
    pub fn cpu(&self, number: u32) -> Option<&CpuSnapshot> {
        self.cpus.iter().find(|cpu| cpu.cpu == number)
    }

    /// A count of all CPUs together.
    pub fn sum(&self, of: impl Fn(&CpuSnapshot) -> u64) -> u64 {
        self.cpus.iter().map(of).sum()
    }

    /// All CPUs' gaps by cause, since start.
    pub fn causes(&self) -> Vec<CauseStats> {
        let mut all: Vec<CauseStats> = Vec::new();
        for one in self.cpus.iter().flat_map(|cpu| &cpu.causes) {
            one.add_to(&mut all);
        }
        all.sort_by_key(|stats| std::cmp::Reverse(stats.count));
        all
    }

    /// The longest gap since start.
    pub fn max_ns(&self) -> Option<u64> {
        self.cpus.iter().filter_map(|cpu| cpu.gaps.max_ns).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(durations: &[u64], exposure_ns: u64) -> Interval {
        Interval {
            exposure_ns,
            count: durations.len() as u64,
            sum_ns: durations.iter().sum(),
            min_ns: durations.iter().min().copied(),
            max_ns: durations.iter().max().copied(),
            histogram: durations.iter().copied().collect(),
        }
    }

    #[test]
    fn cpus_add_up_to_what_one_cpu_would_have_counted() {
        let mut sum = interval(&[100, 900], 1_000_000);
        sum.add(&interval(&[], 500_000));
        sum.add(&interval(&[50, 2_000], 500_000));
        assert_eq!(sum, interval(&[100, 900, 50, 2_000], 2_000_000));
    }

    #[test]
    fn a_rate_is_gaps_per_second_of_exposure() {
        assert_eq!(interval(&[100; 5], 500_000_000).rate(), Some(10.0));
        assert_eq!(interval(&[], 0).rate(), None);
        assert_eq!(interval(&[100, 300], 1).mean_ns(), Some(200.0));
        assert_eq!(interval(&[], 1).mean_ns(), None);
    }

    #[test]
    fn quantiles_do_not_leave_the_known_extremes() {
        let one = interval(&[96], 1);
        assert_eq!(one.quantile_ns(0.5), Some(96.0));
        assert_eq!(one.quantile_ns(1.0), Some(96.0));
    }
}
