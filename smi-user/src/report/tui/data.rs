//! What snapshots told: the newest one, what came since a reset, and how it went.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    kernel::cpus::CpuList,
    model::{Cause, CauseStats, CpuSnapshot, Gap, Interval, Snapshot},
};

/// Intervals kept for the trend: more than any terminal has columns.
const HISTORY: usize = 600;

/// Single gaps kept: more than any terminal has lines.
const GAPS: usize = 500;

/// One interval of the trend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// When it ended.
    pub(super) time: Timestamp,
    /// Gaps in it and the longest of them: all CPUs together.
    pub(super) all: (u64, u64),
    /// The same for each CPU, ascending.
    pub(super) cpus: Vec<(u32, u64, u64)>,
    /// The threshold changed in it.
    pub(super) changed: bool,
    /// The display was reset at its end.
    pub(super) reset: bool,
}

/// A change of the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// End of the interval in which it was made.
    pub(super) time: Timestamp,
    /// Before it, in ns.
    pub(super) from_ns: u64,
}

/// What is known of the time before a snapshot; needed again where it comes again without those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The first change of the threshold since the run began.
    pub(super) change: Option<Change>,
    /// Intervals that were not seen.
    missed: u64,
}

#[cfg(test)]
impl Carried {
    pub(crate) fn missing(missed: u64) -> Self {
        Self {
            missed,
            ..Self::default()
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) newest: Option<Arc<Snapshot>>,
    /// Counting begins after it; `None`: at the start.
    pub(super) baseline: Option<Arc<Snapshot>>,
    /// By CPU: longest of the intervals since the baseline.
    longest: BTreeMap<u32, u64>,
    pub(super) history: VecDeque<Point>,
    pub(super) gaps: VecDeque<Gap>,
    /// The first change of the threshold since the baseline.
    pub(super) change: Option<Change>,
    /// Intervals between the first snapshot seen and the newest that were not seen.
    pub(super) missed: u64,
    /// The first change since the run began.
    first_change: Option<Change>,
    /// Of the first snapshot to come.
    carried: Option<Carried>,
}

impl Data {
    /// Before a snapshot after which that was known.
    pub(super) fn from(carried: Option<Carried>) -> Self {
        Self {
            carried,
            ..Self::default()
        }
    }

    /// What is known of the time before the newest snapshot.
    pub(super) fn carried(&self) -> Carried {
        Carried {
            change: self.first_change,
            missed: self.missed,
        }
    }

    /// Takes a snapshot; true when it does not go on from the one before it, because another run began.
    pub(super) fn take(&mut self, snapshot: Arc<Snapshot>) -> bool {
        let begins_anew = self.newest.as_ref().is_some_and(|newest| {
            snapshot.elapsed_ns < newest.elapsed_ns || snapshot.interval <= newest.interval
        });
        if begins_anew {
            *self = Self::default();
        }
        if let Some(carried) = self.carried.take() {
            self.change = carried.change;
            self.first_change = carried.change;
            self.missed = carried.missed;
        }
        let mut changed = false;
        if let Some(newest) = &self.newest {
            self.missed += snapshot.interval - newest.interval - 1;
            let from_ns = newest.detector.threshold_ns;
            changed = from_ns != snapshot.detector.threshold_ns;
            if changed {
                let time = snapshot.time;
                let change = Some(Change { time, from_ns });
                self.change = self.change.or(change);
                self.first_change = self.first_change.or(change);
            }
        }
        for cpu in &snapshot.cpus {
            let longest = self.longest.entry(cpu.cpu).or_default();
            *longest = (*longest).max(cpu.gaps.interval_max_ns.unwrap_or(0));
        }
        // What came in the first interval seen is not known where others came before it.
        if self.newest.is_some() || snapshot.interval == 1 {
            self.history.push_back(Point {
                changed,
                ..self.point(&snapshot)
            });
        }
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.gaps.extend(&snapshot.gaps);
        let surplus = self.gaps.len().saturating_sub(GAPS);
        self.gaps.drain(..surplus);
        self.newest = Some(snapshot);
        begins_anew
    }

    fn point(&self, snapshot: &Snapshot) -> Point {
        let cpus: Vec<_> = snapshot
            .cpus
            .iter()
            .map(|cpu| {
                let before = self
                    .newest
                    .as_deref()
                    .and_then(|newest| of(newest, cpu.cpu));
                let count = before.map_or(cpu.gaps.count, |before| {
                    cpu.gaps.count.saturating_sub(before.gaps.count)
                });
                (cpu.cpu, count, cpu.gaps.interval_max_ns.unwrap_or(0))
            })
            .collect();
        Point {
            time: snapshot.time,
            all: (
                cpus.iter().map(|(_, count, _)| count).sum(),
                cpus.iter().map(|(_, _, max)| *max).max().unwrap_or(0),
            ),
            cpus,
            changed: false,
            reset: false,
        }
    }

