//! What counts SMIs here, and what could fire one.

use std::io;

use super::{Check, Facts, Group, State, privileges::forced_lockdown};
use crate::{
    counter,
    detector::Availability,
    firing,
    kernel::{
        btf::BtfError,
        fadt::Fadt,
        kconfig::{Config, Setting},
        pmu,
        steal::{self, StealError},
    },
};

/// Names of the units that count a CPU's own events, on hybrid CPUs more than one.
const CORE: [&str; 3] = ["cpu", "cpu_core", "cpu_atom"];

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![units(pmu::all(), facts.is_virtual())];
    for counter in counter::counters() {
        let caveats = counter::caveats(counter.as_ref()).join("; ");
        let probed = built(counter.probe(), facts.config());
        checks.extend(smi_count(counter.name(), probed, &caveats));
    }
    if facts.cpu.vendor == "GenuineIntel" {
        let freeze = CORE
            .iter()
            .find_map(|unit| pmu::attribute(unit, "freeze_on_smi"));
        checks.push(freeze_on_smi(freeze.as_deref(), facts.is_virtual()));
    }
    if facts.is_virtual() {
        checks.push(steal(steal::Path::find().map(drop)));
    }
    checks.push(smi_cost(counter::cost::probe()));
    let place = firing::place::probe(Fadt::read().as_ref(), false);
    checks.push(fire(built(place, facts.config())));
    checks
}

/// What helps where the kernel is built without the files these need, rather than what helps elsewhere.
fn built(probed: Availability, config: Option<&Config>) -> Availability {
    let is_off = |option| config.is_some_and(|config| config.get(option) == Setting::Off);
    match probed {
        Availability::Missing { reason, remedy } => Availability::Missing {
            remedy: if remedy.contains("modprobe msr") && is_off("CONFIG_X86_MSR") {
                "boot a kernel built with CONFIG_X86_MSR=m or y".to_owned()
            } else if reason.contains("container") && is_off("CONFIG_DEVPORT") {
                // The host's kernel is the same.
                format!("{remedy}, and boot it with a kernel built with CONFIG_DEVPORT=y")
            } else if let Some((option, _)) = config
                .and_then(forced_lockdown)
                .filter(|_| reason.contains("/dev/port"))
            {
                format!("{remedy}, and without {option}")
            } else {
                remedy
            },
            reason,
        },
        Availability::Ready => Availability::Ready,
    }
}

/// Whether the hypervisor's share of gaps can be told.
fn steal(path: Result<(), StealError>) -> Check {
    let check = |found: String| Check::ok(Group::Counters, "steal", found);
    let error = match path {
        Ok(()) => return check("KVM tells it, so it can be compared with each gap".to_owned()),
        Err(error) => error,
    };
    let remedy = match &error {
        StealError::Untold => {
            "under KVM, have the host offer it (QEMU: kvm-steal-time, on by default); other hypervisors tell sums at most"
        }
        StealError::SwitchedOff => "boot without no-steal-acc",
        StealError::CommandLine(_) => "mount procfs at /proc",
        StealError::Btf(BtfError::Missing(_)) => {
            "boot a kernel built with CONFIG_PARAVIRT=y, CONFIG_KVM_GUEST=y and CONFIG_FAIR_GROUP_SCHED=y"
        }
        StealError::Btf(_) => "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
    };
    check(error.to_string()).but(
        State::Missing,
        "telling gaps of the hypervisor's making from others",
        remedy,
    )
}

fn units(all: io::Result<Vec<String>>, is_virtual: bool) -> Check {
    let name = "PMUs";
    match all {
        Ok(units) => {
            let core = CORE
                .iter()
                .any(|core| units.iter().any(|unit| unit == core));
            let found = units.join(" ");
            if core {
                return Check::ok(Group::Counters, name, found);
            }
            Check::ok(
                Group::Counters,
                name,
                format!("{found}; none of the CPU's own (cycles, instructions)"),
            )
            .but(
                State::Missing,
                "run --smi-cost, and counting SMIs on CPUs of AMD; no detector",
                if is_virtual {
                    "have the hypervisor offer one (QEMU with KVM: -cpu host,pmu=on), or run on bare metal"
                } else {
                    "dmesg | grep -i 'performance events' tells why; a newer kernel may know this CPU"
                },
            )
        }
        Err(error) => Check::ok(
            Group::Counters,
            name,
            format!("/sys/bus/event_source/devices: {error}"),
        )
        .but(
            State::Missing,
            "every detector",
            "boot a kernel with CONFIG_PERF_EVENTS=y, and mount sysfs at /sys",
        ),
    }
}

/// What a counter says of itself; nothing where it is another maker's.
fn smi_count(name: &str, probed: Availability, caveats: &str) -> Option<Check> {
    let check = |found: String| Check::ok(Group::Counters, name, found);
    match probed {
        Availability::Ready if caveats.is_empty() => Some(check("counts SMIs".to_owned())),
        Availability::Ready => Some(check("counts SMIs".to_owned()).but(
            State::Warning,
            caveats,
            "bear it in mind when counts are read",
        )),
        Availability::Missing { reason, .. } if reason.starts_with("only CPUs of") => None,
        Availability::Missing { reason, remedy } => Some(check(reason).but(
            unless_refused(&remedy),
            "counting SMIs by it, by which a gap is known to be one",
            remedy,
        )),
    }
}

/// What only privilege stands in the way of was not seen.
fn unless_refused(remedy: &str) -> State {
    if remedy.starts_with("run it as root") {
        State::Unknown
    } else {
        State::Missing
    }
}

