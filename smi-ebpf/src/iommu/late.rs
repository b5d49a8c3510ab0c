//! Notices threads that go on mapping or unmapping while the scheduler wants their CPU.
//!
//! At each map and unmap it is looked at whether need-resched is pending on the CPU. How long it has been is counted from
//! the first that met it so, for as long as the same thread goes on without having been switched away from.

use aya_ebpf::{EbpfContext as _, helpers::bpf_get_current_task, programs::RawTracePointContext};
use smi_common::iommu::{IommuCpu, IommuKnobs};

use super::record;
use crate::{
    memory::{read, rq},
    spin::{Clock, Kernel},
};

/// `PREEMPT_NEED_RESCHED` of `arch/x86/include/asm/preempt.h`: unset when need-resched is pending.
const NOT_PENDING: u32 = 0x8000_0000;

/// Looks whether the thread should have given up its CPU long ago.
#[inline(always)]
pub(super) fn look(ctx: &RawTracePointContext, knobs: &IommuKnobs, cpu: &mut IommuCpu) {
    if knobs.resched_limit_ns == 0 {
        return;
    }
    if cpu.rq == 0 {
        cpu.rq = rq(&knobs.rq).unwrap_or(0);
    }
    // What cannot be read looks as if nothing were pending.
    let count = read::<u32>(cpu.rq, knobs.rq_preempt_count).unwrap_or(NOT_PENDING);
    if count & NOT_PENDING > 0 {
        cpu.pending_since_ns = 0;
        return;
    }
    pending(ctx, knobs, cpu);
}

#[inline(always)]
fn pending(ctx: &RawTracePointContext, knobs: &IommuKnobs, cpu: &mut IommuCpu) {
    let now_ns = Kernel::now();
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let switches = read::<u64>(task, knobs.task_nvcsw)
        .unwrap_or(0)
        .wrapping_add(read::<u64>(task, knobs.task_nivcsw).unwrap_or(0));
    if cpu.pending_since_ns == 0 || cpu.pending_task != task || cpu.pending_switches != switches {
        cpu.pending_since_ns = now_ns;
        cpu.pending_task = task;
        cpu.pending_switches = switches;
        cpu.pending_told = 0;
        return;
    }
    let length_ns = now_ns.saturating_sub(cpu.pending_since_ns);
    if length_ns < knobs.resched_limit_ns {
        return;
    }
    if length_ns > cpu.late_max_ns {
        cpu.late_max_ns = length_ns;
    }
    if cpu.pending_told == 0 {
        cpu.pending_told = 1;
        cpu.late += 1;
        record::of_late(ctx.as_ptr(), length_ns);
    }
}