    /// Begins to count from the newest snapshot on. Nothing in the kernel changes.
    pub(super) fn reset(&mut self) {
        self.baseline.clone_from(&self.newest);
        self.longest.clear();
        self.change = None;
        if let Some(point) = self.history.back_mut() {
            point.reset = true;
        }
    }

    /// What `cpu` counted since the reset.
    pub(super) fn since_reset(&self, cpu: &CpuSnapshot) -> Interval {
        let earlier = self
            .baseline
            .as_deref()
            .and_then(|baseline| of(baseline, cpu.cpu));
        let Some(earlier) = earlier else {
            return cpu.total();
        };
        Interval {
            // That of the last interval would be too high.
            min_ns: None,
            max_ns: self.longest_since(cpu, earlier),
            ..cpu.since(earlier)
        }
    }

    /// The longest since the reset: where the longest since start grew it is that one, otherwise the longest of the
    /// intervals since.
    fn longest_since(&self, cpu: &CpuSnapshot, earlier: &CpuSnapshot) -> Option<u64> {
        if cpu.gaps.count == earlier.gaps.count {
            return None;
        }
        if cpu.gaps.max_ns > earlier.gaps.max_ns {
            return cpu.gaps.max_ns;
        }
        self.longest
            .get(&cpu.cpu)
            .copied()
            .filter(|longest| *longest > 0)
    }

    /// What all CPUs, or `only` one, counted since the reset.
    pub(super) fn total(&self, only: Option<u32>) -> Interval {
        let mut total = Interval::default();
        for cpu in self.cpus(only) {
            total.add(&self.since_reset(cpu));
        }
        total
    }

    /// The gaps by cause since the reset, the most frequent first.
    pub(super) fn causes(&self, only: Option<u32>) -> Vec<(Cause, u64)> {
        let mut counts: BTreeMap<Cause, u64> = BTreeMap::new();
        for cpu in self.cpus(only) {
            let earlier = self
                .baseline
                .as_deref()
                .and_then(|baseline| of(baseline, cpu.cpu));
            for CauseStats { cause, count, .. } in &cpu.causes {
                let before = earlier
                    .and_then(|earlier| earlier.causes.iter().find(|before| before.cause == *cause))
                    .map_or(0, |before| before.count);
                *counts.entry(*cause).or_default() += count.saturating_sub(before);
            }
        }
        let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    /// SMIs that `cpu` counted since the reset; `None` without a counter.
    pub(super) fn smis(&self, cpu: &CpuSnapshot) -> Option<u64> {
        let now = cpu.smis?.counted;
        let before = self
            .baseline
            .as_deref()
            .and_then(|baseline| of(baseline, cpu.cpu)?.smis)
            .map_or(0, |smis| smis.counted);
        Some(now.saturating_sub(before))
    }

    fn cpus(&self, only: Option<u32>) -> impl Iterator<Item = &CpuSnapshot> {
        self.newest
            .iter()
            .flat_map(|newest| &newest.cpus)
            .filter(move |cpu| only.is_none_or(|only| only == cpu.cpu))
    }

    /// All CPUs that were watched in the run, ascending.
    pub(super) fn all(&self) -> &[CpuSnapshot] {
        self.newest.as_deref().map_or(&[], |newest| &newest.cpus)
    }

    /// Those that still are: where a configuration was read again, others may only keep what they counted.
    pub(super) fn watched(&self) -> Vec<&CpuSnapshot> {
        let named = self.newest.as_deref().map(|newest| &newest.detector.cpus);
        let watched: Option<CpuList> = named.and_then(|named| named.parse().ok());
        let is_watched = |cpu: &&CpuSnapshot| {
            watched
                .as_ref()
                .is_none_or(|watched| watched.contains(cpu.cpu))
        };
        self.all().iter().filter(is_watched).collect()
    }

    /// Time since the start or the reset, in ns.
    pub(super) fn elapsed_ns(&self) -> u64 {
        let at = |snapshot: &Option<Arc<Snapshot>>| snapshot.as_ref().map_or(0, |at| at.elapsed_ns);
        at(&self.newest).saturating_sub(at(&self.baseline))
    }

    /// Gaps of the last interval and the longest of them.
    pub(super) fn last_interval(&self, only: Option<u32>) -> (u64, u64) {
        self.history.back().map_or((0, 0), |point| point.of(only))
    }
}

impl Point {
    /// Gaps and the longest of all CPUs, or of `only` one.
    pub(super) fn of(&self, only: Option<u32>) -> (u64, u64) {
        match only {
            None => self.all,
            Some(only) => self
                .cpus
                .binary_search_by_key(&only, |(cpu, ..)| *cpu)
                .map_or((0, 0), |place| (self.cpus[place].1, self.cpus[place].2)),
        }
    }
}

/// `cpu` in `snapshot`.
fn of(snapshot: &Snapshot, cpu: u32) -> Option<&CpuSnapshot> {
    let place = snapshot
        .cpus
        .binary_search_by_key(&cpu, |cpu| cpu.cpu)
        .ok()?;
    Some(&snapshot.cpus[place])
}
