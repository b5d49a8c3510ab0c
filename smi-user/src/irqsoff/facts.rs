//! What the programs must know of this kernel: where its structures keep what they read.

use smi_common::irqsoff::Watch;

use crate::kernel::{
    btf::{Btf, BtfError},
    per_cpu,
};

/// Where `preempt_count` is kept: in a variable of its own, or from 6.2 to 6.14 in one with others (`arch/x86/include/asm/
/// current.h`).
const ALONE: &str = "__preempt_count";
const TOGETHER: &str = "pcpu_hot";

/// The offsets of this kernel, and why sections that cannot be preempted are not seen here, if they are not.
///
/// # Errors
/// When the kernel does not describe its types, or has others.
pub(super) fn watch() -> Result<(Watch, Option<BtfError>), BtfError> {
    let btf = Btf::kernel()?;
    let mut watch = Watch {
        hrtimer_expires: btf.offset_of("hrtimer", &["node", "expires"])?,
        hrtimer_function: btf.offset_of("hrtimer", &["function"])?,
        timer_function: btf.offset_of("timer_list", &["function"])?,
        irqaction_handler: btf.offset_of("irqaction", &["handler"])?,
        event_hrtimer: btf.offset_of("perf_event", &["hw", "hrtimer"])?,
        event_program: btf.offset_of("perf_event", &["prog"])?,
        task_pid: btf.offset_of("task_struct", &["pid"])?,
        // Kernels without PREEMPT_RT have no such member.
        task_softirq_disable: btf
            .offset_of("task_struct", &["softirq_disable_cnt"])
            .unwrap_or(0),
        ..Watch::default()
    };
    let counts = || -> Result<_, BtfError> { Ok((per_cpu::rq(&btf)?, preempt_count(&btf)?)) };
    let missing = match counts() {
        Ok((rq, preempt_count)) => {
            watch.counts = 1;
            watch.rq = rq;
            watch.rq_preempt_count = preempt_count;
            None
        }
        Err(error) => Some(error),
    };
    Ok((watch, missing))
}

/// From a CPU's `rq` to its `preempt_count`.
fn preempt_count(btf: &Btf) -> Result<u64, BtfError> {
    per_cpu::from_rq(btf, ALONE).or_else(|error| {
        let within = btf.offset_of(TOGETHER, &["preempt_count"]);
        let (Ok(variable), Ok(within)) = (per_cpu::from_rq(btf, TOGETHER), within) else {
            return Err(error);
        };
        Ok(variable.wrapping_add(within))
    })
}
