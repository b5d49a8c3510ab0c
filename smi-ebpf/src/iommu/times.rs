//! Times unmaps, from the entry of the kernel's function to its end: with what the IOMMU takes to forget what it has cached.

use core::{hint::black_box, ptr};

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
    programs::{FEntryContext, FExitContext},
};
use smi_common::{
    buckets::BUCKETS,
    iommu::{TIMED, Timed, Times},
};

use super::{argument, cpu, handoff, knobs};
use crate::{
    memory::marked,
    record::bucket_position,
    spin::{Clock, Kernel},
};

/// As many as handing over has.
const PLACES: u32 = 4096;

/// A call under way that is timed.
#[repr(C)]
#[derive(Clone, Copy)]
struct Start {
    who: u64,
    iova: u64,
    at_ns: u64,
}

/// Calls under way.
#[map]
static IOMMU_STARTS: Array<Start> = Array::with_max_entries(PLACES, 0);

/// How long they took, by [`Timed`].
#[map]
static IOMMU_TIMES: PerCpuArray<Times> = PerCpuArray::with_max_entries(TIMED, 0);

/// Entry of a function that unmaps at its second argument.
#[inline(always)]
pub fn timed_begins(ctx: &FEntryContext) {
    let (Some(knobs), Some(cpu)) = (knobs(), cpu()) else {
        return;
    };
    cpu.untimed += 1;
    if cpu.untimed < knobs.time_one_in {
        return;
    }
    cpu.untimed = 0;
    let iova = argument(ctx, 1);
    let who = handoff::who();
    let Some(start) = IOMMU_STARTS.get_ptr_mut(handoff::place(who, iova)) else {
        return;
    };
    // SAFETY: a place in the map. What others write over is known by who and where.
    unsafe {
        *start = Start {
            who,
            iova,
            at_ns: Kernel::now(),
        }
    };
}

/// Its end.
#[inline(always)]
pub fn timed_ends(ctx: &FExitContext, timed: Timed) {
    let iova = argument(ctx, 1);
    let who = handoff::who();
    let Some(start) = IOMMU_STARTS.get_ptr_mut(handoff::place(who, iova)) else {
        return;
    };
    // SAFETY: as above.
    let (had, at, at_ns) = unsafe { ((*start).who, (*start).iova, (*start).at_ns) };
    if had != who || at != iova {
        return;
    }
    // SAFETY: as above.
    unsafe { (*start).who = 0 };
    let length_ns = Kernel::now().saturating_sub(at_ns);
    let Some(times) = IOMMU_TIMES.get_ptr_mut(timed as u32) else {
        return;
    };
    let position = black_box(bucket_position(length_ns)) as usize;
    // SAFETY: a value of this CPU in the map, of which no reference is made. The kernel does not run a program within itself on
    // the same CPU, and each of the two has a value of its own.
    unsafe {
        let marks = (&raw mut (*times).started, &raw mut (*times).completed);
        marked(marks, || {
            (*times).count += 1;
            (*times).sum_ns += length_ns;
            if length_ns > (*times).max_ns {
                (*times).max_ns = length_ns;
            }
            if position < BUCKETS {
                let bucket = (&raw mut (*times).histogram).cast::<u64>().add(position);
                ptr::write(bucket, ptr::read(bucket) + 1);
            }
        });
    }
}
