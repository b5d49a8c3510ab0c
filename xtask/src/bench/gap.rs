//! What a gap costs within the kernel.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    load::number,
    table::{Cell, Section, Table, median},
};
use crate::sh;

/// The section.
pub(super) fn gap() -> Result<Section> {
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests"]))?;
    let told = sh::read(&mut Command::new(
        sh::root().join("target/release/gap_cost"),
    ))?;
    let variants: serde_json::Map<String, Value> =
        serde_json::from_str(&told).context("gap_cost did not print an object")?;
    let mut rows = Vec::new();
    for (name, rounds) in &variants {
        let rounds = rounds.as_array().context("no rounds")?;
        let rounds = rounds.iter().map(number).collect::<Result<Vec<f64>>>()?;
        rows.push((name, rounds));
    }
    rows.sort_by(|a, b| median(&a.1).total_cmp(&median(&b.1)));
    let mut table = Table::new(&["what is read for the cause", "ns a gap"]);
    for (name, rounds) in &rows {
        table.row([Cell::text(*name), Cell::rounds(rounds, 0)]);
    }
    Ok(Section {
        title: "What a gap costs within the kernel".to_owned(),
        about: "By the kernel's own count of the time its programs take (BPF_STATS_RUN_TIME, which adds two readings of the \
                clock), 9 rounds of 10,000 gaps in turn, all by the program that records osnoise's gaps; spin's reads the \
                sources of causes twice. On a virtual machine reading MSR 0x34 leaves for the hypervisor."
            .to_owned(),
        tables: vec![table],
        aims: Vec::new(),
        versions: Vec::new(),
    })
}
