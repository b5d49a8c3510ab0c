//! Ending everything (`Documentation/admin-guide/sysrq.rst`).

use std::{fs, io};

/// Has the kernel panic, as if it had met a fault: with kdump set up, it keeps all of the memory. Does not return where it
/// succeeds.
///
/// # Errors
/// When the kernel is built without `CONFIG_MAGIC_SYSRQ`, or this process may not.
pub fn panic() -> io::Result<()> {
    // SAFETY: no preconditions.
    unsafe { libc::sync() };
    fs::write("/proc/sysrq-trigger", "c")
}
