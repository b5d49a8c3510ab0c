//! Totals of several runs added up, CPU by CPU.

use crate::model::{CauseStats, CpuSnapshot, GapStats, SmiCost, SmiCounts, StealCounts};

/// Adds the totals of a later run to those of the runs before.
pub(super) fn add_run(sum: &mut Vec<CpuSnapshot>, run: &[CpuSnapshot]) {
    for cpu in run {
        match sum.binary_search_by_key(&cpu.cpu, |mine| mine.cpu) {
            Ok(at) => add(&mut sum[at], cpu),
            Err(at) => sum.insert(at, cpu.clone()),
        }
    }
}

fn add(sum: &mut CpuSnapshot, run: &CpuSnapshot) {
    sum.exposure_ns += run.exposure_ns;
    sum.windows.scheduled += run.windows.scheduled;
    sum.windows.run += run.windows.run;
    sum.windows.skipped += run.windows.skipped;
    sum.stretches.scheduled += run.stretches.scheduled;
    sum.stretches.run += run.stretches.run;
    sum.stretches.skipped += run.stretches.skipped;
    sum.stretches.steps += run.stretches.steps;
    sum.stretches.clock_went_back += run.stretches.clock_went_back;
    sum.tracer.steps_over += run.tracer.steps_over;
    sum.tracer.nmi_count += run.tracer.nmi_count;
    sum.tracer.nmi_ns += run.tracer.nmi_ns;
    sum.records.sent += run.records.sent;
    sum.records.limited += run.records.limited;
    sum.records.lost += run.records.lost;
    sum.histogram.add(&run.histogram);
    add_gaps(&mut sum.gaps, &run.gaps);
    for cause in &run.causes {
        add_cause(&mut sum.causes, cause);
    }
    sum.smis = both(sum.smis, run.smis, add_smis);
    sum.steal = both(sum.steal, run.steal, |mine, theirs| StealCounts {
        sampled_ns: mine.sampled_ns + theirs.sampled_ns,
        in_gaps_ns: mine.in_gaps_ns + theirs.in_gaps_ns,
    });
    sum.smi_cost = both(sum.smi_cost, run.smi_cost, add_cost);
}

fn add_gaps(sum: &mut GapStats, run: &GapStats) {
    sum.count += run.count;
    sum.sum_ns += run.sum_ns;
    sum.min_ns = sum.min_ns.into_iter().chain(run.min_ns).min();
    sum.max_ns = sum.max_ns.max(run.max_ns);
    sum.interval_min_ns = run.interval_min_ns;
    sum.interval_max_ns = run.interval_max_ns;
    if run.last_time.is_some() {
        sum.last_ns = run.last_ns;
        sum.last_time = run.last_time;
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

fn add_smis(mine: SmiCounts, theirs: SmiCounts) -> SmiCounts {
    SmiCounts {
        counted: mine.counted + theirs.counted,
        sampled: both(mine.sampled, theirs.sampled, |a, b| a + b),
        in_gaps: both(mine.in_gaps, theirs.in_gaps, |a, b| a + b),
        unread: mine.unread + theirs.unread,
    }
}

/// The share is that of all cycles together.
fn add_cost(mine: SmiCost, theirs: SmiCost) -> SmiCost {
    let aperf = mine.aperf + theirs.aperf;
    let taken = mine.share * mine.aperf as f64 + theirs.share * theirs.aperf as f64;
    SmiCost {
        smis: mine.smis + theirs.smis,
        aperf,
        cycles: mine.cycles + theirs.cycles,
        share: if aperf > 0 { taken / aperf as f64 } else { 0.0 },
    }
}

/// What both say together; what one says where the other says nothing.
fn both<T>(mine: Option<T>, theirs: Option<T>, add: impl Fn(T, T) -> T) -> Option<T> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => Some(add(mine, theirs)),
        (mine, theirs) => mine.or(theirs),
    }
}
