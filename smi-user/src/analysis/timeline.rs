//! The time line: slots of equal length over a time whose end is not known while it is read.

use jiff::Timestamp;
use smi_common::buckets;

use crate::model::{CauseStats, CpuSnapshot, Gap, Interval, Slot};

/// More slots than these are merged, two into one.
const MOST: usize = 480;

/// See the module. Slots begin at the first interval's begin and double in length whenever there would be too many, or one
/// is too short for an interval. Positions are in ns from the beginning.
pub(super) struct Timeline {
    length_ns: u64,
    slots: Vec<(Interval, Vec<CauseStats>)>,
}

impl Timeline {
    /// A line with slots of at least `length_ns`.
    pub(super) fn new(length_ns: u64) -> Self {
        Self {
            length_ns: length_ns.max(1),
            slots: Vec::new(),
        }
    }

    /// Adds what came in the interval of `interval_ns` that ended at `ended_ns`. Slots are made long enough that a `whole` one
    /// leaves none empty; one of which lines are missing counts where it ended.
    pub(super) fn add(
        &mut self,
        ended_ns: u64,
        interval_ns: u64,
        whole: bool,
        counts: &Interval,
        causes: &[CauseStats],
    ) {
        let (mut from, mut at) = self.reach(ended_ns, interval_ns);
        while at >= MOST || (whole && from < at) {
            self.halve();
            (from, at) = self.reach(ended_ns, interval_ns);
        }
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, Default::default);
        }
        let (sum, by_cause) = &mut self.slots[at];
        sum.add(counts);
        for cause in causes {
            cause.add_to(by_cause);
        }
    }

    /// The first and the last slot that an interval fills, by its middle: intervals end a little before or after the slot
    /// does that they fill.
    fn reach(&self, ended_ns: u64, interval_ns: u64) -> (usize, usize) {
        if interval_ns <= self.length_ns {
            let at = self.slot(ended_ns.saturating_sub(interval_ns / 2));
            return (at, at);
        }
        let half = self.length_ns / 2;
        let began_ns = ended_ns.saturating_sub(interval_ns);
        (
            self.slot(began_ns + half),
            self.slot(ended_ns.saturating_sub(half)),
        )
    }

    /// Number of the slot that holds a position; the first for what lies before the beginning.
    pub(super) fn place(&self, position: i128) -> usize {
        let ns = u64::try_from(position.max(0)).unwrap_or(u64::MAX);
        self.slot(ns).min(MOST - 1)
    }

    /// The slots up to `ended_ns`, of a line that begins at `began`.
    pub(super) fn finish(mut self, began: Timestamp, ended_ns: u64) -> Vec<Slot> {
        let mut last = self.slot(ended_ns.saturating_sub(1));
        while last >= MOST {
            self.halve();
            last = self.slot(ended_ns.saturating_sub(1));
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
                    began: after(began, number * length_ns),
                    length_ns,
                    counts,
                    causes,
                }
            })
            .collect()
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
                    cause.add_to(by_cause);
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

/// What `cpu` added since `earlier`; everything where it was not there. Where lines between are `missing`, and so the
/// extremes of their intervals, these are exact if they are those of all time or in the same bucket as the newest
/// interval's, and the outer bounds of their buckets otherwise.
pub(super) fn since(cpu: &CpuSnapshot, earlier: Option<&CpuSnapshot>, missing: bool) -> Interval {
    let Some(earlier) = earlier else {
        return cpu.total();
    };
    let mut since = cpu.since(earlier);
    if missing {
        let counts = since.histogram.counts();
        let (lowest, highest) = (
            counts.iter().position(|count| *count > 0),
            counts.iter().rposition(|count| *count > 0),
        );
        let in_bucket =
            |ns: Option<u64>, bucket| ns.is_some_and(|ns| buckets::position(ns) == bucket);
        if let Some(bucket) = highest
            && !in_bucket(since.max_ns, bucket)
        {
            since.max_ns = buckets::upper_ns(bucket)
                .into_iter()
                .chain(cpu.gaps.max_ns)
                .min();
        }
        if let Some(bucket) = lowest
            && !in_bucket(since.min_ns, bucket)
        {
            since.min_ns = cpu.gaps.min_ns.max(Some(buckets::lower_ns(bucket)));
        }
    }
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
