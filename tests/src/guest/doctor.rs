//! What `smilat doctor` says of machines whose insides are known.

use std::fs;

use smi_user::doctor::{Check, Examination, State};

use crate::{output, smilat, stderr};

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
    // The initramfs holds no configuration.
    let config = check(found, "configuration");
    assert_eq!(config.state, State::Unknown, "{config:?}");
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
