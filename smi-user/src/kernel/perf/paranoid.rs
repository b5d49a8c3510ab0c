//! Kernels that open perf events for `CAP_SYS_ADMIN` only, whoever has `CAP_PERFMON`: Debian's where
//! `kernel.perf_event_paranoid` is 3 or more, Ubuntu's from 4 on, which they are unless somebody changes it (their patch
//! "security,perf: Allow further restriction of `perf_event_open`"). Other kernels know no value above 2, or let
//! `CAP_PERFMON` do at any, so the value alone does not tell.

use std::fs;

use super::{ATTR_SIZE, Attr, PERF_COUNT_SW_TASK_CLOCK, PERF_TYPE_SOFTWARE, open_event};
use crate::kernel::{
    capabilities,
    process::{CAP_SYS_ADMIN, Capabilities},
};

const SETTING: &str = "/proc/sys/kernel/perf_event_paranoid";

/// The highest value of a kernel without such a patch.
const HIGHEST: i32 = 2;

/// Bits of `struct perf_event_attr`.
const DISABLED: u64 = 1 << 0;
const EXCLUDE_KERNEL: u64 = 1 << 5;

/// What helps against [`in_the_way`].
pub const REMEDY: &str = "sysctl kernel.perf_event_paranoid=2 (for good: kernel.perf_event_paranoid=2 in a file in \
                          /etc/sysctl.d), or give it CAP_SYS_ADMIN, which root has";

/// `kernel.perf_event_paranoid`; `None` where the kernel has no perf events.
pub fn level() -> Option<i32> {
    fs::read_to_string(SETTING).ok()?.trim().parse().ok()
}

/// The value of `kernel.perf_event_paranoid` where this kernel opens perf events for `CAP_SYS_ADMIN` only. It is tried out
/// without that capability; the process must have `CAP_PERFMON`, for it might do.
pub fn takes_sys_admin() -> Option<i32> {
    let level = level().filter(|level| *level > HIGHEST)?;
    let refused = capabilities::without(CAP_SYS_ADMIN, is_refused);
    // What could not be tried may be so.
    refused.unwrap_or(true).then_some(level)
}

/// Why perf events are closed to this process although it has `CAP_PERFMON`; `None` where that is not so. [`REMEDY`] helps.
pub fn in_the_way() -> Option<String> {
    if Capabilities::own().has(CAP_SYS_ADMIN) {
        return None;
    }
    takes_sys_admin().map(reason)
}

fn reason(level: i32) -> String {
    format!(
        "this process lacks CAP_SYS_ADMIN, without which this kernel opens no perf event while kernel.perf_event_paranoid is \
         {level}"
    )
}

/// Whether the calling thread may open no event, not even one of its own time outside of the kernel.
fn is_refused() -> bool {
    let attr = Attr {
        kind: PERF_TYPE_SOFTWARE,
        size: ATTR_SIZE,
        config: PERF_COUNT_SW_TASK_CLOCK,
        flags: DISABLED | EXCLUDE_KERNEL,
        ..Attr::default()
    };
    let (this_thread, any_cpu) = (0, -1);
    open_event(&attr, this_thread, any_cpu, None)
        .is_err_and(|error| error.source.raw_os_error() == Some(libc::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_names_the_setting_its_value_and_both_remedies() {
        let told = format!("{}; {REMEDY}", reason(3));
        for part in [
            "kernel.perf_event_paranoid is 3",
            "lacks CAP_SYS_ADMIN",
            "sysctl kernel.perf_event_paranoid=2",
            "/etc/sysctl.d",
            "give it CAP_SYS_ADMIN",
        ] {
            assert!(told.contains(part), "no \"{part}\" in: {told}");
        }
    }

    #[test]
    fn kernels_that_know_no_such_value_take_no_more_than_before() {
        if level().is_none_or(|level| level <= HIGHEST) {
            assert_eq!(takes_sys_admin(), None);
            assert_eq!(in_the_way(), None);
        }
    }
}
