//! The time line: slots of equal length over a time whose end is not known while it is read.

use jiff::Timestamp;
use smi_common::buckets;

use super::totals;
use crate::model::{CauseStats, CpuSnapshot, Gap, Interval, Slot};

/// More slots than these are merged, two into one.
const MOST: usize = 480;

/// See the module. Slots begin at the first interval's begin and double in length whenever there would be too many.
pub(super) struct Timeline {
    began: Timestamp,
    length_ns: u64,
    slots: Vec<(Interval, Vec<CauseStats>)>,
}

impl Timeline {
    /// A line that begins at `began`, with slots of at least `length_ns`.
    pub(super) fn new(began: Timestamp, length_ns: u64) -> Self {
        Self {
            began,
            length_ns: length_ns.max(1),
            slots: Vec::new(),
        }
    }

    /// When it begins.
    pub(super) fn began(&self) -> Timestamp {
        self.began
    }

    /// Adds what came in the interval of `interval_ns` that ended at `time`.
    pub(super) fn add(
        &mut self,
        time: Timestamp,
        interval_ns: u64,
        counts: &Interval,
        causes: &[CauseStats],
    ) {
        // By its middle: intervals end a little before or after the slot does that they fill. One longer than a slot
        // counts where it ended.
        let ns = self.since_began(time);
        let mut at = self.slot(ns.saturating_sub(interval_ns.min(self.length_ns) / 2));
        while at >= MOST {
            self.halve();
            at = self.slot(ns.saturating_sub(interval_ns.min(self.length_ns) / 2));
        }
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, Default::default);
        }
        let (sum, by_cause) = &mut self.slots[at];
        sum.add(counts);
        for cause in causes {
            totals::add_cause(by_cause, cause);
        }
    }

    /// Number of the slot that holds `time`, and how many there can be.
    pub(super) fn place(&self, time: Timestamp) -> (usize, usize) {
        let at = self.slot(self.since_began(time)).min(MOST - 1);
        (at, self.slots.len().max(1))
    }

    /// The slots up to `ended`.
    pub(super) fn finish(mut self, ended: Timestamp) -> Vec<Slot> {
        let mut last = self.slot(self.since_began(ended).saturating_sub(1));
        while last >= MOST {
            self.halve();
            last = self.slot(self.since_began(ended).saturating_sub(1));
        }
        let length_ns = self.length_ns;
        if self.slots.len() <= last {
            self.slots.resize_with(last + 1, Default::default);
        }
        (0u64..)
            .zip(self.slots)
            .map(|(number, (counts, mut causes))| {
                causes.sort_by_key(|stats| std::cmp::Reverse(stats.count));
                Slot {
                    began: after(self.began, number * length_ns),
                    length_ns,
                    counts,
                    causes,
                }
            })
            .collect()
    }

    /// Nothing lies before the beginning: a clock that was set back has its intervals in the first slot.
    fn since_began(&self, time: Timestamp) -> u64 {
        ns_between(self.began, time)
    }

    fn slot(&self, ns: u64) -> usize {
        usize::try_from(ns / self.length_ns).unwrap_or(usize::MAX)
    }

    fn halve(&mut self) {
        self.length_ns = self.length_ns.saturating_mul(2);
        let mut merged: Vec<(Interval, Vec<CauseStats>)> = Vec::with_capacity(MOST);
        for (at, (counts, causes)) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            if at % 2 == 0 {
                merged.push((counts, causes));
            } else if let Some((sum, by_cause)) = merged.last_mut() {
                sum.add(&counts);
                for cause in &causes {
                    totals::add_cause(by_cause, cause);
                }
            }
        }
        self.slots = merged;
    }
}

/// Nanoseconds from `from` to `to`; 0 if `to` is earlier.
pub(super) fn ns_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from((to.as_nanosecond() - from.as_nanosecond()).max(0)).unwrap_or(u64::MAX)
}

/// `ns` after `from`; the latest time there is where that is later.
pub(super) fn after(from: Timestamp, ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(from.as_nanosecond() + i128::from(ns)).unwrap_or(Timestamp::MAX)
}

/// `ns` before `from`; the earliest time there is where that is earlier.
pub(super) fn before(from: Timestamp, ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(from.as_nanosecond() - i128::from(ns)).unwrap_or(Timestamp::MIN)
}

/// What `cpu` added since `earlier`, which may be more than one interval before; everything where it was not there.
pub(super) fn since(cpu: &CpuSnapshot, earlier: Option<&CpuSnapshot>) -> Interval {
    let Some(earlier) = earlier else {
        return cpu.total();
    };
    let mut since = cpu.since(earlier);
    // The extremes are those of the last interval; lines between may be missing.
    if cpu.gaps.max_ns > earlier.gaps.max_ns {
        since.max_ns = cpu.gaps.max_ns;
    }
    if cpu.gaps.min_ns != earlier.gaps.min_ns {
        since.min_ns = cpu.gaps.min_ns;
    }
    if since.count == 0 {
        (since.min_ns, since.max_ns) = (None, None);
    }
    since
}

/// The gaps by cause that `cpu` added since `earlier`. Where the longest of a cause was neither passed on singly nor the
/// longest so far, it is the upper bound of its bucket, and no more than the longest of all.
pub(super) fn causes_since(
    cpu: &CpuSnapshot,
    earlier: Option<&CpuSnapshot>,
    counts: &Interval,
    gaps: &[Gap],
) -> Vec<CauseStats> {
    let Some(earlier) = earlier else {
        return cpu.causes.clone();
    };
    let mut all = Vec::new();
    for now in &cpu.causes {
        let Some(then) = earlier.causes.iter().find(|then| then.cause == now.cause) else {
            all.push(now.clone());
            continue;
        };
        let count = now.count.saturating_sub(then.count);
        if count == 0 {
            continue;
        }
        let histogram = now.histogram.since(&then.histogram);
        let max_ns = if now.max_ns > then.max_ns {
            now.max_ns
        } else {
            let single = gaps
                .iter()
                .filter(|gap| gap.cpu == cpu.cpu && gap.cause == now.cause)
                .map(|gap| gap.duration_ns)
                .max()
                .unwrap_or(0);
            let bucket = histogram.counts().iter().rposition(|count| *count > 0);
            let lower = bucket.map_or(0, buckets::lower_ns);
            if single > lower {
                single
            } else {
                bucket
                    .and_then(buckets::upper_ns)
                    .unwrap_or(now.max_ns)
                    .min(counts.max_ns.unwrap_or(u64::MAX))
                    .min(now.max_ns)
            }
        };
        all.push(CauseStats {
            cause: now.cause,
            count,
            sum_ns: now.sum_ns.saturating_sub(then.sum_ns),
            max_ns,
            histogram,
        });
    }
    all
}
