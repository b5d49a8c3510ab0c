//! The osnoise tracer: one event for each gap (`kernel/trace/trace_osnoise.c`, `include/trace/events/osnoise.h`).
//!
//! With interrupts disabled by the tracer (`OSNOISE_IRQ_DISABLE`, from 6.1 on) what it reports is hardware's alone.
//! Without, interrupts, softirqs and threads that ran inside a reported stretch are taken off it, which leaves an
//! estimate.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::{
    maps::TRACER,
    record,
    spin::{Clock, Kernel},
};

/// Noises remembered for each CPU. More in one step of the tracer's loop are not taken off.
const REMEMBERED: usize = 16;

/// The newest noises of a CPU.
#[repr(C)]
struct Noises {
    /// Noises ever seen; the newest is at `(seen - 1) % REMEMBERED`.
    seen: u64,
    /// Start and net duration of each, in ns.
    noise: [[u64; 2]; REMEMBERED],
}

#[map]
static NOISES: PerCpuArray<Noises> = PerCpuArray::with_max_entries(1, 0);

/// `osnoise:sample_threshold(start, duration, interference)`.
#[inline(always)]
pub fn sample(start_ns: u64, duration_ns: u64) {
    let Some(tracer) = TRACER.get(0) else { return };
    let mut duration_ns = duration_ns;
    if tracer.osnoise_subtract == 1 {
        duration_ns = duration_ns.saturating_sub(noise_within(start_ns, duration_ns));
    }
    let Some(knobs) = record::knobs() else { return };
    if duration_ns >= knobs.threshold_ns {
        // The tracer's clock is another one; the event comes right after the gap.
        record::record(Kernel::now(), duration_ns);
    }
}

/// `osnoise:nmi_noise(start, duration)`: counted beside the gaps.
#[inline(always)]
pub fn nmi(duration_ns: u64) {
    // It may interrupt another change, whose marks it must not touch. Nothing else changes these two while osnoise runs.
    if let Some(stats) = record::stats() {
        stats.tracer.nmi_count += 1;
        stats.tracer.nmi_ns += duration_ns;
    }
}

/// Remembers a noise; the other noise events differ in what precedes `start` and `duration`.
#[inline(always)]
pub fn noise(start_ns: u64, duration_ns: u64) {
    let Some(noises) = NOISES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a value of this CPU. An interrupt may come between the two lines and remember its own noise; each writes
    // a place of its own unless sixteen nest.
    let noises = unsafe { &mut *noises };
    let place = noises.seen as usize % REMEMBERED;
    noises.seen += 1;
    if let Some(noise) = noises.noise.get_mut(place) {
        *noise = [start_ns, duration_ns];
    }
}

/// Time of the remembered noises that began within `duration_ns` from `start_ns`.
#[inline(always)]
fn noise_within(start_ns: u64, duration_ns: u64) -> u64 {
    let Some(noises) = NOISES.get(0) else {
        return 0;
    };
    let mut within_ns = 0;
    for [noise_start_ns, noise_ns] in &noises.noise {
        if noise_start_ns.wrapping_sub(start_ns) < duration_ns {
            within_ns += noise_ns;
        }
    }
    within_ns
}
