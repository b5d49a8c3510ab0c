//! The hwlat tracer: reads each of its records when the kernel commits it to the trace buffer.
//!
//! `ftrace:hwlat` is no tracepoint, so nothing can be attached to it. A hardware breakpoint on the function that commits
//! records (`trace_buffer_unlock_commit_nostack` in `kernel/trace/trace.c`) runs this program instead, after the window
//! it reports on.

use aya_ebpf::programs::PerfEventContext;
use smi_common::GapRecord;

use crate::{maps::TRACER, memory::read, record};

/// Low bits of a ring buffer event's first word: its type, or its length (`include/linux/ring_buffer.h`).
const TYPE_LEN: u32 = 31;
/// `RINGBUF_TYPE_TIME_EXTEND`: eight bytes that only carry time precede the event proper.
const TIME_EXTEND: u32 = 30;

const NS_PER_US: u64 = 1_000;
const NS_PER_S: u64 = 1_000_000_000;

/// Runs when the breakpoint is hit, for records of every kind.
#[inline(always)]
pub fn commit(ctx: &PerfEventContext) {
    let Some(tracer) = TRACER.get(0) else { return };
    // SAFETY: the context is what the kernel passed. The second argument of the function is the event.
    let event = unsafe { (*ctx.ctx).regs.rsi };
    let Some(head) = read::<u32>(event, 0) else {
        return;
    };
    let skip = if head & TYPE_LEN >= TIME_EXTEND { 8 } else { 0 };
    let entry = event + skip + 4;
    if read::<u16>(entry, 0).map(u64::from) != Some(tracer.hwlat_id) {
        return;
    }
    let (Some(inner_us), Some(outer_us), Some(sec), Some(nsec)) = (
        read::<u64>(entry, tracer.hwlat_inner),
        read::<u64>(entry, tracer.hwlat_outer),
        read::<u64>(entry, tracer.hwlat_tv_sec),
        read::<u64>(entry, tracer.hwlat_tv_nsec),
    ) else {
        return;
    };
    let gap = GapRecord {
        end_ns: (sec * NS_PER_S + nsec).wrapping_sub(tracer.wall_offset_ns),
        duration_ns: inner_us.max(outer_us) * NS_PER_US,
        inner_ns: inner_us * NS_PER_US,
        outer_ns: outer_us * NS_PER_US,
        steps_over: u64::from(read::<u32>(entry, tracer.hwlat_steps_over).unwrap_or(0)),
        nmi_count: u64::from(read::<u32>(entry, tracer.hwlat_nmi_count).unwrap_or(0)),
        nmi_ns: read::<u64>(entry, tracer.hwlat_nmi_us).unwrap_or(0) * NS_PER_US,
        ..GapRecord::default()
    };
    let Some(knobs) = record::knobs() else { return };
    if gap.duration_ns >= knobs.threshold_ns {
        // SAFETY: it points to a record.
        unsafe { record::record_gap(&raw const gap, 1) };
    }
}
