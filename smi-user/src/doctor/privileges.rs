//! What this process may do.

use std::thread;

use super::{Check, Facts, Group, State};
use crate::kernel::{
    cpus::CpuList,
    kconfig::{Config, Setting},
    perf::paranoid,
    port::Ports,
    process::{self, Capabilities},
    sched,
};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let paranoid = paranoid::level().map(|level| Paranoid {
        level,
        takes_sys_admin: paranoid::takes_sys_admin().is_some(),
    });
    let mut checks = vec![
        capabilities(
            facts.capabilities,
            paranoid.is_some_and(|paranoid| paranoid.takes_sys_admin),
        ),
        priority(try_priority()),
        lockdown(
            process::shows_lockdown(),
            process::lockdown().as_deref(),
            facts.config(),
            Ports::open().is_ok(),
        ),
    ];
    checks.extend(paranoid.map(|paranoid| perf_events(facts.capabilities, paranoid)));
    if let Ok(online) = CpuList::online() {
        checks.push(cpus(&online, &sched::allowed(&online)));
    }
    checks
}

/// What each capability beyond those that every detector needs is for.
const PURPOSES: [((u32, &str), &str); 4] = [
    (process::CAP_SYS_NICE, "real-time priority"),
    (process::CAP_SYS_ADMIN, "the detectors hwlat and osnoise"),
    (process::CAP_SYSLOG, "hwlat counting in the kernel"),
    (
        process::CAP_SYS_RAWIO,
        "firing SMIs and reading model-specific registers",
    ),
];

/// `events_take_sys_admin`: whether that is so of every perf event.
fn capabilities(own: Capabilities, events_take_sys_admin: bool) -> Check {
    let lacks = |capability: &(u32, &str)| !own.has(*capability);
    let mut basic = vec![process::CAP_BPF, process::CAP_PERFMON];
    if events_take_sys_admin {
        basic.push(process::CAP_SYS_ADMIN);
    }
    let others = PURPOSES
        .map(|(capability, _)| capability)
        .into_iter()
        .filter(|capability| !basic.contains(capability));
    let lacking: Vec<_> = basic
        .iter()
        .copied()
        .chain(others)
        .filter(lacks)
        .map(|(_, name)| name)
        .collect();
    let name = "capabilities";
    if lacking.is_empty() {
        return Check::ok(Group::Privileges, name, "all that smilat uses");
    }
    let blocks = if basic.iter().any(lacks) {
        "every detector, and checks below that need them".to_owned()
    } else {
        let purposes = PURPOSES
            .iter()
            .filter(|(capability, _)| lacks(capability))
            .map(|(_, purpose)| *purpose);
        format!(
            "{}; not the detector spin",
            purposes.collect::<Vec<_>>().join(", ")
        )
    };
    Check::ok(
        Group::Privileges,
        name,
        format!("lacks {}", lacking.join(", ")),
    )
    .but(
        State::Missing,
        blocks,
        "run it as root, for example with sudo",
    )
}

/// `kernel.perf_event_paranoid`, and whether this kernel opens perf events for `CAP_SYS_ADMIN` only because of it.
#[derive(Clone, Copy)]
struct Paranoid {
    level: i32,
    takes_sys_admin: bool,
}

fn perf_events(own: Capabilities, paranoid: Paranoid) -> Check {
    let Paranoid {
        level,
        takes_sys_admin,
    } = paranoid;
    let check = |enough: &str| {
        Check::ok(
            Group::Privileges,
            "perf events",
            format!("kernel.perf_event_paranoid is {level}{enough}"),
        )
    };
    let blocks = "the detector spin, and counting SMIs by perf events";
    if !own.has(process::CAP_PERFMON) {
        return check("; not tried, CAP_PERFMON is lacking").but(
            State::Unknown,
            blocks,
            "run it as root, for example with sudo",
        );
    }
    match (takes_sys_admin, own.has(process::CAP_SYS_ADMIN)) {
        (false, _) => check(": CAP_PERFMON is enough"),
        (true, true) => check(": this kernel wants CAP_SYS_ADMIN then, and it is there"),
        (true, false) => check(": this kernel wants CAP_SYS_ADMIN then, and it is lacking").but(
            State::Missing,
            blocks,
            paranoid::REMEDY,
        ),
    }
}

