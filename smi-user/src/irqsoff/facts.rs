//! What the programs must know of this kernel: where its structures keep what they read.

use smi_common::irqsoff::Watch;

use crate::kernel::{
    btf::{Btf, BtfError},
    per_cpu,
};

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
    let counts =
        || -> Result<_, BtfError> { Ok((per_cpu::rq(&btf)?, per_cpu::preempt_count(&btf)?)) };
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
