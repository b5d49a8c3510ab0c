//! Totals of several runs added up, CPU by CPU.

use crate::model::CpuSnapshot;

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