/// Whether a thread can have the priority that sampling threads ask for.
fn try_priority() -> Result<(), String> {
    thread::spawn(|| sched::set_fifo(1).map_err(|error| error.to_string()))
        .join()
        .unwrap_or_else(|_| Err("the thread that tried it ended".to_owned()))
}

fn priority(tried: Result<(), String>) -> Check {
    let name = "real-time priority";
    match tried {
        Ok(()) => Check::ok(Group::Privileges, name, "SCHED_FIFO 1 is granted"),
        Err(error) => Check::ok(
            Group::Privileges,
            name,
            format!("SCHED_FIFO 1 is refused ({error})"),
        )
        .but(
            State::Missing,
            "the default priority of the spin detector's threads; without it busy CPUs take time from the windows",
            "run it as root and outside cgroups without real-time budget (cpu.rt_runtime_us), or use --rt-priority 0",
        ),
    }
}

/// Options that have a kernel locked down from the start (`security/lockdown/Kconfig`), with the mode.
const FORCED: [(&str, &str); 2] = [
    (
        "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
        "confidentiality",
    ),
    ("CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY", "integrity"),
];

/// The option of them that the kernel was built with, and its mode.
pub(super) fn forced_lockdown(config: &Config) -> Option<(&'static str, &'static str)> {
    FORCED
        .into_iter()
        .find(|(option, _)| config.get(option) != Setting::Off)
}

