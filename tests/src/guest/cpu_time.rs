//! CPU time of threads and processes, as the kernel's scheduler counts it.

use std::mem;

use crate::taken::Taken;

/// CPU time of this thread.
pub(super) fn thread_ns() -> u64 {
    // SAFETY: all zeros are a valid value of this plain structure.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let got = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(got, 0);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// CPU time of all children that were waited for, and of theirs.
pub(super) fn children_ns() -> u64 {
    // SAFETY: all zeros are a valid value of this plain structure.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let got = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(got, 0);
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| {
            time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1000
        })
        .sum()
}

/// CPU time so far of a process, all its threads, and its children, which have none.
pub(super) fn family_ns(process: u32) -> u64 {
    let taken = Taken::by(process).expect("it runs");
    taken.cpu_ns(|_| true)
}
