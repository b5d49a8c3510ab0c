//! `--dma-latency`, on whatever kernel this is.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::Stdio,
};

use crate::{output, refused, smilat, wait_until};

const FILE: &str = "/dev/cpu_dma_latency";

/// The limit in force for the whole machine, in us: an s32, by another descriptor than smilat's.
fn limit_us() -> i32 {
    let mut bytes = [0; 4];
    File::open(FILE)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect(FILE);
    i32::from_ne_bytes(bytes)
}

/// Whether the process `pid` has the file open.
fn has_it_open(pid: u32) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|file| file == Path::new(FILE))
}

/// The limit is the one asked for while smilat runs, and the one before when it has ended, by whichever signal.
///
/// # Panics
/// When it is not.
pub fn the_limit_holds_as_long_as_smilat_lives() {
    let before = limit_us();
    assert!(before > 7, "something else has it at {before} us already");
    for (asked, us, signal) in [
        ("7", 7, libc::SIGINT),
        ("0", 0, libc::SIGTERM),
        ("5us", 5, libc::SIGKILL),
    ] {
        let mut run = smilat()
            .args(["run", "--quiet", "--dma-latency", asked])
            .stdout(Stdio::null())
            .spawn()
            .expect("smilat");
        wait_until("the limit is in force", || limit_us() == us);
        assert!(has_it_open(run.id()));
        let pid = i32::try_from(run.id()).expect("a process");
        // SAFETY: the process is a child that was not waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        let status = run.wait().expect("an end");
        if signal == libc::SIGKILL {
            assert_eq!(status.signal(), Some(signal), "{status}");
        }
        assert_eq!(limit_us(), before, "after signal {signal}");
    }
}

/// The plan says what is done to the CPUs, and that somebody else has asked for less.
///
/// # Panics
/// When it does not.
pub fn the_plan_names_the_limit_and_a_lower_one() {
    let plan = |asked: &str| {
        let run = output(smilat().args(["run", "--duration=1s", "--dma-latency", asked]));
        String::from_utf8(run.stdout).expect("UTF-8")
    };
    let told = plan("20us");
    if !Path::new("/sys/devices/system/cpu/cpu0/cpuidle").is_dir() {
        // As in most virtual machines.
        assert!(
            told.contains("--dma-latency 20 changes nothing here"),
            "{told}"
        );
        return;
    }
    assert!(
        told.contains("more than 20 us to wake up while this runs (--dma-latency 20)\n"),
        "{told}"
    );
    let mut other = File::options().write(true).open(FILE).expect(FILE);
    other.write_all(&3i32.to_ne_bytes()).expect(FILE);
    let told = plan("20us");
    assert!(told.contains("another process has it at 3 us"), "{told}");
    let told = plan("0");
    assert!(
        told.contains("no CPU sleeps while this runs") && !told.contains("another"),
        "{told}"
    );
}

/// What cannot be a limit is refused with the value, what is wrong with it and what to write.
///
/// # Panics
/// When it is not.
pub fn limits_that_make_no_sense_are_refused() {
    for (asked, told) in [
        ("1500ns", "round it"),
        ("2s", "write 0 to 1s"),
        ("deep", "is not a time"),
    ] {
        refused(
            smilat().args(["run", "--duration=1s", "--dma-latency", asked]),
            &[asked, told],
        );
    }
}
