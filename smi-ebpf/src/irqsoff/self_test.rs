//! Turns interrupts off for real, for as long as it is asked to: a timer's callback that does not return.

use core::{ffi::c_void, ptr};

use aya_ebpf::{helpers::generated::bpf_loop, macros::map, maps::Array};
use smi_common::irqsoff::SelfTest;

use crate::spin::{Clock, Kernel};

/// `BPF_MAX_LOOPS` of `include/linux/bpf.h`.
const MAX_ROUNDS: u32 = 8 * 1024 * 1024;
/// Calls of `bpf_loop`: one covers a tenth of a second at the least.
const CALLS: u32 = 64;

/// What is asked for and what was done; one entry.
#[map]
static IRQSOFF_SELF_TEST: Array<SelfTest> = Array::with_max_entries(1, 0);

/// Reads the clock; 1 when the end has come.
unsafe extern "C" fn wait(_round: u64, end_ns: *mut c_void) -> i64 {
    // SAFETY: `bpf_loop` hands over the pointer that `run` gave it, to a value that outlives the loop.
    i64::from(Kernel::now() >= unsafe { *end_ns.cast::<u64>() })
}

/// Runs in an interrupt of a thread that asked for it; does nothing when nothing is asked for.
#[inline(always)]
pub fn self_test() {
    let Some(test) = IRQSOFF_SELF_TEST.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the pointer comes from the map. User space shares the value, hence the volatile accesses.
    let asked_ns = unsafe { ptr::read_volatile(&raw const (*test).asked_ns) };
    if asked_ns == 0 {
        return;
    }
    // SAFETY: as above. The next expiry does nothing.
    unsafe { ptr::write_volatile(&raw mut (*test).asked_ns, 0) };
    let begin_ns = Kernel::now();
    let mut end_ns = begin_ns + asked_ns;
    let mut call = 0;
    while call < CALLS && Kernel::now() < end_ns {
        // SAFETY: the callback and its argument live until the helper returns.
        unsafe { bpf_loop(MAX_ROUNDS, wait as *mut c_void, (&raw mut end_ns).cast(), 0) };
        call += 1;
    }
    // SAFETY: as above.
    unsafe { ptr::write_volatile(&raw mut (*test).done_ns, Kernel::now() - begin_ns) };
}
