//! How short a gap can be and still be told: the length of a step.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    ROUNDS,
    load::{cpu, last_snapshot, number},
    peers, steps,
    table::{Aim, Cell, Section, Table, median, ratios},
};
use crate::sh;

/// Some four times a step: few steps are as long, so that recording them disturbs no others, and more than one of 10,000.
const FLOOR_THRESHOLD: &str = "100ns";

/// The section.
pub(super) fn resolution(smilat: &Path) -> Result<Section> {
    let cpu = cpu()?;
    let (mut spin, mut oslat, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        spin.push(spin_step_ns(smilat, &cpu)?);
        oslat.push(oslat_step_ns(&cpu)?);
        floor.push(steps::floor_ns(&spin_run(smilat, &cpu, FLOOR_THRESHOLD)?)?);
    }
    let ratio = ratios(&spin, &oslat);
    let columns = [
        "",
        "ns a step",
        "to oslat's",
        "99.99 % of the steps are shorter than, ns",
    ];
    let mut table = Table::new(&columns).captioned("On this machine:");
    table.row([
        Cell::text("smilat spin"),
        Cell::rounds(&spin, 1),
        Cell::rounds(&ratio, 2),
        Cell::rounds(&floor, 0),
    ]);
    table.row([
        Cell::text("oslat"),
        Cell::rounds(&oslat, 1),
        Cell::text("1"),
        Cell::text("tells whole microseconds"),
    ]);
    Ok(Section {
        title: "Resolution".to_owned(),
        about: format!(
            "A step is one reading of the clock; a gap is told if it is longer than nearly all steps.\n\n\
             On this machine: time spent divided by readings taken, on CPU {cpu}, {ROUNDS} rounds of 1 s each in turn. smilat reads \
             the kernel's clock from BPF with interrupts off; oslat reads the TSC in user space and can be interrupted. How long \
             99.99 % of spin's steps take at most is told by its own histogram, in runs with a threshold of {FLOOR_THRESHOLD}; \
             within a bucket, which is 9 % wide, steps are taken to be spread evenly.\n\n\
             In virtual machines: instructions of a step are counted where each takes 64 ns of the machine's clock and nothing else \
             takes any, so that all steps of the tracers are above their least threshold and are counted by them: by osnoise \
             without anybody who reads its gaps, by hwlat as smilat tells it. The percentile is of another machine, whose two CPUs \
             are emulated at the host's speed: its noise is that of the emulation and of the host. spin's is measured as above, \
             with a threshold of 1 us. For the tracers, which report nothing below their threshold, it is the least threshold of a \
             row from 1 to 64 us that no more than one of 10,000 steps are above (for hwlat 1 us more, as it takes whole \
             microseconds above the threshold only). How many steps they took there is derived: the time sampled, divided by the \
             mean step of spin in the same round, times the ratio of instructions."
        ),
        tables: vec![table, steps::steps()?],
        aims: vec![Aim::at_most(
            "a step of spin, to oslat's on the same CPU",
            1.6,
            " times",
            median(&ratio),
        )],
        versions: vec![peers::installed("rt-tests")?],
    })
}

fn spin_step_ns(smilat: &Path, cpu: &str) -> Result<f64> {
    let watched = spin_run(smilat, cpu, "10us")?;
    Ok(number(&watched["exposure_ns"])? / number(&watched["stretches"]["steps"])?)
}

/// What spin tells of the CPU after 1 s.
fn spin_run(smilat: &Path, cpu: &str, threshold: &str) -> Result<Value> {
    let mut snapshot = last_snapshot(
        Command::new(smilat)
            .args(["run", "--quiet", "--format", "ndjson", "--duration", "1s"])
            .args(["--cpus", cpu, "--mode", "per-cpu"])
            .args(["--width", "90ms", "--window", "100ms"])
            .args(["--irqs-off-max", "10ms", "--threshold", threshold]),
    )?;
    Ok(snapshot["cpus"][0].take())
}

fn oslat_step_ns(cpu: &str) -> Result<f64> {
    let json = sh::root().join("target/oslat.json");
    sh::run(
        Command::new("oslat")
            .args(["--cpu-list", cpu, "--duration", "1s", "--rtprio", "1"])
            .arg(format!("--json={}", json.display()))
            .stdout(Stdio::null()),
    )?;
    let report: Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
    let thread = &report["thread"]["0"];
    let steps: f64 = thread["histogram"]
        .as_object()
        .context("oslat's report has no histogram")?
        .values()
        .filter_map(Value::as_f64)
        .sum();
    Ok(number(&thread["duration"])? * 1e9 / steps)
}
