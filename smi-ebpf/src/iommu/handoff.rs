//! Hands the domain of a map or unmap from the entry of the kernel's function to the tracepoint at its end.
//!
//! In between the thread can be preempted and go on elsewhere, and an interrupt can map something else. So it is left in a
//! place that thread and address choose, with enough to know it by; what is found there is taken away, and what another has
//! written over is put down to no domain.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id},
    macros::map,
    maps::Array,
    programs::FEntryContext,
};

use super::argument;

/// Places: a power of two, far above the number of maps and unmaps that can be under way.
const PLACES: u32 = 4096;
/// Above all process ids: idle threads share theirs, but never leave their CPU.
const IDLE: u64 = 1 << 63;

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    /// Of all the rest, to know one that two have written to at the same time; never 0.
    check: u64,
    domain: u64,
}

/// Calls under way.
#[map]
static IOMMU_CALLS: Array<Call> = Array::with_max_entries(PLACES, 0);

/// Who runs here: no two threads at the same time.
#[inline(always)]
pub(super) fn who() -> u64 {
    let ids = bpf_get_current_pid_tgid();
    if ids != 0 {
        return ids;
    }
    // SAFETY: the helper has no preconditions.
    IDLE | u64::from(unsafe { bpf_get_smp_processor_id() })
}

/// The place for what `who` does at `iova`. All bits of both decide: what an interrupt does in between is at another address, but
/// addresses of large pieces are alike in their lowest bits, and ids in their highest.
#[inline(always)]
pub(super) fn place(who: u64, iova: u64) -> u32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (who ^ iova.rotate_left(32)).wrapping_mul(GOLDEN);
    (mixed >> 52) as u32 & (PLACES - 1)
}

/// What tells one call from another.
#[inline(always)]
fn check(who: u64, iova: u64, second: u64, domain: u64) -> u64 {
    who.rotate_left(17) ^ iova.rotate_left(5) ^ second.rotate_left(31) ^ domain | 1
}

#[inline(always)]
fn leave(domain: u64, iova: u64, second: u64) {
    let who = who();
    let Some(call) = IOMMU_CALLS.get_ptr_mut(place(who, iova)) else {
        return;
    };
    // SAFETY: a place in the map. What other CPUs write meanwhile is told by the check.
    unsafe {
        (*call).domain = domain;
        (*call).check = check(who, iova, second, domain);
    }
}

/// The domain of the call at `iova` that ends; 0 where that is not known. `second` is an argument that it was left with.
#[inline(always)]
pub(super) fn take(iova: u64, second: u64) -> u64 {
    let who = who();
    let Some(call) = IOMMU_CALLS.get_ptr_mut(place(who, iova)) else {
        return 0;
    };
    // SAFETY: as above.
    let domain = unsafe { (*call).domain };
    // SAFETY: as above.
    if unsafe { (*call).check } != check(who, iova, second, domain) {
        return 0;
    }
    // SAFETY: as above.
    unsafe { (*call).check = 0 };
    domain
}

/// Entry of `__iommu_map(domain, iova, paddr, size, ...)`, `iommu_map_nosync` of newer kernels (`drivers/iommu/iommu.c`).
#[inline(always)]
pub fn map_begins(ctx: &FEntryContext) {
    leave(argument(ctx, 0), argument(ctx, 1), argument(ctx, 2));
}

/// Entry of `__iommu_attach_device(domain, dev)`, which has the tracepoint of that.
#[inline(always)]
pub fn attach_begins(ctx: &FEntryContext) {
    leave(argument(ctx, 0), argument(ctx, 1), 0);
}

/// Entry of `__iommu_unmap(domain, iova, size, gather)`.
#[inline(always)]
pub fn unmap_begins(ctx: &FEntryContext) {
    leave(argument(ctx, 0), argument(ctx, 1), argument(ctx, 2));
}
