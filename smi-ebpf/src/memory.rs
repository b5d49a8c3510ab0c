//! Reading the kernel's memory, and changing values that are copied meanwhile.

use core::{
    ptr,
    sync::atomic::{Ordering, compiler_fence},
};

use aya_ebpf::helpers::{bpf_get_current_task, bpf_get_smp_processor_id, bpf_probe_read_kernel};
use smi_common::RqPath;

/// What is at `offset` from `base`; `None` where nothing can be read.
#[inline(always)]
pub(crate) fn read<T>(base: u64, offset: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset) as *const T) }.ok()
}

/// The `rq` of this CPU, from which its other per-CPU variables lie at a known distance; `None` where `path` does not lead
/// to it.
#[inline(always)]
pub(crate) fn rq(path: &RqPath) -> Option<u64> {
    // SAFETY: neither helper has preconditions.
    let (task, cpu) = unsafe { (bpf_get_current_task(), bpf_get_smp_processor_id()) };
    let cfs_rq = read::<u64>(task, path.task_cfs_rq)?;
    let rq = read::<u64>(cfs_rq, path.cfs_rq_rq)?;
    (read::<u32>(rq, path.rq_cpu)? == cpu).then_some(rq)
}

/// Applies `change` to a value such that a concurrent copy can tell that it was under way: by the two counts in it that are
/// advanced before and after.
///
/// # Safety
/// Both are places in a map, in the value that `change` changes.
#[inline(always)]
pub(crate) unsafe fn marked((started, completed): (*mut u64, *mut u64), change: impl FnOnce()) {
    // SAFETY: the caller's promise. The accesses are volatile and fenced because their order is what a reader relies on.
    unsafe { ptr::write_volatile(started, ptr::read_volatile(started) + 1) };
    compiler_fence(Ordering::SeqCst);
    change();
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { ptr::write_volatile(completed, ptr::read_volatile(completed) + 1) };
}
