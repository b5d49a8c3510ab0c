//! Exposure of a kernel tracer: the turns of its threads on the CPUs, from `sched:sched_switch`.
//!
//! The settings say how long a tracer should sample; its threads' own switches say how long it did.

use aya_ebpf::{EbpfContext as _, macros::map, maps::PerCpuArray, programs::TracePointContext};
use smi_common::TracerLayout;

use crate::{
    causes,
    maps::TRACER,
    record,
    spin::{Clock, Kernel},
};

/// When the tracer's thread came on this CPU; 0 while it is off.
#[map]
static TURN_BEGAN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Runs at every switch of threads: two comparisons unless the tracer's thread is one of them.
///
/// `PREV` and `NEXT` are the offsets of the two threads' names. The verifier lets a program read its context at constant
/// offsets only, hence a program for each layout there is.
#[inline(always)]
pub fn switch<const PREV: usize, const NEXT: usize>(ctx: &TracePointContext) {
    let Some(tracer) = TRACER.get(0) else { return };
    let Some(began_ns) = TURN_BEGAN.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a value of this CPU, touched only here, where the scheduler has interrupts off.
    let began_ns = unsafe { &mut *began_ns };
    if is_tracer::<PREV>(ctx, tracer) && *began_ns > 0 {
        let turn_ns = Kernel::now().saturating_sub(*began_ns);
        *began_ns = 0;
        causes::look();
        record::change(|stats| {
            stats.stretches.exposure_ns += turn_ns;
            if turn_ns >= tracer.window_min_ns {
                stats.stretches.run += 1;
            }
        });
    }
    if is_tracer::<NEXT>(ctx, tracer) {
        causes::begin();
        *began_ns = Kernel::now();
    }
}

/// Whether the thread whose name stands at `OFFSET` of the record is one of the tracer's.
#[inline(always)]
fn is_tracer<const OFFSET: usize>(ctx: &TracePointContext, tracer: &TracerLayout) -> bool {
    let record = ctx.as_ptr().cast::<u32>();
    // SAFETY: the record is longer than any of the offsets; the verifier checks the addresses. Two halves, since a name
    // need not be aligned to eight bytes.
    let half = |offset| u64::from(unsafe { record.add(offset / 4).read_volatile() });
    let comm = half(OFFSET) | half(OFFSET + 4) << 32;
    comm & tracer.comm_mask == tracer.comm
}
