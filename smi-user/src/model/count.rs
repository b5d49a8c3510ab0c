//! From nothing, one gap after the other.

use std::iter;

use jiff::Timestamp;

use super::{
    Attribution, Cause, CauseStats, CpuSnapshot, DetectorInfo, Gap, OwnCost, SCHEMA_VERSION,
    Snapshot,
};

impl Snapshot {
    /// Before the first interval of `detector`, at `time`, with what is known of the CPUs.
    pub fn new(time: Timestamp, detector: DetectorInfo, cpus: Vec<CpuSnapshot>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            time,
            elapsed_ns: 0,
            interval: 0,
            last: false,
            detector,
            attribution: Attribution::default(),
            own_cost: OwnCost::default(),
            cpus,
            gaps: Vec::new(),
            gaps_dropped: 0,
            recording_lost: None,
        }
    }
}

impl CpuSnapshot {
    /// The CPU of that number before anything is counted.
    pub fn new(cpu: u32) -> Self {
        Self {
            cpu,
            ..Self::default()
        }
    }

    /// Has another interval begin: none of its gaps has come yet.
    pub fn begin_interval(&mut self) {
        self.gaps.interval_min_ns = None;
        self.gaps.interval_max_ns = None;
    }

    /// Counts a gap as the BPF programs do ([`smi_common::CpuStats::add`]). What became of it singly, and what else a
    /// tracer or a counter says, is not in it.
    pub fn count(&mut self, gap: &Gap) {
        let ns = gap.duration_ns;
        let gaps = &mut self.gaps;
        gaps.count += 1;
        gaps.sum_ns += ns;
        for min in [&mut gaps.min_ns, &mut gaps.interval_min_ns] {
            *min = Some(min.map_or(ns, |min| min.min(ns)));
        }
        for max in [&mut gaps.max_ns, &mut gaps.interval_max_ns] {
            *max = Some(ns).max(*max);
        }
        gaps.last_ns = Some(ns);
        gaps.last_time = Some(gap.end_time);
        self.histogram.record(ns);
        CauseStats::of(gap).add_to(&mut self.causes);
        self.causes.sort_by_key(|of| of.cause);
    }
}

impl CauseStats {
    /// One gap alone.
    pub fn of(gap: &Gap) -> Self {
        Self {
            cause: gap.cause,
            count: 1,
            sum_ns: gap.duration_ns,
            max_ns: gap.duration_ns,
            histogram: iter::once(gap.duration_ns).collect(),
        }
    }

    /// Adds these gaps to those of the same cause among `all`.
    pub fn add_to(&self, all: &mut Vec<Self>) {
        match all.iter_mut().find(|sum| sum.cause == self.cause) {
            Some(sum) => {
                sum.count += self.count;
                sum.sum_ns += self.sum_ns;
                sum.max_ns = sum.max_ns.max(self.max_ns);
                sum.histogram.add(&self.histogram);
            }
            None => all.push(self.clone()),
        }
    }
}

impl Gap {
    /// A gap whose cause was counted once, if it is an SMI, without steal, and not of a tracer's window.
    pub fn new(cpu: u32, end_time: Timestamp, duration_ns: u64, cause: Cause) -> Self {
        Self {
            cpu,
            end_time,
            duration_ns,
            cause,
            smis: u64::from(cause.has_smi()),
            steal_ns: 0,
            window: None,
        }
    }
}