fn freeze_on_smi(value: Option<&str>, is_virtual: bool) -> Check {
    let name = "freeze_on_smi";
    match value {
        Some(value) => Check::ok(
            Group::Counters,
            name,
            format!(
                "{value}: the CPU's counters {} while an SMI is served",
                if value == "0" {
                    "count on"
                } else {
                    "stand still"
                }
            ),
        ),
        None => Check::ok(Group::Counters, name, "the kernel shows no such attribute").but(
            State::Missing,
            "run --smi-cost; no detector",
            if is_virtual {
                "run on bare metal, where an Intel CPU's own PMU has it"
            } else {
                "boot Linux 4.13 or newer on a CPU whose PMU it knows"
            },
        ),
    }
}

fn smi_cost(probed: Availability) -> Check {
    let name = "run --smi-cost";
    match probed {
        Availability::Ready => Check::ok(
            Group::Counters,
            name,
            "the share of cycles that SMIs take can be measured",
        ),
        Availability::Missing { reason, remedy } => Check::ok(Group::Counters, name, reason).but(
            unless_refused(&remedy),
            "the share of cycles that SMIs take; no detector",
            remedy,
        ),
    }
}

fn fire(place: Availability) -> Check {
    let name = "smilat fire";
    match place {
        Availability::Ready => Check::ok(Group::Counters, name, "SMIs can be fired by hand"),
        Availability::Missing { reason, remedy } => Check::ok(Group::Counters, name, reason).but(
            unless_refused(&remedy),
            "firing SMIs by hand; no detector",
            remedy,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_that_is_not_told_has_its_remedy() {
        assert_eq!(steal(Ok(())).state, State::Ok);
        for (error, remedy) in [
            (StealError::Untold, "kvm-steal-time"),
            (StealError::SwitchedOff, "without no-steal-acc"),
        ] {
            let check = steal(Err(error));
            assert_eq!(check.state, State::Missing);
            assert!(check.remedy.contains(remedy), "{check:?}");
        }
    }

    fn missing(reason: &str, remedy: &str) -> Availability {
        Availability::Missing {
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    #[test]
    fn another_makers_counter_is_no_news() {
        let other = missing("only CPUs of AMD have this event", "nothing would help");
        assert_eq!(smi_count("ls_smi_rx", other, ""), None);
    }

    #[test]
    fn what_privilege_would_show_is_unknown() {
        let state = |probed, caveats: &str| {
            smi_count("msr/smi", probed, caveats)
                .expect("a check")
                .state
        };
        let refused = missing(
            "it lacks CAP_PERFMON",
            "run it as root, for example with sudo",
        );
        assert_eq!(state(refused, ""), State::Unknown);
        let absent = missing("no such file", "modprobe msr");
        assert_eq!(state(absent, ""), State::Missing);
        assert_eq!(state(Availability::Ready, ""), State::Ok);
        assert_eq!(state(Availability::Ready, "it is virtual"), State::Warning);
    }

    #[test]
    fn a_file_the_kernel_is_built_without_takes_another_kernel() {
        let without = Config::of_text("config", "");
        let with = Config::of_text("config", "CONFIG_X86_MSR=m\nCONFIG_DEVPORT=y\n");
        let remedy = |probed: &Availability, config| match built(probed.clone(), config) {
            Availability::Missing { remedy, .. } => remedy,
            Availability::Ready => panic!("it is missing"),
        };
        let msr = missing("no such file", "load the module (modprobe msr)");
        let container = missing("this is a container", "run it on the host");
        for (probed, option) in [(msr, "CONFIG_X86_MSR=m"), (container, "CONFIG_DEVPORT=y")] {
            let told = remedy(&probed, Some(&without));
            assert!(told.contains(option), "{told}");
            for config in [Some(&with), None] {
                let told = remedy(&probed, config);
                assert!(!told.contains(option), "{told}");
            }
        }
        let locked = Config::of_text("config", "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y\n");
        let port = missing(
            "cannot open /dev/port",
            "use a kernel with CONFIG_DEVPORT=y",
        );
        let told = remedy(&port, Some(&locked));
        assert!(told.ends_with("FORCE_INTEGRITY"), "{told}");
    }

    #[test]
    fn a_machine_without_a_pmu_of_its_cpus_lacks_one() {
        let all = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(units(all(&["cpu", "msr"]), false).state, State::Ok);
        assert_eq!(units(all(&["cpu_atom", "msr"]), false).state, State::Ok);
        let guest = units(all(&["msr"]), true);
        assert_eq!(guest.state, State::Missing);
        assert!(guest.remedy.contains("pmu=on"), "{guest:?}");
        let metal = units(all(&["msr"]), false);
        assert!(metal.remedy.contains("dmesg"), "{metal:?}");
        let none = units(Err(io::ErrorKind::NotFound.into()), false);
        assert_eq!(none.blocks, "every detector");
    }

    #[test]
    fn what_smis_cost_blocks_no_detector() {
        assert_eq!(smi_cost(Availability::Ready).state, State::Ok);
        let check = smi_cost(missing("no PMU", "run on bare metal"));
        assert_eq!(check.state, State::Missing);
        assert!(check.blocks.contains("no detector"));
        assert_eq!(freeze_on_smi(Some("0"), false).state, State::Ok);
        assert!(freeze_on_smi(None, true).remedy.contains("bare metal"));
        assert!(freeze_on_smi(None, false).remedy.contains("4.13"));
    }

    #[test]
    fn a_place_where_no_smi_can_be_fired_blocks_no_detector() {
        let check = fire(missing("this is a container", "run it on the host"));
        assert_eq!(check.state, State::Missing);
        assert!(check.blocks.contains("no detector"));
        assert_eq!(fire(Availability::Ready).state, State::Ok);
    }
}
