//! `smilat run --smi-cost`. It needs a PMU of the CPU's own, which no machine these tests were made on has. What is refused,
//! and what a killed run leaves, is tried on the real thing; counting is tried with real perf events that stand in for
//! those of such a PMU, and a file that stands in for `freeze_on_smi`, in a folder made for it.

use std::{fs, path::Path, thread, time::Duration};

use smi_user::{
    counter::cost::{Place, SmiCosts},
    detector::Availability,
    doctor::{Examination, State},
    kernel::{perf::group::CpuGroup, pmu::Event},
};
use tests::{cost::killed_run, output, refused, smilat, stderr};

#[test]
fn where_it_cannot_be_measured_that_is_said_and_nothing_runs() {
    let Availability::Missing { reason, remedy } = smi_user::counter::cost::probe() else {
        // A machine that has it: the run below would be right to start.
        let run = output(smilat().args(["run", "--duration=2s", "--smi-cost"]));
        assert!(run.status.success(), "{}", stderr(&run));
        let report = String::from_utf8(run.stdout).expect("UTF-8");
        assert!(report.contains("Cycles lost to SMIs"), "{report}");
        return;
    };
    refused(
        smilat().args(["run", "--duration=1s", "--smi-cost"]),
        &["--smi-cost", &reason, &remedy, "leave out --smi-cost"],
    );
    let told = output(smilat().args(["doctor", "--json"]));
    let found: Examination = serde_json::from_slice(&told.stdout).expect("JSON");
    let check = found
        .checks
        .iter()
        .find(|check| check.name == "run --smi-cost")
        .expect("a check");
    assert_eq!(check.state, State::Missing);
    assert_eq!((&check.found, &check.remedy), (&reason, &remedy));
}

/// Events of the kernel's own (`enum perf_sw_ids` of `include/uapi/linux/perf_event.h`) that every machine has: the clock, in ns,
/// and instructions that the kernel had to emulate, which come as rarely as SMIs.
const SOFTWARE: u32 = 1;
const CLOCK: u64 = 0;
const EMULATED: u64 = 8;

/// A folder of PMUs, of which both are the software one: `aperf` and `cpu-cycles` are its clock, `smi` is what is emulated. Few
/// virtual machines have the real ones.
fn stand_in(dir: &Path) -> Place {
    let event = |config: u64| format!("event={config:#04x}\n");
    for pmu in ["msr", "cpu"] {
        for (file, text) in [
            ("type", format!("{SOFTWARE}\n")),
            ("format/event", "config:0-63\n".to_owned()),
            ("events/aperf", event(CLOCK)),
            ("events/smi", event(EMULATED)),
            ("events/cpu-cycles", event(CLOCK)),
        ] {
            let path = dir.join(pmu).join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            fs::write(path, text).expect("write");
        }
    }
    fs::write(dir.join("cpu/freeze_on_smi"), "0\n").expect("write");
    Place {
        devices: dir.to_owned(),
        journal: dir.join("run"),
    }
}

#[test]
fn counters_of_a_cpu_count_together_and_the_setting_is_put_back() {
    let dir = tempfile::tempdir().expect("folder");
    let place = stand_in(dir.path());
    let freeze = || fs::read_to_string(dir.path().join("cpu/freeze_on_smi")).expect("read");
    let cpus = "0-1".parse().expect("a list");
    let mut costs = SmiCosts::start_at(&place, &cpus).expect("started");
    assert_eq!(freeze().trim(), "1");
    let second = SmiCosts::start_at(&place, &cpus).expect_err("held");
    assert!(
        second.to_string().contains("measuring what SMIs cost"),
        "{second:#}"
    );
    let mut before = 0;
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(30));
        let (read, warnings) = costs.read();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(read.len(), 2);
        for (cpu, cost) in &read {
            // Not mixed up: SMIs are rare.
            assert!(cost.smis < 1_000, "CPU {cpu}: {cost:?}");
            // The same clock read twice, from the same moment on: they differ by no more than it takes to read both.
            let apart = cost.aperf.abs_diff(cost.cycles);
            assert!(apart < cost.aperf / 100, "CPU {cpu}: {cost:?}");
        }
        assert!(read[&0].aperf > before, "{read:?}");
        before = read[&0].aperf;
    }
    costs.stop().expect("stopped");
    assert_eq!(freeze().trim(), "0");
    SmiCosts::start_at(&place, &cpus).expect("free again");
    assert_eq!(freeze().trim(), "0");
}

#[test]
fn a_group_begins_together_and_tells_the_counts_in_order() {
    let [clock, emulated] = [CLOCK, EMULATED].map(|config| Event {
        pmu_type: SOFTWARE,
        config,
    });
    let group = CpuGroup::open(&[clock, emulated, clock], 0).expect("opened");
    let first = group.read().expect("read");
    thread::sleep(Duration::from_millis(50));
    let then = group.read().expect("read");
    assert_eq!(then.counts.len(), 3);
    assert_eq!(then.enabled_ns, then.running_ns);
    assert!(then.enabled_ns - first.enabled_ns >= 50_000_000);
    assert!(then.counts[0] > first.counts[0] && then.counts[2] > first.counts[2]);
    assert!(
        then.counts[0] > 1_000_000 && then.counts[1] < 1_000,
        "{then:?}"
    );
    let nobodys = Event {
        pmu_type: 123_456,
        config: 0,
    };
    let error = CpuGroup::open(&[clock, nobodys], 0).expect_err("no such PMU");
    assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn what_a_killed_run_left_is_put_back_by_restore_and_by_the_next_run() {
    let dir = tempfile::tempdir().expect("folder");
    let setting = dir.path().join("freeze_on_smi");
    let told = format!("{} is \"0\" again", setting.display());
    let read = || fs::read_to_string(&setting).expect("read");

    let journal = killed_run(&setting);
    let restored = output(smilat().arg("restore"));
    assert!(restored.status.success(), "{}", stderr(&restored));
    assert!(String::from_utf8_lossy(&restored.stdout).contains(&told));
    assert_eq!((read().as_str(), journal.exists()), ("0", false));

    // Of whatever detector.
    let journal = killed_run(&setting);
    let run = output(smilat().args(["run", "--duration=1s", "--format=ndjson"]));
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(stderr(&run).contains(&told), "{}", stderr(&run));
    assert_eq!((read().as_str(), journal.exists()), ("0", false));
}
