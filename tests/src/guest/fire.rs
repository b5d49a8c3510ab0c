//! `smilat fire` beside an SMM handler that counts, and beside MSR 0x34 read by the test itself.

use std::{
    ffi::CStr,
    fs, io,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    ptr, thread,
    time::Duration,
};

use smi_user::{
    counter,
    detector::Availability,
    kernel::{cpus::CpuList, fadt::Fadt, sched},
};

use super::smi;
use crate::{output, smilat, stderr, wait_until};

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
pub(super) fn moved_by(report: &str, cpu: u32) -> u64 {
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

pub(super) fn fire_moves_the_msr_pmu_by_a_thousand_for_a_thousand_smis() {
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
pub(super) fn each_counter_counts_every_smi_fired() {
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

pub(super) fn fire_refuses_requests_to_firmware_and_does_nothing_without_yes() {
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

/// Has the command see nothing in these folders.
fn hiding(command: &mut Command, folders: &'static [&'static CStr]) {
    let checked = |rc| {
        if rc == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: only system calls between fork and exec, with strings that end in NUL and live for ever.
    unsafe {
        command.pre_exec(move || {
            checked(libc::unshare(libc::CLONE_NEWNS))?;
            folders.iter().try_for_each(|folder| {
                let kind = c"tmpfs".as_ptr();
                checked(libc::mount(kind, folder.as_ptr(), kind, 0, ptr::null()))
            })
        });
    }
}

pub(super) fn fire_reads_the_register_without_the_pmu_and_proves_nothing_without_both() {
    const PMUS: &CStr = c"/sys/bus/event_source/devices";
    const REGISTERS: &CStr = c"/dev/cpu";
    smi::set_length(Duration::ZERO);
    let fire = |hidden: &'static [&'static CStr]| {
        let handler = smi::handler_count();
        let mut command = smilat();
        command.args(["fire", "--yes", "--count=20", "--interval=0"]);
        hiding(&mut command, hidden);
        let fired = output(&mut command);
        let report = String::from_utf8_lossy(&fired.stdout).into_owned();
        assert_eq!(fired.status.code(), Some(0), "{report}{}", stderr(&fired));
        assert_eq!(smi::handler_count() - handler, 20, "{report}");
        report
    };
    let by_register = fire(&[PMUS]);
    assert!(
        by_register.contains("SMIs counted: Intel's MSR 0x34, by /dev/cpu/N/msr"),
        "{by_register}"
    );
    assert!(by_register.contains("Proven: 20 writes"), "{by_register}");
    let by_nothing = fire(&[PMUS, REGISTERS]);
    for told in [
        "Nothing proves that the 20 writes raised SMIs",
        "msr/smi: the kernel's msr PMU offers no event smi",
        "modprobe msr",
    ] {
        assert!(by_nothing.contains(told), "{by_nothing}");
    }
}

/// A counter that does not move as it should is told by the exit status: here SMIs of somebody else come in between.
pub(super) fn other_smis_are_not_taken_for_those_fired() {
    let (status, report) = fire_until_interrupted(|| smi::fire_on(0));
    assert_eq!(status, Some(1), "{report}");
    assert!(report.contains("Not proven: "), "{report}");
    assert!(report.contains("Other SMIs came in between"), "{report}");
}

pub(super) fn fire_reports_what_it_did_when_interrupted() {
    let (status, report) = fire_until_interrupted(|| {});
    assert_eq!(status, Some(0), "{report}");
    assert!(report.contains("interrupted after "), "{report}");
    assert!(report.contains("Proven: "), "{report}");
}

/// Has a command with more to fire than it gets time for fire some, then does `meanwhile` and ends it as Ctrl-C does.
fn fire_until_interrupted(meanwhile: impl FnOnce()) -> (Option<i32>, String) {
    // On the other CPU, so that an interrupt sent to the first does not meet its own sender.
    sched::set_affinity([1]).expect("affinity");
    smi::set_length(Duration::ZERO);
    let handler = smi::handler_count();
    let child = smilat()
        .args([
            "fire",
            "--yes",
            "--count=1000",
            "--interval=300ms",
            "--cpu=0",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    wait_until("two SMIs", || smi::handler_count() >= handler + 2);
    let before = smi::handler_count();
    meanwhile();
    wait_until("another", || smi::handler_count() >= before + 2);
    let pid = libc::pid_t::try_from(child.id()).expect("a pid");
    // SAFETY: the child was not waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let fired = child.wait_with_output().expect("it ends");
    let report = String::from_utf8_lossy(&fired.stdout).into_owned();
    (fired.status.code(), report)
}
