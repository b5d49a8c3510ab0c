//! Reading the kernel's memory.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// What is at `offset` from `base`; `None` where nothing can be read.
#[inline(always)]
pub(crate) fn read<T>(base: u64, offset: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset) as *const T) }.ok()
}
