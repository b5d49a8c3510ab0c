//! Gives capabilities up (`capabilities(7)`). They belong to threads, and a thread can change none but its own: to give some
//! up for good, each one is sent a signal whose handler does it.

use std::{
    fs, io, mem, ptr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use super::process::Capabilities;

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;
/// `CAP_SETPCAP`: may take from the bounding set.
const SETPCAP: u32 = 8;
/// How often threads that still have what they should not are asked again.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// What the handler leaves a thread.
static KEPT: AtomicU64 = AtomicU64::new(u64::MAX);

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Has a thread of its own do something without `capability`, which all others keep.
///
/// # Errors
/// When the kernel does not let it be laid down; nothing was done then.
pub fn without<T: Send>((bit, _): (u32, &str), act: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                let mut sets = own()?;
                sets[bit as usize / 32].effective &= !(1 << (bit % 32));
                set(&sets)?;
                Ok(act())
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Of the calling thread.
fn header() -> Header {
    Header {
        version: VERSION,
        pid: 0,
    }
}

/// The capabilities of the calling thread.
fn own() -> io::Result<[Sets; 2]> {
    let mut header = header();
    let mut sets = [Sets::default(); 2];
    // SAFETY: the kernel's own layouts, alive until the call returns.
    match unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } {
        0 => Ok(sets),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread these.
fn set(sets: &[Sets; 2]) -> io::Result<()> {
    let mut header = header();
    // SAFETY: as above.
    match unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes everything but `kept` from all threads of this process, and from the bounding set where that is allowed
/// (`CAP_SETPCAP`). What was not there is not given.
///
/// # Errors
/// When a thread still has more after a while.
pub fn keep_only(kept: Capabilities) -> io::Result<()> {
    KEPT.store(kept.bits(), Ordering::SeqCst);
    let signal = libc::SIGRTMAX() - 1;
    // SAFETY: `sigaction` is plain data, for which zero is "no flags, nothing masked".
    let mut ours: libc::sigaction = unsafe { mem::zeroed() };
    ours.sa_sigaction = give_up as extern "C" fn(libc::c_int) as usize;
    ours.sa_flags = libc::SA_RESTART;
    // The handler stays: a thread that was asked twice may have given up what it had and still have the second signal before
    // it, which without a handler would end the process.
    // SAFETY: it lives until the call returns; the handler makes system calls only and touches nothing but an atomic.
    if unsafe { libc::sigaction(signal, &raw const ours, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    ask_all(kept, signal)
}

/// Asks every thread that has more than `kept`, those too that begin meanwhile, until none has.
fn ask_all(kept: Capabilities, signal: i32) -> io::Result<()> {
    for _ in 0..TRIES {
        let mut asked = 0;
        for thread in fs::read_dir("/proc/self/task")? {
            let thread = thread?;
            // One that is gone meanwhile has nothing any more.
            let Ok(status) = fs::read_to_string(thread.path().join("status")) else {
                continue;
            };
            let more = Capabilities::permitted_of_status(&status)
                .is_some_and(|permitted| permitted.bits() & !kept.bits() != 0);
            if let Some(id) = thread
                .file_name()
                .to_str()
                .and_then(|id| id.parse::<i32>().ok())
                && more
            {
                asked += 1;
                // SAFETY: no preconditions; a thread that has ended is answered with ESRCH, which shows in the next round.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, signal) };
            }
        }
        if asked == 0 {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(io::Error::other(
        "a thread still has capabilities that it was to give up",
    ))
}

/// Leaves the calling thread what is [`KEPT`]. A handler of signals: nothing in it but system calls.
extern "C" fn give_up(_signal: libc::c_int) {
    let kept = KEPT.load(Ordering::SeqCst);
    // SAFETY: the calling thread's own.
    let errno = unsafe { *libc::__errno_location() };
    if let Ok(mut sets) = own() {
        if sets[0].effective >> SETPCAP & 1 == 1 {
            for capability in (0..u64::BITS).filter(|bit| kept >> bit & 1 == 0) {
                // SAFETY: no preconditions.
                unsafe {
                    libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
                }
            }
        }
        for (word, kept) in sets.iter_mut().zip([kept as u32, (kept >> 32) as u32]) {
            word.effective &= kept;
            word.permitted &= kept;
            word.inheritable &= kept;
        }
        // Refused, it shows in what `ask_all` reads.
        let _refused = set(&sets);
    }
    // SAFETY: as above; put back for the code interrupted.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::process::CAP_SYS_ADMIN;

    #[test]
    fn one_thread_alone_goes_without() {
        let (bit, _) = CAP_SYS_ADMIN;
        let has = |sets: io::Result<[Sets; 2]>| {
            sets.expect("capget")[bit as usize / 32].effective >> (bit % 32) & 1 == 1
        };
        let before = has(own());
        assert!(!has(without(CAP_SYS_ADMIN, own).expect("laid down")));
        assert_eq!(has(own()), before);
    }
}
