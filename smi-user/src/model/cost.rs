//! What SMIs cost, in cycles.

use serde::{Deserialize, Serialize};

/// What SMIs cost one CPU, or several together, since start. `perf stat --smi-cost` reckons the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SmiCost {
    /// SMIs counted (MSR 0x34).
    pub smis: u64,
    /// Cycles the CPU was awake, SMIs included: the count of the register APERF.
    pub aperf: u64,
    /// Cycles it was awake outside SMIs: those its own counter saw, which stands still while an SMI is served.
    pub cycles: u64,
    /// Share of the cycles that went to SMIs: `(aperf - cycles) / aperf`, from 0 to 1; 0 without any SMI.
    pub share: f64,
}

impl SmiCost {
    /// From three counts that began at the same time.
    ///
    /// Where no SMI came, a difference is what the two counters differ by otherwise, such as the time between their
    /// readings, and counts for nothing.
    pub fn of(smis: u64, aperf: u64, cycles: u64) -> Self {
        let share = if smis == 0 || aperf == 0 {
            0.0
        } else {
            aperf.saturating_sub(cycles) as f64 / aperf as f64
        };
        Self {
            smis,
            aperf,
            cycles,
            share,
        }
    }

    /// Of several CPUs together: of all their cycles, the share that went to SMIs. Most SMIs stop all CPUs and are counted
    /// by each, so `smis` is the highest count rather than the sum.
    pub fn total(costs: impl IntoIterator<Item = Self>) -> Self {
        let mut total = Self::default();
        let mut lost = 0.0;
        for cost in costs {
            total.smis = total.smis.max(cost.smis);
            total.aperf += cost.aperf;
            total.cycles += cost.cycles;
            lost += cost.share * cost.aperf as f64;
        }
        if total.aperf > 0 {
            total.share = lost / total.aperf as f64;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_perf() {
        // 10 SMIs took 3 of 400 million cycles.
        let cost = SmiCost::of(10, 400_000_000, 397_000_000);
        assert!((cost.share - 0.0075).abs() < 1e-12, "{cost:?}");
        assert_eq!((cost.smis, cost.aperf - cost.cycles), (10, 3_000_000));
    }

    #[test]
    fn without_an_smi_nothing_was_lost_to_any() {
        for (smis, aperf, cycles) in [(0, 1_000_000, 900_000), (5, 0, 0), (5, 1_000, 1_001)] {
            let cost = SmiCost::of(smis, aperf, cycles);
            assert!(cost.share.abs() < f64::EPSILON, "{cost:?}");
        }
    }

    #[test]
    fn cpus_weigh_by_their_cycles_and_smis_are_not_added_up() {
        let busy = SmiCost::of(7, 900, 810);
        let idle = SmiCost::of(7, 100, 50);
        let without = SmiCost::of(0, 1_000, 990);
        let total = SmiCost::total([busy, idle, without]);
        assert_eq!((total.smis, total.aperf, total.cycles), (7, 2_000, 1_850));
        assert!((total.share - 0.07).abs() < 1e-12, "{total:?}");
        assert_eq!(SmiCost::total([]), SmiCost::default());
    }
}
