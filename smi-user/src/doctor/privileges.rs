//! What this process may do.

use std::thread;

use super::{Check, Facts, Group, State};
use crate::kernel::{
    cpus::CpuList,
    kconfig::Setting,
    process::{self, Capabilities},
    sched,
};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        capabilities(facts.capabilities),
        priority(try_priority()),
        lockdown(
            process::shows_lockdown(),
            process::lockdown().as_deref(),
            facts
                .config()
                .map(|config| config.get("CONFIG_SECURITY_LOCKDOWN_LSM")),
        ),
    ];
    if let Ok(online) = CpuList::online() {
        checks.push(cpus(&online, &sched::allowed(&online)));
    }
    checks
}

fn capabilities(own: Capabilities) -> Check {
    let lacking: Vec<_> = [
        process::CAP_BPF,
        process::CAP_PERFMON,
        process::CAP_SYS_NICE,
        process::CAP_SYS_ADMIN,
    ]
    .into_iter()
    .filter(|capability| !own.has(*capability))
    .map(|(_, name)| name)
    .collect();
    let name = "capabilities";
    if lacking.is_empty() {
        return Check::ok(Group::Privileges, name, "all that smilat uses");
    }
    let blocks = if own.has(process::CAP_BPF) && own.has(process::CAP_PERFMON) {
        "CAP_SYS_ADMIN is for the detectors hwlat and osnoise, CAP_SYS_NICE for real-time priority; spin needs neither"
    } else {
        "every detector, and checks below that need them"
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

fn lockdown(shown: bool, mode: Option<&str>, built: Option<Setting>) -> Check {
    let name = "lockdown";
    match (shown, mode, built) {
        (true, Some(mode), _) => {
            let blocks = if mode == "confidentiality" {
                "the tracing file system (hwlat, osnoise), reading kernel memory from BPF, firing SMIs through I/O ports"
            } else {
                "firing SMIs through I/O ports, writing MSRs"
            };
            Check::ok(Group::Privileges, name, mode).but(
                State::Warning,
                blocks,
                "it cannot be lowered while the kernel runs: boot without lockdown= on the kernel's command line; where \
                 Secure Boot brings it, turn that off in the firmware",
            )
        }
        (true, None, _) => Check::ok(Group::Privileges, name, "none"),
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
        let all = Capabilities::of([process::CAP_SYS_ADMIN, process::CAP_SYS_NICE]);
        assert_eq!(capabilities(all).state, State::Ok);
        let none = capabilities(Capabilities::of([]));
        assert_eq!(none.state, State::Missing);
        assert!(none.found.contains("CAP_BPF, CAP_PERFMON"), "{none:?}");
        assert!(none.blocks.contains("every detector"), "{none:?}");
        let spin = capabilities(Capabilities::of([process::CAP_BPF, process::CAP_PERFMON]));
        assert!(spin.blocks.contains("spin needs neither"), "{spin:?}");
    }

    #[test]
    fn lockdown_is_claimed_only_where_it_was_seen() {
        assert_eq!(lockdown(true, None, None).state, State::Ok);
        assert_eq!(lockdown(false, None, Some(Setting::Off)).state, State::Ok);
        assert_eq!(lockdown(false, None, None).state, State::Unknown);
        assert_eq!(
            lockdown(false, None, Some(Setting::BuiltIn)).state,
            State::Unknown
        );
        let integrity = lockdown(true, Some("integrity"), None);
        assert_eq!(integrity.state, State::Warning);
        assert!(!integrity.blocks.contains("hwlat"), "{integrity:?}");
        assert!(
            lockdown(true, Some("confidentiality"), None)
                .blocks
                .contains("hwlat")
        );
    }

    #[test]
    fn a_cpuset_narrower_than_the_machine_is_told() {
        let list = |list: &str| list.parse::<CpuList>().expect(list);
        assert_eq!(cpus(&list("0-3"), &list("0-3")).state, State::Ok);
        assert_eq!(cpus(&list("0-3"), &list("1")).found, "1 of 0-3 online");
    }
}
