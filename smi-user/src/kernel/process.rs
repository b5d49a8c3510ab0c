//! What this process may do: capabilities (`/proc/self/status`, `capabilities(7)`) and the settings that limit them.

use std::{fs, mem::MaybeUninit};

/// The capabilities smilat uses, with their bit (`include/uapi/linux/capability.h`).
pub const CAP_SYS_ADMIN: (u32, &str) = (21, "CAP_SYS_ADMIN");
/// For files of other users: reports that `sudo smilat` writes into a user's folder.
pub const CAP_DAC_OVERRIDE: (u32, &str) = (1, "CAP_DAC_OVERRIDE");
/// The same for reading.
pub const CAP_DAC_READ_SEARCH: (u32, &str) = (2, "CAP_DAC_READ_SEARCH");
/// For I/O ports and model-specific registers.
pub const CAP_SYS_RAWIO: (u32, &str) = (17, "CAP_SYS_RAWIO");
/// For a real-time priority.
pub const CAP_SYS_NICE: (u32, &str) = (23, "CAP_SYS_NICE");
/// For the addresses of the kernel's functions.
pub const CAP_SYSLOG: (u32, &str) = (34, "CAP_SYSLOG");
/// For perf events of the kernel.
pub const CAP_PERFMON: (u32, &str) = (38, "CAP_PERFMON");
/// For BPF.
pub const CAP_BPF: (u32, &str) = (39, "CAP_BPF");

/// Effective capabilities, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Those of this process; none where `/proc` cannot be read.
    pub fn own() -> Self {
        fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| Self::of_status(&status))
            .unwrap_or(Self(0))
    }

    /// Just these.
    pub fn of(capabilities: impl IntoIterator<Item = (u32, &'static str)>) -> Self {
        Self(
            capabilities
                .into_iter()
                .fold(0, |bits, (bit, _)| bits | 1 << bit),
        )
    }

    fn of_status(status: &str) -> Option<Self> {
        Self::set_of_status(status, "CapEff:")
    }

    /// The permitted ones of a thread, by its `status` file.
    pub fn permitted_of_status(status: &str) -> Option<Self> {
        Self::set_of_status(status, "CapPrm:")
    }

    fn set_of_status(status: &str, name: &str) -> Option<Self> {
        let hex = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(hex.trim(), 16).ok().map(Self)
    }

    /// A bit each.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether `capability` is there, or `CAP_SYS_ADMIN`, where that stands in for it (`bpf_capable` and
    /// `perfmon_capable` in `include/linux/capability.h`).
    pub fn has(self, capability: (u32, &str)) -> bool {
        let bit = |(bit, _)| self.0 >> bit & 1 == 1;
        bit(capability) || ([CAP_BPF, CAP_PERFMON].contains(&capability) && bit(CAP_SYS_ADMIN))
    }

    /// Whether `CAP_SYS_ADMIN` stands in for `capability`, which is not there itself.
    pub fn has_by_proxy(self, capability: (u32, &str)) -> bool {
        self.has(capability) && self.0 >> capability.0 & 1 == 0
    }
}

/// The mode of the kernel's lockdown, if one is in force (`/sys/kernel/security/lockdown`, `kernel_lockdown(7)`).
pub fn lockdown() -> Option<String> {
    lockdown_of(&fs::read_to_string("/sys/kernel/security/lockdown").ok()?)
}

/// Whether the kernel says in what mode its lockdown is; it does not where `securityfs` is not mounted.
pub fn shows_lockdown() -> bool {
    fs::exists("/sys/kernel/security/lockdown").unwrap_or(false)
}

fn lockdown_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    (mode != "none").then(|| mode.to_owned())
}

/// Lets this process open as many files as it may: perf events take some for each CPU. Where that is refused, the limit
/// stays as it is, and shows when it is met.
pub fn allow_many_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls read or write the value given, which lives until they return.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Whether this process runs as root, whose files need no capability.
pub fn is_root() -> bool {
    // SAFETY: no preconditions, and it cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// CPU time of this process since it started, user and system, in ns (`getrusage(2)`; the kernel keeps it in ns and tells
/// us). Of a kernel with `CONFIG_IRQ_TIME_ACCOUNTING`, without what it does in interrupts (`irqtime_account_irq`,
/// `kernel/sched/cputime.c`).
pub fn cpu_ns() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the call writes the whole value; it cannot fail for this process.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let ns = |time: libc::timeval| {
        // Neither is negative.
        time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1_000
    };
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// Memory this process holds, in bytes (the second number of `/proc/self/statm`, in pages; `/proc/self/status` has the same and
/// takes longer to write); `None` where `/proc` cannot be read.
pub fn resident_bytes() -> Option<u64> {
    let pages = resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?;
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        let status = "Name:\tcat\nCapPrm:\t0000000000000000\nCapEff:\t000000c000800000\n";
        let capabilities = Capabilities::of_status(status).expect("CapEff");
        assert!(capabilities.has(CAP_BPF));
        assert!(capabilities.has(CAP_PERFMON));
        assert!(capabilities.has(CAP_SYS_NICE));
        assert!(!capabilities.has(CAP_SYS_ADMIN));
    }

    #[test]
    fn the_memory_held_is_read_from_the_file_of_pages() {
        assert_eq!(
            resident_pages("57161 20756 2048 4 0 11047 0\n"),
            Some(20_756)
        );
        assert_eq!(resident_pages("57161"), None);
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn sys_admin_stands_in_for_bpf_and_perfmon_only() {
        let capabilities = Capabilities::of([CAP_SYS_ADMIN]);
        for basic in [CAP_BPF, CAP_PERFMON] {
            assert!(capabilities.has(basic) && capabilities.has_by_proxy(basic));
            let itself = Capabilities::of([CAP_SYS_ADMIN, basic]);
            assert!(itself.has(basic) && !itself.has_by_proxy(basic));
        }
        for other in [CAP_SYS_NICE, CAP_SYSLOG, CAP_SYS_RAWIO] {
            assert!(!capabilities.has(other) && !capabilities.has_by_proxy(other));
        }
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(lockdown_of("[none] integrity confidentiality\n"), None);
        assert_eq!(
            lockdown_of("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
    }
}
