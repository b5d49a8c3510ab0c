//! `smilat fire` beside an SMM handler that counts, and beside MSR 0x34 read by the test itself.

use std::{fs, thread, time::Duration};

use smi_user::{
    counter,
    detector::Availability,
    kernel::{cpus::CpuList, fadt::Fadt, sched},
};

use super::smi;
use crate::{output, smilat, stderr};

const SMIS: u32 = 1000;

/// Fires [`SMIS`] from `cpu`; the report.
fn fire_from(cpu: u32) -> String {
    smi::set_length(Duration::ZERO);
    let handler = smi::handler_count();
    let msr = [smi::msr_count(0), smi::msr_count(1)];
    let fired = output(
        smilat()
            .args(["fire", "--yes", "--interval=0"])
            .arg(format!("--count={SMIS}"))
            .arg(format!("--cpu={cpu}")),
    );
    let report = String::from_utf8_lossy(&fired.stdout).into_owned();
    assert_eq!(fired.status.code(), Some(0), "{report}{}", stderr(&fired));
    let moved = [smi::msr_count(0) - msr[0], smi::msr_count(1) - msr[1]];
    let ran = smi::handler_count() - handler;
    let took = report
        .lines()
        .find(|line| line.contains("a write took"))
        .expect("durations");
    println!(
        "    smilat fire, {SMIS} on CPU {cpu}: MSR 0x34 of the CPUs moved by {moved:?}, the handler ran {ran} times; {took}"
    );
    let mut expected = [0; 2];
    expected[cpu as usize] = u64::from(SMIS);
    assert_eq!(moved, expected, "{report}");
    assert_eq!(ran, SMIS);
    report
}

/// What the report's table says a CPU's count moved by.
fn moved_by(report: &str, cpu: u32) -> u64 {
    report
        .lines()
        .find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
            match (words.len(), &numbers[..]) {
                (4 | 5, [of, _, _, moved]) if *of == u64::from(cpu) => Some(*moved),
                _ => None,
            }
        })
        .unwrap_or_else(|| panic!("no CPU {cpu} in:\n{report}"))
}

pub(super) fn a_thousand_smis_move_the_msr_pmu_by_a_thousand() {
    for cpu in [0, 1] {
        let report = fire_from(cpu);
        assert!(
            report.contains("event smi of the kernel's msr PMU"),
            "{report}"
        );
        assert!(
            report.contains(&format!(
                "Proven: {SMIS} writes, and the counter of CPU {cpu} moved by {SMIS}."
            )),
            "{report}"
        );
        assert_eq!(moved_by(&report, cpu), u64::from(SMIS));
        assert_eq!(moved_by(&report, 1 - cpu), 0);
        // The emulated CPU says that it is one.
        assert!(report.contains("this is a virtual machine"), "{report}");
    }
}

/// Every counter that can be had here, read around SMIs of known number.
pub(super) fn each_counter_counts_every_smi() {
    const FEW: u32 = 50;
    sched::set_affinity([0]).expect("affinity");
    smi::set_length(Duration::ZERO);
    let online = CpuList::online().expect("online CPUs");
    let mut names = Vec::new();
    for counter in counter::counters() {
        if counter.probe() != Availability::Ready {
            continue;
        }
        let name = counter.name();
        let mut counting = counter.open(&online).expect(name);
        let mut read = |cpu| counting.read(cpu).expect(name);
        let before = [read(0), read(1)];
        for _ in 0..FEW {
            smi::fire_here();
        }
        let moved = [read(0) - before[0], read(1) - before[1]];
        println!("    {name}: moved by {moved:?} for {FEW} SMIs on CPU 0");
        assert_eq!(moved, [u64::from(FEW), 0], "{name}");
        names.push(name);
    }
    assert_eq!(names, ["msr/smi", "MSR 0x34"]);
}

/// A counter of a CPU that went offline says so, even when the CPU is back, and one opened anew counts.
pub(super) fn a_counter_ends_when_its_cpu_goes_offline() {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
    let online = CpuList::online().expect("online CPUs");
    let counter = counter::choose().expect("a counter");
    let mut counting = counter.open(&online).expect("it opens");
    counting.read(1).expect("a count");
    fs::write(SWITCH, "0").expect("offline");
    let gone = counting.read(1).map_err(|error| error.to_string());
    let refused = counter
        .open(&online)
        .map(drop)
        .map_err(|error| error.to_string());
    fs::write(SWITCH, "1").expect("online");
    // For as long as it takes to tell a clock that stands still from one that has not ticked yet.
    let _not_yet = counting.read(1);
    thread::sleep(Duration::from_millis(200));
    let back = counting.read(1).map_err(|error| error.to_string());
    for (when, result) in [
        ("offline", gone),
        ("opened offline", refused.map(|()| 0)),
        ("back", back),
    ] {
        let error = result.expect_err(when);
        assert!(error.contains("CPU 1 went offline"), "{when}: {error}");
    }
    counting.read(0).expect("CPU 0 is counted all the same");
    let mut anew = counter.open(&online).expect("it opens again");
    anew.read(1).expect("a count");
}

pub(super) fn requests_to_firmware_are_refused_and_without_yes_nothing_is_done() {
    let fadt = Fadt::read().expect("a FADT");
    println!(
        "    FADT: SMI_CMD {:#x}, requests {:?}",
        fadt.smi_cmd, fadt.requests
    );
    assert_eq!(fadt.smi_cmd, 0xb2);
    let handler = smi::handler_count();
    for (args, told) in [
        (&["--yes", "--value=2"][..], "ACPI_ENABLE"),
        (&["--yes", "--value=0x3"], "ACPI_DISABLE"),
        (&["--count=5"], "Run it again with --yes"),
        (&["--yes", "--cpu=7"], "CPU 7 is not online (online: 0-1)"),
    ] {
        let refused = output(smilat().arg("fire").args(args));
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(told), "{args:?}: {said}");
        assert!(refused.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(smi::handler_count(), handler, "an SMI came");
}
