//! What makes gaps doubtful: an untrusted clock, CPUs that sleep deeply or change their frequency.

use super::{Check, Facts, Group, State};
use crate::kernel::{
    cpuinfo::CpuInfo,
    cpus::{CpuList, CpuListError},
    machine::{self, ClockSource, Frequency, IdleState},
};

/// The default threshold, in us: waking up from a deeper state takes longer than the shortest gap that is counted.
const THRESHOLD_US: u64 = 10;

const IDLE: &str = "idle states";

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let is_virtual = facts.is_virtual();
    vec![
        clock(machine::clock_source().as_ref(), &facts.cpu),
        match idle_states() {
            Ok(states) => idle(&states, is_virtual),
            Err(error) => unseen(&error),
        },
        frequency(&machine::frequencies(), is_virtual),
    ]
}

/// Those of all CPUs: on hybrid ones they differ, and each can be turned off by itself.
fn idle_states() -> Result<Vec<IdleState>, CpuListError> {
    Ok(CpuList::possible()?
        .iter()
        .flat_map(machine::idle_states)
        .collect())
}

/// Nothing is known of idle states where it is not known which CPUs there are.
fn unseen(error: &CpuListError) -> Check {
    Check::ok(Group::Time, IDLE, error.to_string()).but(
        State::Unknown,
        "trust in short gaps, if the CPUs sleep deeply",
        "mount sysfs at /sys",
    )
}

fn clock(source: Option<&ClockSource>, cpu: &CpuInfo) -> Check {
    let name = "clock source";
    let Some(ClockSource { current, available }) = source else {
        return Check::ok(Group::Time, name, "cannot be read").but(
            State::Unknown,
            "trust in every gap",
            "mount sysfs at /sys",
        );
    };
    let flags: Vec<_> = ["constant_tsc", "nonstop_tsc"]
        .into_iter()
        .filter(|flag| !cpu.has(flag))
        .collect();
    match current.as_str() {
        "tsc" if flags.is_empty() => {
            Check::ok(Group::Time, name, "tsc, constant and never stopping")
        }
        "tsc" => Check::ok(
            Group::Time,
            name,
            format!("tsc, but the CPU does not claim {}", flags.join(" and ")),
        )
        .but(
            State::Warning,
            "the kernel trusts this TSC though it may change its rate or stop with the CPU: gaps that come with \
             frequency changes or idle states may be none",
            if cpu.has("hypervisor") {
                "have the hypervisor pass on the host's TSC as invariant (QEMU with KVM: -cpu host,+invtsc; QEMU's own \
                 emulation has none)"
            } else {
                "keep the frequency fixed and idle states shallow (smilat run --dma-latency 0)"
            },
        ),
        "kvm-clock" | "hyperv_clocksource_tsc_page" => Check::ok(
            Group::Time,
            name,
            format!("{current}, made of the host's TSC by the hypervisor"),
        )
        .but(
            State::Warning,
            "when the hypervisor corrects it, the correction may show as a gap",
            if available.iter().any(|name| name == "tsc") {
                "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource"
            } else {
                "have the hypervisor pass on an invariant TSC, which the kernel then offers as clock source tsc"
            },
        ),
        _ if available.iter().any(|name| name == "tsc") => {
            Check::ok(Group::Time, name, format!("{current}, chosen over tsc")).but(
                State::Warning,
                "precision: reading another clock than the TSC takes about as long as the gaps looked for",
                "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, and take clocksource= off \
                 the kernel's command line",
            )
        }
        _ => Check::ok(
            Group::Time,
            name,
            format!("{current}; the kernel does not offer tsc"),
        )
        .but(
            State::Warning,
            "trust in every gap: either this CPU's TSC was found unstable, or it is hidden; reading another clock takes \
             about as long as the gaps looked for",
            "dmesg | grep -i -e tsc -e clocksource tells why; a newer firmware may cure it",
        ),
    }
}

fn idle(states: &[IdleState], is_virtual: bool) -> Check {
    let name = IDLE;
    let enabled = states.iter().filter(|state| state.enabled);
    let Some(deepest) = enabled.max_by_key(|state| state.latency_us) else {
        let check = Check::ok(Group::Time, name, "the kernel chooses among none");
        return if is_virtual {
            check.but(
                State::Unknown,
                "trust in short gaps, if the host's CPUs sleep deeply: a virtual machine does not see that",
                "look on the host",
            )
        } else {
            check
        };
    };
    let found = format!(
        "deepest in use: {}, up to {} us to wake up",
        deepest.name, deepest.latency_us
    );
    let check = Check::ok(Group::Time, name, found);
    if deepest.latency_us > THRESHOLD_US {
        check.but(
            State::Warning,
            "windows begin late by as much, and a CPU that wakes up may be slow at first: doubt short gaps at the \
             beginning of windows",
            format!(
                "smilat run --dma-latency {THRESHOLD_US} keeps the CPUs out of those that take longer while it runs; \
                 cpupower idle-set -D {} turns them off, cpupower idle-set -E all on again",
                THRESHOLD_US + 1
            ),
        )
    } else if is_virtual {
        check.but(
            State::Unknown,
            "trust in short gaps, if the host's CPUs sleep deeper than it shows: a virtual machine does not see that",
            "look on the host",
        )
    } else {
        check
    }
}

