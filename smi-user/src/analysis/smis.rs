//! How many SMIs there were, of CPUs that each counted nearly all of them.

use std::collections::BTreeMap;

use crate::model::Snapshot;

/// Most SMIs stop all CPUs, and each CPU counts them: the highest count of those that were watched at the same time is how
/// many there were, and what came while other CPUs were watched, or in another run, is added.
///
/// Not interval by interval: a CPU's count is read at its own windows, so that with many CPUs in turn one and the same SMI
/// is in another interval for each.
#[derive(Default)]
pub(super) struct Smis {
    sum: Option<u64>,
    /// What each CPU had counted when those began to be watched that are now.
    before: BTreeMap<u32, u64>,
}

impl Smis {
    /// Other CPUs are watched after `last`.
    pub(super) fn others(&mut self, last: &Snapshot) {
        let counted = || {
            last.cpus
                .iter()
                .filter_map(|cpu| Some((cpu.cpu, cpu.smis?.counted)))
        };
        let added = counted()
            .map(|(cpu, now)| now.saturating_sub(self.before.get(&cpu).copied().unwrap_or(0)))
            .max();
        if let Some(added) = added {
            self.sum = Some(self.sum.unwrap_or(0) + added);
        }
        self.before = counted().collect();
    }

    /// A run ended with `last`; the next one counts from 0.
    pub(super) fn end_run(&mut self, last: &Snapshot) {
        self.others(last);
        self.before.clear();
    }

    /// All of them; `None` without a counter.
    pub(super) fn sum(&self) -> Option<u64> {
        self.sum
    }
}
