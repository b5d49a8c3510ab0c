//! Sections that ticks interrupt but that cannot be preempted: one after the other meets the same one.

use aya_ebpf::helpers::bpf_get_current_task;
use smi_common::irqsoff::{Kind, Watch};

use super::Cpu;
use crate::memory::{read, rq};

/// Bits of the kernel's count of what is off (`include/linux/preempt.h`).
const PREEMPT: u64 = 0xff;
const SOFTIRQ: u64 = 0xff00;
/// A softirq's handler runs, rather than that softirqs are off.
const SERVING: u64 = 0x100;

/// Reasons for which code cannot be preempted; a section has those that all its ticks met.
const BY_PREEMPT: u64 = 1 << 0;
const BY_BOTTOM_HALVES: u64 = 1 << 1;
const BY_SOFTIRQ: u64 = 1 << 2;

/// The section under way, as far as ticks can tell.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Section {
    /// Reasons; 0 when there is no section.
    why: u64,
    /// The thread.
    task: u64,
    /// See [`Cpu`].
    switches: u64,
    softirqs: u64,
    /// The tick that met it first, and the one before.
    first_ns: u64,
    before_ns: u64,
    /// Ticks that met it.
    pub(super) ticks: u64,
    /// 1 once one of them met an exempt function.
    pub(super) exempt: u64,
    /// How much of it is in the statistics, in ns; 0 while it is no event.
    pub(super) counted_ns: u64,
}

impl Section {
    /// What it is.
    #[inline(always)]
    pub(super) fn kind(&self) -> Kind {
        if self.why & BY_PREEMPT > 0 {
            Kind::PreemptOff
        } else if self.why & BY_SOFTIRQ > 0 {
            Kind::Softirq
        } else {
            Kind::BottomHalvesOff
        }
    }

    /// Whether there is one.
    #[inline(always)]
    pub(super) fn is_one(&self) -> bool {
        self.why > 0
    }

    /// For how long it lasted at the tick that came `now_ns`: at least, and at most.
    #[inline(always)]
    pub(super) fn lasted_ns(&self, now_ns: u64) -> (u64, u64) {
        (
            now_ns.saturating_sub(self.first_ns),
            now_ns.saturating_sub(self.before_ns),
        )
    }
}

/// Takes the tick that came `now_ns`, after one at `before_ns`. One so late that it is an event itself begins a section anew:
/// what is told as interrupts off is not told again.
///
/// Returns whether it is to be tried if it can be preempted: one that begins. Ticks come where interrupts are turned on, which is
/// often within a section, so that one after the other can well meet another one each; but whoever has a thread wait that
/// preempts it is switched from as soon as that is possible, which ends the section.
#[inline(always)]
pub(super) fn follow(
    watch: &Watch,
    cpu: &Cpu,
    user_mode: bool,
    late: bool,
    now_ns: u64,
    before_ns: u64,
) -> bool {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let why = why(watch, cpu, task, user_mode);
    let mut section = cpu.section.get();
    let (switches, softirqs) = (cpu.switches.get(), cpu.softirqs.get());
    let mut common = why & section.why;
    if late || section.task != task || section.switches != switches {
        common = 0;
    }
    if section.softirqs != softirqs {
        // They were on meanwhile, or another run of a handler began.
        common &= BY_PREEMPT;
    }
    if common == 0 {
        section = Section {
            why,
            task,
            switches,
            softirqs,
            first_ns: now_ns,
            before_ns: if late { now_ns } else { before_ns },
            ticks: 1,
            exempt: 0,
            counted_ns: 0,
        };
    } else {
        section.why = common;
        section.ticks += 1;
    }
    cpu.section.set(section);
    common == 0 && is_to_be_tried(watch, why)
}

/// Of one run of a softirq it is known without. With `PREEMPT_RT`, whoever has bottom halves off can be preempted as ever.
#[inline(always)]
fn is_to_be_tried(watch: &Watch, why: u64) -> bool {
    why & BY_PREEMPT > 0 || why & BY_BOTTOM_HALVES > 0 && watch.task_softirq_disable == 0
}

/// Why what the tick interrupted cannot be preempted; 0 where it can, or where that cannot be told.
#[inline(always)]
fn why(watch: &Watch, cpu: &Cpu, task: u64, user_mode: bool) -> u64 {
    if watch.counts == 0 {
        return 0;
    }
    if cpu.rq.get() == 0 {
        cpu.rq.set(rq(&watch.rq).unwrap_or(0));
    }
    if cpu.rq.get() == 0 {
        return 0;
    }
    let Some(count) = read::<u32>(cpu.rq.get(), watch.rq_preempt_count) else {
        return 0;
    };
    let count = u64::from(count) & (PREEMPT | SOFTIRQ);
    if user_mode {
        cpu.base.set(count);
        return 0;
    }
    let is_idle = read::<u32>(task, watch.task_pid) == Some(0);
    let mut softirq = count & SOFTIRQ;
    if watch.task_softirq_disable > 0 {
        softirq |= u64::from(read::<u32>(task, watch.task_softirq_disable).unwrap_or(0)) & SOFTIRQ;
    }
    let mut why = 0;
    // The idle thread runs with preemption off, and so do softirqs but with PREEMPT_RT.
    let is_off_anyway = is_idle || softirq & SERVING > 0 && watch.task_softirq_disable == 0;
    if !is_off_anyway && count & PREEMPT > cpu.base.get() & PREEMPT {
        why |= BY_PREEMPT;
    }
    if softirq & SERVING > 0 {
        why |= BY_SOFTIRQ;
    } else if softirq > cpu.base.get() & SOFTIRQ {
        why |= BY_BOTTOM_HALVES;
    }
    why
}