/// `shown` and `mode` are what the kernel says, `config` how it was built, where that is known; `ports` is whether
/// `/dev/port` can be opened, which no lockdown allows (`open_port` in `drivers/char/mem.c`).
fn lockdown(shown: bool, mode: Option<&str>, config: Option<&Config>, ports: bool) -> Check {
    let name = "lockdown";
    let locked = |mode: &str, found: String, remedy: String| {
        let blocks = if mode == "confidentiality" {
            "the tracing file system (hwlat, osnoise), reading kernel memory from BPF, firing SMIs through I/O ports"
        } else {
            "firing SMIs through I/O ports; no detector"
        };
        Check::ok(Group::Privileges, name, found).but(State::Warning, blocks, remedy)
    };
    let forced = config.and_then(forced_lockdown);
    let built = config.map(|config| config.get("CONFIG_SECURITY_LOCKDOWN_LSM"));
    match (shown, mode, built) {
        (true, Some(mode), _) => locked(
            mode,
            mode.to_owned(),
            match forced {
                Some((option, _)) => format!(
                    "it cannot be lowered while the kernel runs, and this one is built with {option}=y: boot one that is \
                     not"
                ),
                None => "it cannot be lowered while the kernel runs: boot without lockdown= on the kernel's command \
                         line; where Secure Boot brings it, turn that off in the firmware"
                    .to_owned(),
            },
        ),
        (true, None, _) => Check::ok(Group::Privileges, name, "none"),
        (false, ..) if ports => Check::ok(
            Group::Privileges,
            name,
            "none: it would have shut /dev/port, which opens",
        ),
        (false, ..) if let Some((option, mode)) = forced => locked(
            mode,
            format!("{mode} or stricter, for the kernel is built with {option}=y; it says which where securityfs is mounted"),
            format!(
                "boot a kernel built without {option}; mount -t securityfs securityfs /sys/kernel/security shows \
                 the mode"
            ),
        ),
        (false, _, Some(Setting::Off)) => Check::ok(
            Group::Privileges,
            name,
            "none; the kernel is built without it",
        ),
        (false, ..) => Check::ok(
            Group::Privileges,
            name,
            "/sys/kernel/security/lockdown is not there",
        )
        .but(
            State::Unknown,
            "firing SMIs through I/O ports, and in confidentiality mode the tracing file system",
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

fn cpus(online: &CpuList, allowed: &CpuList) -> Check {
    let name = "CPUs allowed";
    if online == allowed {
        return Check::ok(
            Group::Privileges,
            name,
            format!("all that are online: {online}"),
        );
    }
    Check::ok(
        Group::Privileges,
        name,
        format!("{allowed} of {online} online"),
    )
    .but(
        State::Warning,
        "watching the other CPUs: this process's cpuset bars them",
        "run smilat outside that cgroup or container",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lacking_capabilities_are_named_with_what_they_block() {
        let all = [
            process::CAP_SYS_ADMIN,
            process::CAP_SYS_NICE,
            process::CAP_SYSLOG,
            process::CAP_SYS_RAWIO,
        ];
        assert_eq!(capabilities(Capabilities::of(all), true).state, State::Ok);
        let none = capabilities(Capabilities::of([]), false);
        assert_eq!(none.state, State::Missing);
        assert!(none.found.contains("CAP_BPF, CAP_PERFMON"), "{none:?}");
        assert!(none.blocks.contains("every detector"), "{none:?}");
        let two = Capabilities::of([process::CAP_BPF, process::CAP_PERFMON]);
        let spin = capabilities(two, false);
        assert!(
            spin.found.ends_with("CAP_SYSLOG, CAP_SYS_RAWIO"),
            "{spin:?}"
        );
        assert!(
            spin.blocks.contains("firing SMIs") && spin.blocks.ends_with("not the detector spin"),
            "{spin:?}"
        );
        let closed = capabilities(two, true);
        assert!(closed.blocks.starts_with("every detector"), "{closed:?}");
        assert_eq!(
            closed.found,
            "lacks CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYSLOG, CAP_SYS_RAWIO"
        );
    }

    #[test]
    fn perf_events_for_sys_admin_only_are_missing_without_it() {
        let closed = Paranoid {
            level: 3,
            takes_sys_admin: true,
        };
        let open = Paranoid {
            level: 3,
            takes_sys_admin: false,
        };
        let perfmon = Capabilities::of([process::CAP_PERFMON]);
        let admin = Capabilities::of([process::CAP_SYS_ADMIN]);
        for (own, paranoid, state) in [
            (Capabilities::of([]), closed, State::Unknown),
            (perfmon, closed, State::Missing),
            (perfmon, open, State::Ok),
            (admin, closed, State::Ok),
        ] {
            let check = perf_events(own, paranoid);
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.found.contains("paranoid is 3"), "{check:?}");
        }
        let told = perf_events(perfmon, closed).remedy;
        assert!(
            told.contains("paranoid=2") && told.contains("CAP_SYS_ADMIN"),
            "{told}"
        );
    }

    #[test]
    fn lockdown_is_claimed_only_where_it_was_seen() {
        assert_eq!(lockdown(true, None, None, false).state, State::Ok);
        let without = Config::of_text("config", "");
        let with = Config::of_text("config", "CONFIG_SECURITY_LOCKDOWN_LSM=y\n");
        assert_eq!(
            lockdown(false, None, Some(&without), false).state,
            State::Ok
        );
        assert_eq!(lockdown(false, None, None, false).state, State::Unknown);
        assert_eq!(
            lockdown(false, None, Some(&with), false).state,
            State::Unknown
        );
        assert_eq!(lockdown(false, None, Some(&with), true).state, State::Ok);
        let integrity = lockdown(true, Some("integrity"), None, false);
        assert_eq!(integrity.state, State::Warning);
        assert!(!integrity.blocks.contains("hwlat"), "{integrity:?}");
        assert!(
            lockdown(true, Some("confidentiality"), None, false)
                .blocks
                .contains("hwlat")
        );
    }

    #[test]
    fn a_lockdown_that_was_built_in_is_told_as_such() {
        let forced = Config::of_text(
            "config",
            "CONFIG_SECURITY_LOCKDOWN_LSM=y\nCONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y\n",
        );
        let unseen = lockdown(false, None, Some(&forced), false);
        assert_eq!(unseen.state, State::Warning);
        assert!(
            unseen.found.starts_with("integrity or stricter"),
            "{unseen:?}"
        );
        let seen = lockdown(true, Some("integrity"), Some(&forced), false);
        for check in [unseen, seen] {
            assert!(check.remedy.contains("FORCE_INTEGRITY"), "{check:?}");
            assert!(!check.remedy.contains("lockdown="), "{check:?}");
        }
    }

    #[test]
    fn a_cpuset_narrower_than_the_machine_is_told() {
        let list = |list: &str| list.parse::<CpuList>().expect(list);
        assert_eq!(cpus(&list("0-3"), &list("0-3")).state, State::Ok);
        assert_eq!(cpus(&list("0-3"), &list("1")).found, "1 of 0-3 online");
    }
}
