//! The machine's name in the network (`/proc/sys/kernel/hostname`).

use std::fs;

/// As `hostname` prints it; `None` where it cannot be read or there is none.
pub fn hostname() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty() && name != "(none)").then(|| name.to_owned())
}
