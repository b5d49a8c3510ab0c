//! The object of `smilat irqsoff`.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{perf_event, raw_tracepoint},
    programs::{PerfEventContext, RawTracePointContext},
};
use smi_ebpf::{causes, irqsoff};

/// Attached to a cpu-clock event of each watched CPU.
#[perf_event]
fn tick(ctx: PerfEventContext) -> u32 {
    irqsoff::tick(&ctx);
    0
}

/// Attached to a task-clock event of the thread that tests the others.
#[perf_event]
fn self_test(_: PerfEventContext) -> u32 {
    irqsoff::self_test();
    0
}

/// Attached to `nmi:nmi_handler`.
#[raw_tracepoint]
fn nmi(ctx: RawTracePointContext) -> i32 {
    causes::nmi(&ctx);
    0
}

/// Attached to `sched:sched_switch`.
#[raw_tracepoint]
fn switch(ctx: RawTracePointContext) -> i32 {
    irqsoff::switch(&ctx);
    0
}

/// Attached to `irq:irq_handler_entry`.
#[raw_tracepoint]
fn irq_entry(ctx: RawTracePointContext) -> i32 {
    irqsoff::irq_entry(&ctx);
    0
}

/// Attached to `irq:irq_handler_exit`.
#[raw_tracepoint]
fn irq_exit(ctx: RawTracePointContext) -> i32 {
    irqsoff::irq_exit(&ctx);
    0
}

/// Attached to `irq:softirq_entry`.
#[raw_tracepoint]
fn softirq_entry(ctx: RawTracePointContext) -> i32 {
    irqsoff::softirq_entry(&ctx);
    0
}

/// Attached to `irq:softirq_exit`.
#[raw_tracepoint]
fn softirq_exit(ctx: RawTracePointContext) -> i32 {
    irqsoff::softirq_exit(&ctx);
    0
}

/// Attached to `timer:timer_expire_entry`.
#[raw_tracepoint]
fn timer_entry(ctx: RawTracePointContext) -> i32 {
    irqsoff::timer_entry(&ctx);
    0
}

/// Attached to `timer:timer_expire_exit`.
#[raw_tracepoint]
fn timer_exit(ctx: RawTracePointContext) -> i32 {
    irqsoff::timer_exit(&ctx);
    0
}

/// Attached to `timer:hrtimer_expire_entry`.
#[raw_tracepoint]
fn hrtimer_entry(ctx: RawTracePointContext) -> i32 {
    irqsoff::hrtimer_entry(&ctx);
    0
}

/// Attached to `timer:hrtimer_expire_exit`.
#[raw_tracepoint]
fn hrtimer_exit(ctx: RawTracePointContext) -> i32 {
    irqsoff::hrtimer_exit(&ctx);
    0
}

/// Attached to `csd:csd_function_entry`.
#[raw_tracepoint]
fn call_entry(ctx: RawTracePointContext) -> i32 {
    irqsoff::call_entry(&ctx);
    0
}

/// Attached to `irq_vectors:call_function_entry` and `call_function_single_entry` on kernels without `csd:csd_function_entry`.
#[raw_tracepoint]
fn call_irq_entry(ctx: RawTracePointContext) -> i32 {
    irqsoff::call_irq_entry(&ctx);
    0
}

/// Attached to `csd:csd_function_exit`, or to the exits of those.
#[raw_tracepoint]
fn call_exit(ctx: RawTracePointContext) -> i32 {
    irqsoff::call_exit(&ctx);
    0
}

/// Attached to `irq_vectors:irq_work_entry`.
#[raw_tracepoint]
fn work_entry(ctx: RawTracePointContext) -> i32 {
    irqsoff::work_entry(&ctx);
    0
}

/// Attached to `irq_vectors:irq_work_exit`.
#[raw_tracepoint]
fn work_exit(ctx: RawTracePointContext) -> i32 {
    irqsoff::work_exit(&ctx);
    0
}

/// Attached to `power:cpu_idle`.
#[raw_tracepoint]
fn idle(ctx: RawTracePointContext) -> i32 {
    irqsoff::idle(&ctx);
    0
}

/// The helpers used are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
