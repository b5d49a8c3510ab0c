//! `smilat doctor`: what it says agrees with what can be seen beside it, and with what a run does.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, process::Command};

use smi_user::doctor::{Check, Examination, State};
use tests::{output, recorded, smilat, smilat_path, stderr};

#[track_caller]
fn examination(command: &mut Command) -> (Examination, Option<i32>) {
    let output = output(command);
    let examination = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    (examination, output.status.code())
}

#[track_caller]
fn check<'a>(examination: &'a Examination, name: &str) -> &'a Check {
    let mut checks = examination.checks.iter();
    checks
        .find(|check| check.name == name)
        .unwrap_or_else(|| panic!("no check \"{name}\""))
}

#[test]
fn what_it_says_of_runs_is_so() {
    let (found, status) = examination(smilat().args(["doctor", "--json"]));
    assert_eq!(found.schema_version, 1);
    assert_eq!(status, Some(if found.can_run { 0 } else { 2 }));
    assert_eq!(found.can_run, !found.detectors.is_empty());
    for detector in ["spin", "osnoise", "hwlat"] {
        let can_run = found.detectors.iter().any(|name| name == detector);
        assert_eq!(check(&found, detector).state == State::Ok, can_run);
        if !can_run {
            let run = output(smilat().args(["run", "--duration=1s", "--detector", detector]));
            assert_eq!(run.status.code(), Some(2), "{detector}: {}", stderr(&run));
        }
    }
    // These tests need it, so it runs here.
    assert_eq!(found.detectors.first().map(String::as_str), Some("spin"));
    let run = output(smilat().args(["run", "--duration=1s", "--quiet"]));
    assert!(run.status.success(), "{}", stderr(&run));
}

#[test]
fn every_check_that_is_not_ok_says_what_it_blocks_and_what_would_help() {
    let (found, _) = examination(smilat().args(["doctor", "--json"]));
    for check in &found.checks {
        assert!(!check.found.is_empty(), "{check:?}");
        if check.state != State::Ok {
            assert!(!check.blocks.is_empty(), "{check:?}");
        }
        if matches!(check.state, State::Missing | State::Unknown) {
            assert!(!check.remedy.is_empty(), "{check:?}");
        }
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    assert_eq!(found.kernel, release.trim());
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let clock = fs::read_to_string(clock).expect("clock source");
    let told = &check(&found, "clock source").found;
    assert!(told.contains(clock.trim()), "{told}");
    // On a CPU of another maker's it is no news.
    let msr = found.checks.iter().find(|check| check.name == "MSR 0x34");
    let there = fs::exists("/dev/cpu/0/msr").expect("msr");
    assert!(
        there || msr.is_none_or(|msr| msr.state == State::Missing),
        "{msr:?}"
    );
}

#[test]
fn without_root_it_says_what_it_could_not_see() {
    // The build folder may be closed to others.
    let dir = tempfile::tempdir().expect("folder");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.path(), open).expect("permissions");
    let copy = dir.path().join("smilat");
    fs::copy(smilat_path(), &copy).expect("copy");
    let (found, status) = examination(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(["--bounding-set=-all", "--inh-caps=-all"])
            .arg(&copy)
            .args(["doctor", "--json"]),
    );
    assert_eq!((found.can_run, status), (false, Some(2)));
    let spin = check(&found, "spin");
    assert!(spin.found.contains("CAP_BPF"), "{spin:?}");
    assert!(spin.remedy.contains("as root"), "{spin:?}");
    for name in ["maps", "timer program", "kernel breakpoint"] {
        let check = check(&found, name);
        assert_eq!(check.state, State::Unknown, "{check:?}");
        assert!(check.found.contains("not tried"), "{check:?}");
    }
}

#[test]
fn a_difference_names_the_check_and_no_other_lines() {
    let record = "can run: yes\n\nA: one: ok\n  found: 1\n\nB: two: ok\n  found: 2\n\nC: three: ok\n  found: 3\n";
    assert_eq!(recorded::difference(record, record), None);
    let now = record
        .replace("found: 1", "found: 9")
        .replace("\nC: three: ok\n  found: 3\n", "");
    let told = recorded::difference(record, &now).expect("a difference");
    assert_eq!(
        told,
        " A: one: ok\n-  found: 1\n+  found: 9\n-\n-C: three: ok\n-  found: 3\n"
    );
    // Lines that only one has.
    let told = recorded::difference("", "a\n").expect("a difference");
    assert_eq!(told, "+a\n");
}

/// The record is of the machine on which smilat is built: a virtual one, whose kernel has neither tracers nor modules. On
/// any other it proves nothing, which is said on the terminal; the other tests of this file hold there all the same.
#[test]
fn what_is_on_record_of_the_build_machine_is_said_of_it() {
    const RECORD: &str = "src/guest/snapshots/doctor-host.txt";
    let read = |path: &str| fs::read_to_string(path).expect(path);
    let release = read("/proc/sys/kernel/osrelease");
    let is_build_machine = release.starts_with("6.18.")
        && release.contains("-fc-")
        && read("/proc/cpuinfo").contains("GenuineIntel");
    if !is_build_machine {
        // Past the test harness, which keeps what passing tests print to itself.
        let mut terminal = std::io::stderr();
        writeln!(
            terminal,
            "\nNOT COMPARED: {RECORD} is of another machine than this one, Linux {}",
            release.trim()
        )
        .expect("standard error");
        return;
    }
    let (found, _) = examination(smilat().args(["doctor", "--json"]));
    let text = recorded::text(&found);
    let difference = recorded::difference(&read(RECORD), &text);
    if std::env::var_os("SMILAT_UPDATE_SNAPSHOTS").is_some() {
        fs::write(RECORD, text).expect(RECORD);
    }
    if let Some(difference) = difference {
        panic!(
            "it says something else than {RECORD}; if that is right, --update-snapshots writes it there:\n{difference}"
        );
    }
}

#[test]
fn the_screen_begins_with_the_verdict() {
    let brief = output(smilat().arg("doctor"));
    let brief = String::from_utf8(brief.stdout).expect("UTF-8");
    let first = brief.lines().next().expect("a line");
    assert!(
        first.contains("`smilat run` can run here, with spin"),
        "{first}"
    );
    let all = output(smilat().args(["doctor", "--all"]));
    assert!(all.stdout.len() >= brief.len());
}