fn frequency(policies: &[Frequency], is_virtual: bool) -> Check {
    let name = "frequency";
    let Some(first) = policies.first() else {
        let check = Check::ok(
            Group::Time,
            name,
            "the kernel does not choose it (no cpufreq)",
        );
        return if is_virtual {
            check.but(
                State::Unknown,
                "trust in gaps near the threshold, if the host changes it: a virtual machine does not see that",
                "look on the host",
            )
        } else {
            check.but(
                State::Unknown,
                "trust in gaps near the threshold, if the firmware changes it unseen",
                "load the CPU's cpufreq driver, or look into the firmware's settings",
            )
        };
    };
    let changing = policies
        .iter()
        .find(|policy| policy.governor != "performance" && policy.min_khz < policy.max_khz);
    let shown = changing.unwrap_or(first);
    let mhz = |khz: u64| khz / 1000;
    let check = Check::ok(
        Group::Time,
        name,
        format!(
            "governor {}, {} to {} MHz",
            shown.governor,
            mhz(shown.min_khz),
            mhz(shown.max_khz)
        ),
    );
    if changing.is_some() {
        check.but(
            State::Warning,
            "a change of frequency may halt a core for some microseconds: doubt gaps near the threshold",
            "cpupower frequency-set -g performance",
        )
    } else {
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(flags: &str) -> CpuInfo {
        CpuInfo::parse(&format!("flags\t\t: {flags}\n"))
    }

    fn source(current: &str, available: &[&str]) -> ClockSource {
        ClockSource {
            current: current.to_owned(),
            available: available.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn only_a_tsc_that_never_stops_is_trusted() {
        let good = cpu("tsc constant_tsc nonstop_tsc");
        let tsc = source("tsc", &["tsc", "hpet"]);
        assert_eq!(clock(Some(&tsc), &good).state, State::Ok);
        let doubtful = clock(Some(&tsc), &cpu("tsc constant_tsc"));
        assert_eq!(doubtful.state, State::Warning);
        assert!(doubtful.found.contains("nonstop_tsc"), "{doubtful:?}");
        assert!(doubtful.remedy.contains("--dma-latency"), "{doubtful:?}");
        let guest = clock(Some(&tsc), &cpu("tsc constant_tsc hypervisor"));
        assert!(guest.remedy.contains("invtsc"), "{guest:?}");
        assert_eq!(clock(None, &good).state, State::Unknown);
    }

    #[test]
    fn the_remedy_offers_the_tsc_only_where_the_kernel_does() {
        let good = cpu("constant_tsc nonstop_tsc");
        for current in ["hpet", "kvm-clock"] {
            let chosen = clock(Some(&source(current, &["tsc", current])), &good);
            assert!(chosen.remedy.starts_with("echo tsc"), "{chosen:?}");
            let forced = clock(Some(&source(current, &[current])), &good);
            assert!(!forced.remedy.contains("echo tsc"), "{forced:?}");
        }
    }

    #[test]
    fn deep_states_are_warned_about_unless_turned_off() {
        let state = |latency_us, enabled| IdleState {
            name: "C6".to_owned(),
            latency_us,
            enabled,
        };
        let deep = idle(&[state(133, true), state(2, true)], false);
        assert_eq!(deep.state, State::Warning);
        assert!(deep.found.contains("133 us"), "{deep:?}");
        assert!(deep.remedy.contains("--dma-latency 10 "), "{deep:?}");
        assert_eq!(
            idle(&[state(2, true), state(133, false)], false).state,
            State::Ok
        );
        assert_eq!(idle(&[], true).state, State::Unknown);
        let nowhere = "x".parse::<CpuList>().expect_err("no list");
        assert_eq!(unseen(&nowhere).state, State::Unknown);
        assert_eq!(idle(&[state(1, true)], true).state, State::Unknown);
    }

    #[test]
    fn a_fixed_frequency_is_no_reason_to_warn() {
        let policy = |governor: &str, min_khz| Frequency {
            governor: governor.to_owned(),
            min_khz,
            max_khz: 3_000_000,
        };
        assert_eq!(
            frequency(&[policy("performance", 800_000)], false).state,
            State::Ok
        );
        assert_eq!(
            frequency(&[policy("powersave", 3_000_000)], false).state,
            State::Ok
        );
        let mixed = [policy("performance", 800_000), policy("schedutil", 800_000)];
        assert_eq!(frequency(&mixed, false).state, State::Warning);
        assert_eq!(frequency(&[], true).state, State::Unknown);
    }
}
