//! What a hang-up (SIGHUP) can mean to this process: a terminal that was closed, or a word from somebody.

use std::{fs::OpenOptions, mem, os::unix::fs::OpenOptionsExt as _, ptr};

/// Whether this process has a controlling terminal (`tty(4)`). One that is closed is taken away from all its processes
/// before they are sent the signal (`__tty_hangup` in `drivers/tty/tty_io.c`).
pub fn has_terminal() -> bool {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/dev/tty")
        .is_ok()
}

/// Whether hang-ups are ignored, as by `nohup(1)`; true of the start only as long as no handler was set.
pub fn is_ignored() -> bool {
    // SAFETY: `sigaction` is plain data, for which zero is "the default, no flags".
    let mut now: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes the value, which lives until the call returns, and changes nothing.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, ptr::null(), &raw mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}
