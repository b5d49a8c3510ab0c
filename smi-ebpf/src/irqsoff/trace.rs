//! What runs on a CPU besides its threads, and the trace of it: programs at the kernel's raw tracepoints.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::RawTracePointContext};
use smi_common::irqsoff::{Handler, TRACE, TraceEntry, What};

use super::{Cpu, IRQSOFF, IRQSOFF_OWN, cpu, tick::tick_without_registers};
use crate::{
    memory::read,
    spin::{Clock, Kernel},
};

/// State of `power:cpu_idle` when a CPU leaves it: `PWR_EVENT_EXIT` of `include/trace/events/power.h`.
const IDLE_EXIT: u64 = u32::MAX as u64;

impl Cpu {
    #[inline(always)]
    fn note(&self, at_ns: u64, what: What, first: u64, second: u64) {
        let place = self.trace_next.get();
        self.trace_next.set(place + 1);
        let entries = self.trace.as_array_of_cells();
        if let Some(entry) = entries.get(place as usize & (TRACE - 1)) {
            entry.set(TraceEntry {
                at_ns,
                what: what as u64,
                first,
                second,
            });
        }
    }

    /// `handler` is over: keeps it if none since the last tick ran for longer.
    #[inline(always)]
    fn over(&self, mut handler: Handler, now_ns: u64) {
        if handler.what == 0 {
            return;
        }
        handler.ended_ns = now_ns;
        if handler.length_ns() > self.longest.get().length_ns() {
            self.longest.set(handler);
        }
    }
}

/// A handler that begins.
#[inline(always)]
fn begun(what: What, number: u64, function: u64, now_ns: u64) -> Handler {
    Handler {
        what: what as u64,
        number,
        function,
        began_ns: now_ns,
        ended_ns: 0,
    }
}

/// `sched:sched_switch(preempt, prev, next)`.
#[inline(always)]
pub fn switch(ctx: &RawTracePointContext) {
    let (Some(watch), Some(cpu)) = (IRQSOFF.get(0), cpu()) else {
        return;
    };
    cpu.switches.set(cpu.switches.get() + 1);
    // With PREEMPT_RT, what runs them can be preempted: then they are not what the CPU does any more.
    cpu.softirq.set(Handler::default());
    cpu.timer.set(Handler::default());
    // The thread that runs still.
    let prev = bpf_get_current_pid_tgid() & u64::from(u32::MAX);
    let next = read::<u32>(ctx.arg(2), watch.task_pid).unwrap_or(0);
    cpu.note(Kernel::now(), What::Switch, prev, next.into());
}

/// `irq:irq_handler_entry(irq, action)`.
#[inline(always)]
pub fn irq_entry(ctx: &RawTracePointContext) {
    let (Some(watch), Some(cpu)) = (IRQSOFF.get(0), cpu()) else {
        return;
    };
    let now_ns = Kernel::now();
    let number = ctx.arg::<u64>(0) & u64::from(u32::MAX);
    let function = read::<u64>(ctx.arg(1), watch.irqaction_handler).unwrap_or(0);
    cpu.irq.set(begun(What::IrqEntry, number, function, now_ns));
    cpu.note(now_ns, What::IrqEntry, number, function);
}

/// `irq:irq_handler_exit(irq, action, ret)`.
#[inline(always)]
pub fn irq_exit(_: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    let irq = cpu.irq.take();
    cpu.over(irq, now_ns);
    cpu.note(now_ns, What::IrqExit, irq.number, irq.function);
}

/// `irq:softirq_entry(vec_nr)`.
#[inline(always)]
pub fn softirq_entry(ctx: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    let number = ctx.arg::<u64>(0) & u64::from(u32::MAX);
    cpu.softirqs.set(cpu.softirqs.get() + 1);
    cpu.open_ns.set(now_ns);
    cpu.softirq
        .set(begun(What::SoftirqEntry, number, 0, now_ns));
    cpu.note(now_ns, What::SoftirqEntry, number, 0);
}

/// `irq:softirq_exit(vec_nr)`.
#[inline(always)]
pub fn softirq_exit(_: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    let softirq = cpu.softirq.take();
    cpu.over(softirq, now_ns);
    cpu.note(now_ns, What::SoftirqExit, softirq.number, 0);
}

