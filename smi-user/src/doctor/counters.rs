//! What counts SMIs here, and what could fire one.

use std::io;

use super::{Check, Facts, Group, State};
use crate::{
    counter,
    detector::Availability,
    firing,
    kernel::{fadt::Fadt, pmu},
};

/// Names of the units that count a CPU's own events, on hybrid CPUs more than one.
const CORE: [&str; 3] = ["cpu", "cpu_core", "cpu_atom"];

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![units(pmu::all())];
    for counter in counter::counters() {
        let caveats = counter::caveats(counter.as_ref()).join("; ");
        checks.extend(smi_count(counter.name(), counter.probe(), &caveats));
    }
    if facts.cpu.vendor == "GenuineIntel" {
        let freeze = CORE
            .iter()
            .find_map(|unit| pmu::attribute(unit, "freeze_on_smi"));
        checks.push(freeze_on_smi(freeze.as_deref()));
    }
    checks.push(fire(firing::place::probe(Fadt::read().as_ref(), false)));
    checks
}

fn units(all: io::Result<Vec<String>>) -> Check {
    let name = "PMUs";
    match all {
        Ok(units) => {
            let core = CORE
                .iter()
                .any(|core| units.iter().any(|unit| unit == core));
            let found = format!(
                "{}{}",
                units.join(" "),
                if core {
                    ""
                } else {
                    "; none of the CPU's own (cycles, instructions)"
                }
            );
            Check::ok(Group::Counters, name, found)
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

fn freeze_on_smi(value: Option<&str>) -> Check {
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
            "the share of cycles that SMIs take (perf stat --smi-cost); no detector",
            "run on bare metal, where an Intel CPU's own PMU has it",
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
    fn a_place_where_no_smi_can_be_fired_blocks_no_detector() {
        let check = fire(missing("this is a container", "run it on the host"));
        assert_eq!(check.state, State::Missing);
        assert!(check.blocks.contains("no detector"));
        assert_eq!(fire(Availability::Ready).state, State::Ok);
    }
}
