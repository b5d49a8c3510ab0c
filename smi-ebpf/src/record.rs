//! The one path on which every detector records a gap.

use core::{hint::black_box, mem::MaybeUninit, ptr};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use smi_common::{CpuStats, GapRecord, Knobs, buckets, cause};

use crate::{
    causes,
    maps::{CPU_STATS, GAPS, KNOBS},
    memory::marked,
    spin::Kernel,
};

/// `BPF_RB_NO_WAKEUP`: user space fetches on its own schedule, so no gap costs a wake-up.
const NO_WAKEUP: u64 = 1;

/// The knobs, each read anew: user space may change them at any time.
pub fn knobs() -> Option<Knobs> {
    let knobs = KNOBS.get_ptr(0)?;
    // SAFETY: the pointer comes from the map; the value is plain integers.
    Some(unsafe { ptr::read_volatile(knobs) })
}

/// The statistics of this CPU.
#[inline(always)]
pub fn stats() -> Option<&'static mut CpuStats> {
    let stats = CPU_STATS.get_ptr_mut(0)?;
    // SAFETY: a value of this CPU. The programs that change it run with interrupts off, one at a time, but for the one
    // that counts NMIs, which keeps to values of its own.
    Some(unsafe { &mut *stats })
}

/// Applies `change` to the statistics of this CPU such that a concurrent copy can tell that it was under way.
#[inline(always)]
pub fn change(change: impl FnOnce(&mut CpuStats)) {
    let Some(stats) = stats() else { return };
    let marks = (&raw mut stats.started, &raw mut stats.completed);
    // SAFETY: both are places in the map.
    unsafe { marked(marks, || change(stats)) };
}

/// [`record_gap`] for a gap of which nothing else is known.
#[inline(always)]
pub fn record(end_ns: u64, duration_ns: u64) {
    let mut gap = MaybeUninit::<GapRecord>::uninit();
    let words = gap.as_mut_ptr().cast::<u64>();
    for word in 0..size_of::<GapRecord>() / size_of::<u64>() {
        // SAFETY: within the record, which is made of such words. Volatile, one by one: of several at once the linker makes a
        // loop over single bytes (`--bpf-expand-memcpy-in-order`), which takes longer than much of the recording.
        unsafe { words.add(word).write_volatile(0) };
    }
    // SAFETY: all of it was written.
    let gap = unsafe { gap.assume_init_mut() };
    gap.end_ns = end_ns;
    gap.duration_ns = duration_ns;
    // SAFETY: it points to a record.
    unsafe { record_gap(gap, 0) };
}

/// Records `gap` on this CPU, with what is proven of its cause. The caller has applied the threshold.
///
/// What moved may have done so between the gap and the reading of the counters, and is left to the next gap then as far as
/// that can be told; unless `is_window` is 1, as the record stands for a whole window.
///
/// A global function: the verifier checks it once by itself, instead of again on each of the many paths that lead here.
/// Returns 0; the verifier wants global functions to return a number.
///
/// # Safety
/// `gap` points to a record or is null.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn record_gap(gap: *const GapRecord, is_window: u64) -> u64 {
    // SAFETY: the caller's promise; the verifier insists on the check for null that this contains.
    let Some(gap) = (unsafe { gap.as_ref() }) else {
        return 0;
    };
    let Some(knobs) = knobs() else { return 0 };
    let mut since = causes::since_at_gap().unwrap_or_default();
    if is_window == 0 {
        let begin_ns = gap.end_ns.saturating_sub(gap.duration_ns);
        since.keep_within::<Kernel>(begin_ns, gap.end_ns);
    }
    let proven = cause::proven(gap.duration_ns, since.smis, since.nmis, since.steal_ns);
    let gap = GapRecord {
        // SAFETY: the helper has no preconditions.
        cpu: u64::from(unsafe { bpf_get_smp_processor_id() }),
        // The compiler knows the range of this and of the position and would drop the bounds checks, which the verifier,
        // looking at each global function alone, insists on.
        cause: black_box(proven),
        smis: since.smis,
        steal_ns: since.steal_ns,
        ..*gap
    };
    let position = black_box(bucket_position(gap.duration_ns));
    change(|stats| {
        since.add_to(&mut stats.counted, true);
        if stats.add(&gap, position as usize, &knobs) {
            send(stats, &gap);
        }
    });
    0
}

/// [`buckets::position`], checked by the verifier once: its 256 outcomes are not followed into the caller.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn bucket_position(ns: u64) -> u64 {
    buckets::position(ns) as u64
}

/// Sends the gap to user space.
#[inline(always)]
fn send(stats: &mut CpuStats, gap: &GapRecord) {
    let Some(mut entry) = GAPS.reserve::<GapRecord>(0) else {
        stats.records_lost += 1;
        return;
    };
    entry.write(*gap);
    entry.submit(NO_WAKEUP);
    stats.records_sent += 1;
}
