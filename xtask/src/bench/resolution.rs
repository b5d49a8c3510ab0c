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
    peers,
    table::{Aim, Cell, Section, Table, median, ratios},
};
use crate::sh;

/// The section.
pub(super) fn resolution(smilat: &Path) -> Result<Section> {
    let cpu = cpu()?;
    let (mut spin, mut oslat) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        spin.push(spin_step_ns(smilat, &cpu)?);
        oslat.push(oslat_step_ns(&cpu)?);
    }
    let ratio = ratios(&spin, &oslat);
    let mut table = Table::new(&["", "ns a step", "to oslat's"]);
    table.row([
        Cell::text("smilat spin"),
        Cell::rounds(&spin, 1),
        Cell::rounds(&ratio, 2),
    ]);
    table.row([
        Cell::text("oslat"),
        Cell::rounds(&oslat, 1),
        Cell::text("1"),
    ]);
    Ok(Section {
        title: "Resolution".to_owned(),
        about: format!(
            "Time spent divided by readings taken, on CPU {cpu}, {ROUNDS} rounds of 1 s each in turn. smilat reads the \
             kernel's clock from BPF with interrupts off; oslat reads the TSC in user space and can be interrupted."
        ),
        tables: vec![table],
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
    let snapshot = last_snapshot(
        Command::new(smilat)
            .args(["run", "--quiet", "--format", "ndjson", "--duration", "1s"])
            .args(["--cpus", cpu, "--mode", "per-cpu"])
            .args(["--width", "90ms", "--window", "100ms"])
            .args(["--irqs-off-max", "10ms"]),
    )?;
    let watched = &snapshot["cpus"][0];
    Ok(number(&watched["exposure_ns"])? / number(&watched["stretches"]["steps"])?)
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
