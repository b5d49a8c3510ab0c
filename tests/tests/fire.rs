//! `smilat fire` where no SMI shall be fired: what it says, and that it does nothing. Here and now nothing is ever
//! written to the port: no command of these tests has both `--yes` and a machine that would let it.

use std::{path::Path, process::Command};

use smi_user::{counter, kernel::cpus::CpuList};
use tests::{output, refused, smilat, smilat_path, stderr};

#[test]
fn bad_values_are_refused_with_what_to_write() {
    for (args, told) in [
        ("--value=256", "write 0 to 255 or 0x00 to 0xff"),
        ("--value=two", "the port takes one byte"),
        ("--count=0", "0 is not in 1..=1000000"),
        ("--count=1000001", "is not in 1..=1000000"),
        ("--interval=2h", "above 1h"),
        ("--interval=10parsecs", "unknown unit \"parsecs\""),
        ("--cpu=8191", "CPU 8191 is not online"),
        ("--cpu=-1", "-1"),
    ] {
        refused(smilat().args(["fire", args]), &[told]);
    }
}

#[test]
fn requests_to_turn_acpi_on_and_off_are_refused() {
    for value in ["2", "0x03"] {
        refused(
            smilat().args(["fire", "--value", value]),
            &["is refused", "ACPI", "insist with --force"],
        );
    }
}

#[test]
fn without_yes_it_explains_and_does_nothing() {
    refused(
        smilat().args(["fire", "--count=5", "--interval=1ms", "--value=0x4f"]),
        &[
            "would have CPU",
            "write 0x4f to I/O port 0xb2 5 times, 1.00 ms apart",
            "System Management Interrupt",
            "the machine may hang or reset",
            "Nothing has been written",
        ],
    );
}

#[test]
fn what_was_insisted_on_and_another_cpu_are_warned_about() {
    refused(
        smilat().args(["fire", "--force", "--value=3", "--cpu=1"]),
        &[
            "Beware of 0x03: ",
            "ready for SMIs on CPU 0 only",
            "Nothing has been written",
        ],
    );
}

#[test]
fn a_machine_without_the_port_says_so() {
    // Only where even a mistake could not fire.
    if Path::new("/dev/port").exists() {
        return;
    }
    let output = output(smilat().args(["fire", "--yes", "--force"]));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no SMI can be fired here"), "{said}");
    let reasons = ["this is a container", "locked down", "CONFIG_DEVPORT"];
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
}

#[test]
fn a_container_is_recognised_by_its_process_numbers() {
    // Without --yes, so that a failure fires nothing either.
    refused(
        Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(smilat_path())
            .arg("fire"),
        &[
            "Nothing has been written, and here it could not be",
            "this is a container",
            "run it on the host",
        ],
    );
}

#[test]
fn a_kernel_that_is_locked_down_is_recognised() {
    // A stand-in for the kernel's own file: lockdown cannot be lifted again before the next boot.
    let prepare = "mount -t tmpfs none /sys/kernel/security && \
                   echo 'none [integrity] confidentiality' > /sys/kernel/security/lockdown";
    refused(
        Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg(format!("{prepare} && exec \"$SMILAT\" fire")),
        &[
            "Nothing has been written, and here it could not be",
            "locked down (integrity)",
            "lockdown=none",
        ],
    );
}

#[test]
fn what_can_be_counted_here_is_counted_and_what_cannot_says_why() {
    let online = CpuList::online().expect("online CPUs");
    let counter = match counter::choose() {
        Ok(counter) => counter,
        Err(why) => {
            let why = why.to_string();
            for name in ["msr/smi: ", "ls_smi_rx: ", "MSR 0x34: "] {
                assert!(why.contains(name), "{why}");
            }
            return;
        }
    };
    let mut counting = counter.open(&online).expect("it opens");
    for cpu in online.iter() {
        let first = counting.read(cpu).expect("a count");
        assert!(counting.read(cpu).expect("a count") >= first);
    }
    let events: Vec<u32> = counting.events().iter().map(|(cpu, _)| *cpu).collect();
    assert!(events.is_empty() || events.iter().copied().eq(online.iter()));
    let absent = counting.read(8191).expect_err("not opened").to_string();
    assert!(absent.contains("CPU 8191 are not counted"), "{absent}");
    let offline = "8191".parse().expect("a list");
    assert!(counter.open(&offline).is_err(), "a CPU that is not there");
}
