//! Where and how urgently the calling thread runs (`sched(7)`).

use std::{io, mem};

use super::cpus::CpuList;

/// CPUs a mask passed to the kernel has room for; the same as the highest CPU a list may name.
const MASK_WORDS: usize = 8192 / u64::BITS as usize;

/// Keeps the calling thread on `cpus`.
///
/// # Errors
/// `EINVAL` when none of them is online or the thread's cpuset has none of them.
pub fn set_affinity(cpus: impl IntoIterator<Item = u32>) -> io::Result<()> {
    let mut mask = [0u64; MASK_WORDS];
    for cpu in cpus {
        mask[(cpu / u64::BITS) as usize] |= 1 << (cpu % u64::BITS);
    }
    // SAFETY: the size is that of the mask, which the kernel only reads. Masks may be longer than `cpu_set_t`
    // (sched_setaffinity(2), "Handling systems with large CPU affinity masks").
    let rc = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&mask), mask.as_ptr().cast()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The CPUs that the calling thread may run on now, as far as they are online.
fn affinity() -> io::Result<CpuList> {
    let mut mask = [0u64; MASK_WORDS];
    // SAFETY: the size is that of the mask, which the kernel writes no more than that of.
    let rc =
        unsafe { libc::sched_getaffinity(0, mem::size_of_val(&mask), mask.as_mut_ptr().cast()) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    let is_set = |cpu: &u32| mask[(cpu / u64::BITS) as usize] >> (cpu % u64::BITS) & 1 == 1;
    Ok((0..u64::BITS * MASK_WORDS as u32).filter(is_set).collect())
}

/// Those of `cpus` that the process may run on: not those outside its cpuset.
///
/// Tried on a thread of its own, because a thread's present mask may be narrower than what it could be set to. All at once,
/// because a thread that is sent from CPU to CPU waits on each busy one; the kernel leaves out those outside the cpuset
/// (`__sched_setaffinity` in `kernel/sched/syscalls.c`).
pub fn allowed(cpus: &CpuList) -> CpuList {
    std::thread::scope(|scope| {
        let tried = scope.spawn(|| {
            // Refused when it would leave none.
            let left = set_affinity(cpus.iter()).and_then(|()| affinity());
            left.unwrap_or_else(|_| CpuList::from_iter([]))
        });
        tried
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives the calling thread the real-time policy `SCHED_FIFO` at `priority`, 1 (lowest) to 99.
///
/// # Errors
/// `EPERM` without the privilege, or in a cgroup without real-time budget.
pub fn set_fifo(priority: u8) -> io::Result<()> {
    // SAFETY: all of `sched_param` is plain integers, on every libc.
    let mut param: libc::sched_param = unsafe { mem::zeroed() };
    param.sched_priority = priority.into();
    // SAFETY: `param` outlives the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the calling thread give way to all others that are not real-time (nice 19), for work that can wait.
///
/// # Errors
/// `EPERM` where a filter of system calls has it so; the kernel itself always allows it.
pub fn give_way() -> io::Result<()> {
    // SAFETY: no memory is passed. On Linux 0 is the calling thread (setpriority(2)).
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The CPU the calling thread runs on at this moment.
pub fn current_cpu() -> u32 {
    // SAFETY: no preconditions. It fails only where the system call is missing, on no kernel this program runs on.
    u32::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_does_not_depend_on_where_a_thread_is_now() {
        let online = CpuList::online().expect("a list");
        let all = allowed(&online);
        assert!(!all.is_empty() && all.without(&online).is_empty(), "{all}");
        let narrow = std::thread::spawn(move || {
            set_affinity(all.highest()).expect("a CPU that is allowed");
            assert_eq!(affinity().expect("a mask").len(), 1);
            assert_eq!(allowed(&online), all);
        });
        narrow.join().expect("the same");
        // None is as high.
        assert!(allowed(&CpuList::from_iter([8191])).is_empty());
    }
}