/// `timer:timer_expire_entry(timer, baseclk)`.
#[inline(always)]
pub fn timer_entry(ctx: &RawTracePointContext) {
    let (Some(watch), Some(cpu)) = (IRQSOFF.get(0), cpu()) else {
        return;
    };
    let now_ns = Kernel::now();
    let function = read::<u64>(ctx.arg(0), watch.timer_function).unwrap_or(0);
    cpu.timer.set(begun(What::TimerEntry, 0, function, now_ns));
    cpu.note(now_ns, What::TimerEntry, function, 0);
}

/// `timer:timer_expire_exit(timer)`.
#[inline(always)]
pub fn timer_exit(_: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    let timer = cpu.timer.take();
    cpu.over(timer, now_ns);
    cpu.note(now_ns, What::TimerExit, timer.function, 0);
}

/// Whether that is the callback of our timers, and others of perf's: left out of the trace.
#[inline(always)]
fn is_perf(function: u64) -> bool {
    IRQSOFF_OWN
        .get(0)
        .is_some_and(|own| own.callback == function)
}

/// `timer:hrtimer_expire_entry(hrtimer, now)`.
#[inline(always)]
pub fn hrtimer_entry(ctx: &RawTracePointContext) {
    let (Some(watch), Some(cpu)) = (IRQSOFF.get(0), cpu()) else {
        return;
    };
    let now_ns = Kernel::now();
    let timer: u64 = ctx.arg(0);
    let function = read::<u64>(timer, watch.hrtimer_function).unwrap_or(0);
    cpu.hrtimer_at.set(timer);
    cpu.due_ns
        .set(read::<u64>(timer, watch.hrtimer_expires).unwrap_or(now_ns));
    cpu.hrtimer
        .set(begun(What::HrtimerEntry, 0, function, now_ns));
    if !is_perf(function) {
        cpu.note(now_ns, What::HrtimerEntry, function, 0);
    }
}

/// `timer:hrtimer_expire_exit(hrtimer)`.
#[inline(always)]
pub fn hrtimer_exit(ctx: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let is_ours = tick_without_registers(ctx, cpu);
    let now_ns = Kernel::now();
    let hrtimer = cpu.hrtimer.take();
    if !is_ours {
        cpu.over(hrtimer, now_ns);
    }
    if !is_perf(hrtimer.function) {
        cpu.note(now_ns, What::HrtimerExit, hrtimer.function, 0);
    }
}

/// `csd:csd_function_entry(function, csd)`: another CPU has this one run a function.
#[inline(always)]
pub fn call_entry(ctx: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    call_begun(cpu, ctx.arg(0), Kernel::now());
}

/// `irq_vectors:call_function_entry(vector)` and `call_function_single_entry`: the interrupt in which a CPU runs such functions,
/// for kernels that do not tell of each.
#[inline(always)]
pub fn call_irq_entry(_: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    call_begun(cpu, 0, Kernel::now());
}

#[inline(always)]
fn call_begun(cpu: &Cpu, function: u64, now_ns: u64) {
    cpu.call.set(begun(What::CallEntry, 0, function, now_ns));
    cpu.note(now_ns, What::CallEntry, function, 0);
}

/// `csd:csd_function_exit(function, csd)`, or the end of such an interrupt.
#[inline(always)]
pub fn call_exit(_: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    let call = cpu.call.take();
    cpu.over(call, now_ns);
    cpu.note(now_ns, What::CallExit, call.function, 0);
}

/// `irq_vectors:irq_work_entry(vector)`.
#[inline(always)]
pub fn work_entry(_: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    cpu.work.set(begun(What::WorkEntry, 0, 0, now_ns));
    cpu.note(now_ns, What::WorkEntry, 0, 0);
}

/// `irq_vectors:irq_work_exit(vector)`.
#[inline(always)]
pub fn work_exit(_: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    cpu.over(cpu.work.take(), now_ns);
    cpu.note(now_ns, What::WorkExit, 0, 0);
}

/// `power:cpu_idle(state, cpu)`.
#[inline(always)]
pub fn idle(ctx: &RawTracePointContext) {
    let Some(cpu) = cpu() else { return };
    let now_ns = Kernel::now();
    let state = ctx.arg::<u64>(0) & u64::from(u32::MAX);
    if state == IDLE_EXIT {
        cpu.idle_ended_ns.set(now_ns);
        cpu.note(now_ns, What::IdleExit, 0, 0);
    } else {
        cpu.idle_began_ns.set(now_ns);
        cpu.note(now_ns, What::IdleEntry, state, 0);
    }
}
