//! What `smilat doctor` says of machines whose insides are known.

use std::fs;

use smi_user::doctor::{Check, Examination, State};

use crate::{output, recorded, smilat, stderr};

/// What is on record, by the kernel's version and whether it is Debian's with `PREEMPT_RT`.
const RECORDS: [(&str, bool, &str, &str); 3] = [
    (
        "6.1.",
        false,
        "doctor-6.1",
        include_str!("snapshots/doctor-6.1.txt"),
    ),
    (
        "6.1.",
        true,
        "doctor-6.1-rt",
        include_str!("snapshots/doctor-6.1-rt.txt"),
    ),
    (
        "6.12.",
        true,
        "doctor-6.12-rt",
        include_str!("snapshots/doctor-6.12-rt.txt"),
    ),
];

fn examination() -> Examination {
    let told = output(smilat().args(["doctor", "--json"]));
    assert!(told.status.success(), "{}", stderr(&told));
    serde_json::from_slice(&told.stdout).expect("JSON")
}

#[track_caller]
fn check<'a>(found: &'a Examination, name: &str) -> &'a Check {
    let check = found.checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("no check \"{name}\""))
}

/// What holds in all machines with two CPUs.
fn what_all_have(found: &Examination) {
    for check in &found.checks {
        if check.state != State::Ok {
            println!(
                "    {:?} {}: {}; {} -> {}",
                check.state, check.name, check.found, check.blocks, check.remedy
            );
        }
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    assert_eq!(found.kernel, release.trim());
    for name in [
        "capabilities",
        "maps",
        "timer program",
        "tracing file system",
        "smilat fire",
    ] {
        let check = check(found, name);
        assert_eq!(check.state, State::Ok, "{check:?}");
    }
    // The machine has both counters, but they are virtual ones.
    for counter in ["msr/smi", "MSR 0x34"] {
        let check = check(found, counter);
        assert_eq!(check.state, State::Warning, "{check:?}");
        assert!(check.blocks.contains("virtual machine"), "{check:?}");
    }
    let hypervisor = check(found, "virtualisation");
    assert!(hypervisor.found.contains("TCGTCGTCGTCG"), "{hypervisor:?}");
    let clock = check(found, "clock source");
    assert!(clock.found.starts_with("tsc"), "{clock:?}");
    let config = check(found, "configuration");
    assert_eq!(config.state, State::Ok, "{config:?}");
    assert!(config.found.contains("/boot/config-"), "{config:?}");
}

/// Every line, word by word.
pub(super) fn doctor_says_of_each_kernel_what_is_on_record() {
    let found = examination();
    let release = &found.kernel;
    let (_, _, name, record) = RECORDS
        .into_iter()
        .find(|(version, rt, ..)| release.starts_with(version) && release.contains("-rt-") == *rt)
        .unwrap_or_else(|| panic!("nothing is on record of {release}; see RECORDS"));
    let text = recorded::text(&found);
    for line in text.lines() {
        println!("SNAPSHOT {name} {line}");
    }
    if let Some(difference) = recorded::difference(record, &text) {
        panic!(
            "it says something else than {name}.txt; if that is right, --update-snapshots writes it there:\n{difference}"
        );
    }
}

pub(super) fn doctor_tells_a_stock_kernel_how_to_get_what_it_lacks() {
    let found = examination();
    what_all_have(&found);
    assert_eq!(found.detectors, ["spin"]);
    for (detector, option) in [
        ("hwlat", "CONFIG_HWLAT_TRACER=y"),
        ("osnoise", "CONFIG_OSNOISE_TRACER=y"),
    ] {
        let check = check(&found, detector);
        assert_eq!(check.state, State::Missing, "{check:?}");
        assert!(check.remedy.contains(option), "{check:?}");
        assert!(check.remedy.contains("linux-image-rt-amd64"), "{check:?}");
    }
    let release = &check(&found, "release").found;
    assert!(release.contains("without PREEMPT_RT"), "{release}");
}

pub(super) fn doctor_finds_every_detector_in_a_realtime_kernel() {
    let found = examination();
    what_all_have(&found);
    assert_eq!(found.detectors, ["spin", "osnoise", "hwlat"]);
    let tracers = &check(&found, "tracers").found;
    assert!(
        tracers.contains("hwlat") && tracers.contains("osnoise"),
        "{tracers}"
    );
    let breakpoint = check(&found, "kernel breakpoint");
    assert_eq!(breakpoint.state, State::Ok, "{breakpoint:?}");
    let release = &check(&found, "release").found;
    assert!(release.contains("with PREEMPT_RT"), "{release}");
}
