//! How long the steps of each detector's loop are: `cargo xtask bench resolution` makes tables of what this prints
//! (`xtask/src/bench/steps.rs`).
//!
//! The kernel's tracers do not count their steps, but those above their threshold. On a machine each of whose instructions takes
//! so long that this is every step, that counts them. On one of normal speed it tells how many are longer than what.

use std::{fs, path::Path, thread, time::Duration};

use serde_json::{Value, json};
use smi_user::model::{CpuSnapshot, Snapshot};

use super::{
    noise,
    state::{State, TRACING},
    telling::Telling,
};
use crate::{smilat, snapshots};

const COUNTING_ROUNDS: usize = 3;
const FLOOR_ROUNDS: usize = 5;

/// The tracers' thresholds that are tried, in us.
const THRESHOLDS_US: [u64; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64];

/// Where each instruction takes 64 ns: time sampled, and steps taken in it.
pub(super) fn steps_are_so_many_instructions() {
    let print = |detector: &str, sampled_ns: u64, steps: u64| {
        assert!(steps > 0, "{detector} took no steps");
        let told = json!({"detector": detector, "sampled_ns": sampled_ns, "steps": steps});
        println!("    BENCH {told}");
    };
    for _ in 0..COUNTING_ROUNDS {
        // No step of spin's is a gap.
        let args = ["--detector=spin", "--threshold=1ms", "--irqs-off-max=50ms"];
        let (began, ended) = watched(&args);
        print(
            "spin",
            ended.exposure_ns - began.exposure_ns,
            ended.stretches.steps - began.stretches.steps,
        );
        let (sampled_ns, steps) = osnoise_steps();
        print("osnoise", sampled_ns, steps);
        let (began, ended) = watched(&["--detector=hwlat", "--threshold=1us", "--counter=none"]);
        print(
            "hwlat",
            ended.exposure_ns - began.exposure_ns,
            ended.tracer.steps_over - began.tracer.steps_over,
        );
    }
}

/// What smilat told after the first seconds, and some seconds later. Of the first and the last window, a tracer may have told the
/// time and not the steps.
fn watched(args: &[&str]) -> (CpuSnapshot, CpuSnapshot) {
    let common = [
        "--mode=per-cpu",
        "--cpus=0",
        "--width=200ms",
        "--window=1s",
        "--interval=1s",
        "--duration=9s",
    ];
    let mut all = snapshots(&[&common, args].concat());
    assert!(all.len() >= 8, "{} snapshots", all.len());
    let mut cpu = |number: usize| all[number].cpus.remove(0);
    (cpu(1), cpu(6))
}

/// Without anybody who watches, since that would be part of the steps.
fn osnoise_steps() -> (u64, u64) {
    const WINDOWS: usize = 5;
    let before = State::read();
    noise::set(Duration::from_millis(200), Duration::from_secs(1));
    let tracer = noise::start();
    let mut windows = Vec::new();
    while windows.len() < WINDOWS {
        thread::sleep(Duration::from_millis(100));
        windows = noise::windows(tracer.path());
    }
    drop(tracer);
    assert_eq!(before.put_back(), [], "not put back");
    (noise::runtime_ns(&windows), noise::gaps(&windows))
}

/// On a machine of normal speed: spin's steps above 1 us by length, and how many of the tracers' are above each threshold.
pub(super) fn steps_are_longer_than_that_so_often() {
    for _ in 0..FLOOR_ROUNDS {
        let told = json!({"detector": "spin", "cpu": spin_steps()});
        println!("    BENCH {told}");
        for detector in ["osnoise", "hwlat"] {
            let told = json!({"detector": detector, "over": steps_over(detector)});
            println!("    BENCH {told}");
        }
    }
}

const COMMON: [&str; 6] = [
    "--mode=per-cpu",
    "--cpus=1",
    "--width=50ms",
    "--window=100ms",
    "--threshold=1us",
    "--quiet",
];

fn spin_steps() -> CpuSnapshot {
    let spin = [
        "--detector=spin",
        "--irqs-off-max=10ms",
        "--duration=3s",
        "--counter=none",
    ];
    let mut all = snapshots(&[&COMMON[..], &spin].concat());
    all.pop().expect("a snapshot").cpus.remove(0)
}

/// Threshold in us, time sampled with it, and steps that were above it, for each of [`THRESHOLDS_US`].
fn steps_over(detector: &str) -> Vec<Value> {
    let mut command = smilat();
    command
        .args(["run", "--format=ndjson", "--interval=500ms"])
        .args(["--detector", detector, "--counter=none"])
        .args(COMMON);
    let telling = Telling::<Snapshot>::start(command, |line| {
        serde_json::from_str(line).expect("a snapshot")
    });
    let next = || telling.next().expect("a snapshot").cpus.remove(0);
    let over = |cpu: &CpuSnapshot| match detector {
        "hwlat" => cpu.tracer.steps_over,
        _ => cpu.gaps.count,
    };
    let set = |us: u64| {
        // The tracers look at it anew in each window.
        let file = Path::new(TRACING).join("tracing_thresh");
        fs::write(file, us.to_string()).expect("a threshold");
    };
    let mut told = Vec::new();
    for us in THRESHOLDS_US {
        set(us);
        // A window with the threshold before ends in the first of these.
        let _mixed = next();
        let (before, after) = (next(), next());
        told.push(json!([
            us,
            after.exposure_ns - before.exposure_ns,
            over(&after) - over(&before)
        ]));
    }
    set(THRESHOLDS_US[0]);
    telling.signal(libc::SIGINT);
    let ended = telling.ended();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.words);
    told
}
