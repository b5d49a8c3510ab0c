//! Each CPU's longest gap of late, whoever asks how often.
//!
//! Of the last interval, a server that asks less often than intervals end does not hear of every gap; nor of the longest since
//! start, once there was a longer one.

use std::{collections::BTreeMap, mem};

use crate::model::Snapshot;

/// A gap is told for at least this long, and for about twice as long at most; or for two intervals, where they are longer.
const SPAN_NS: u64 = 60_000_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Recent {
    /// When the present span began, since the start of the run.
    began_ns: u64,
    /// The longest of this span, by CPU.
    present: BTreeMap<u32, u64>,
    /// The longest of the span before.
    before: BTreeMap<u32, u64>,
}

impl Recent {
    /// Takes what the interval had that ended with `snapshot`.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        if snapshot.elapsed_ns.saturating_sub(self.began_ns) >= SPAN_NS {
            self.before = mem::take(&mut self.present);
            self.began_ns = snapshot.elapsed_ns;
        }
        for cpu in &snapshot.cpus {
            fold(&mut self.present, cpu.cpu, cpu.gaps.interval_max_ns);
        }
    }

    /// The longest gap of each CPU that had any, in ns.
    pub(super) fn longest(&self) -> BTreeMap<u32, u64> {
        let mut longest = self.present.clone();
        for (cpu, ns) in &self.before {
            fold(&mut longest, *cpu, Some(*ns));
        }
        longest
    }
}

fn fold(maxima: &mut BTreeMap<u32, u64>, cpu: u32, ns: Option<u64>) {
    if let Some(ns) = ns {
        let longest = maxima.entry(cpu).or_default();
        *longest = ns.max(*longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::prometheus::tests::snapshot;

    /// Intervals of `length_s`; one has a gap of 5 ms on CPU 3 beside those of 1 ms on CPU 0 that all have. For how many
    /// seconds the long one is told.
    fn told_for_s(length_s: u64, which: u64) -> u64 {
        let mut recent = Recent::default();
        let mut told = 0;
        let mut one = snapshot();
        for interval in 1..=which + 400 / length_s + 4 {
            one.elapsed_ns = interval * length_s * 1_000_000_000;
            one.cpus[0].gaps.interval_max_ns = Some(1_000_000);
            one.cpus[1].gaps.interval_max_ns = (interval == which).then_some(5_000_000);
            recent.add(&one);
            let longest = recent.longest();
            assert_eq!(longest.get(&0), Some(&1_000_000));
            if longest.get(&3) == Some(&5_000_000) {
                told += length_s;
            } else {
                assert_eq!(longest.get(&3), None);
            }
        }
        told
    }

    #[test]
    fn a_gap_is_told_for_a_minute_or_two() {
        for length_s in [1, 5, 7, 15, 59] {
            for which in 1..=200 / length_s {
                let told = told_for_s(length_s, which);
                assert!(
                    told > 60 && told <= 120 + 2 * length_s,
                    "{told} s in intervals of {length_s} s"
                );
            }
        }
        for length_s in [60, 300] {
            assert_eq!(told_for_s(length_s, 5), 2 * length_s);
        }
    }
}
