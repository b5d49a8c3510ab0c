//! The object that smilat ships and loads.

#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{perf_event, raw_tracepoint, tracepoint},
    programs::{PerfEventContext, RawTracePointContext, TracePointContext},
};
use smi_ebpf::{causes, hwlat, osnoise, spin, turns};

/// Attached to a task-clock event of each sampling thread.
#[perf_event]
fn spin(ctx: PerfEventContext) -> u32 {
    spin::run(&ctx);
    0
}

/// Attached to a hardware breakpoint on each CPU.
#[perf_event]
fn hwlat(ctx: PerfEventContext) -> u32 {
    hwlat::commit(&ctx);
    0
}

/// Attached to `sched:sched_switch` while a kernel tracer is the detector.
#[tracepoint]
fn turns_8_40(ctx: TracePointContext) -> u32 {
    turns::switch::<8, 40>(&ctx);
    0
}

/// The same where `PREEMPT_RT` puts four bytes more in front.
#[tracepoint]
fn turns_12_48(ctx: TracePointContext) -> u32 {
    turns::switch::<12, 48>(&ctx);
    0
}

/// The same where it puts eight.
#[tracepoint]
fn turns_16_48(ctx: TracePointContext) -> u32 {
    turns::switch::<16, 48>(&ctx);
    0
}

/// Attached to `nmi:nmi_handler`. A raw tracepoint: programs of other kinds do not run while one of them, such as spin, is
/// at work on the CPU (`trace_call_bpf` in `kernel/trace/bpf_trace.c`).
#[raw_tracepoint]
fn nmi(ctx: RawTracePointContext) -> i32 {
    causes::nmi(&ctx);
    0
}

/// Attached to `osnoise:sample_threshold`.
#[raw_tracepoint]
fn osnoise_sample(ctx: RawTracePointContext) -> i32 {
    osnoise::sample(ctx.arg(0), ctx.arg(1));
    0
}

/// Attached to `osnoise:nmi_noise`.
#[raw_tracepoint]
fn osnoise_nmi(ctx: RawTracePointContext) -> i32 {
    osnoise::nmi(ctx.arg(1));
    0
}

/// Attached to `osnoise:irq_noise(vector, desc, start, duration)`, where interrupts stay on.
#[raw_tracepoint]
fn osnoise_irq(ctx: RawTracePointContext) -> i32 {
    osnoise::noise(ctx.arg(2), ctx.arg(3));
    0
}

/// Attached to `osnoise:softirq_noise(vector, start, duration)`, where interrupts stay on.
#[raw_tracepoint]
fn osnoise_softirq(ctx: RawTracePointContext) -> i32 {
    osnoise::noise(ctx.arg(1), ctx.arg(2));
    0
}

/// Attached to `osnoise:thread_noise(task, start, duration)`, where interrupts stay on.
#[raw_tracepoint]
fn osnoise_thread(ctx: RawTracePointContext) -> i32 {
    osnoise::noise(ctx.arg(1), ctx.arg(2));
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
