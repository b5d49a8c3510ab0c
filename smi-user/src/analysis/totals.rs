//! Totals of several runs added up, CPU by CPU.

use crate::model::{CauseStats, CpuSnapshot};

/// Adds the totals of a later run to those of the runs before.
pub(super) fn add_run(sum: &mut Vec<CpuSnapshot>, run: &[CpuSnapshot]) {
    for cpu in run {
        match sum.binary_search_by_key(&cpu.cpu, |mine| mine.cpu) {
            Ok(at) => {
                let mut both = cpu.clone();
                both.go_on_from(&sum[at]);
                sum[at] = both;
            }
            Err(at) => sum.insert(at, cpu.clone()),
        }
    }
}

/// Adds gaps of one cause to those of all causes.
pub(super) fn add_cause(sum: &mut Vec<CauseStats>, more: &CauseStats) {
    match sum.iter_mut().find(|mine| mine.cause == more.cause) {
        Some(mine) => {
            mine.count += more.count;
            mine.sum_ns += more.sum_ns;
            mine.max_ns = mine.max_ns.max(more.max_ns);
            mine.histogram.add(&more.histogram);
        }
        None => sum.push(more.clone()),
    }
}
