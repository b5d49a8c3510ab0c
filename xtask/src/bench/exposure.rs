//! Windows kept, idle and busy.

use std::{path::Path, process::Command, thread};

use anyhow::{Context as _, Result};

use super::{
    load::{Load, last_snapshot, number},
    table::{Cell, Section, Table},
};

/// The section.
pub(super) fn exposure(smilat: &Path) -> Result<Section> {
    let mut table = Table::new(&[
        "machine",
        "stretch",
        "CPU",
        "windows scheduled",
        "run",
        "skipped",
        "exposure, %",
    ]);
    for busy in [false, true] {
        let loads = if busy {
            let threads = thread::available_parallelism()?.get() * 2;
            (0..threads)
                .map(|_| Load::start(Command::new("sh").args(["-c", "while :; do :; done"])))
                .collect::<Result<Vec<_>>>()?
        } else {
            Vec::new()
        };
        for stretch in ["100ms", "1ms"] {
            let snapshot = last_snapshot(
                Command::new(smilat)
                    .args(["run", "--quiet", "--format", "ndjson", "--duration", "20s"])
                    .args(["--width", "100ms", "--window", "500ms", "--mode", "per-cpu"])
                    .args(["--irqs-off-max", stretch]),
            )?;
            for watched in snapshot["cpus"].as_array().context("no CPUs")? {
                let windows = &watched["windows"];
                let run = number(&windows["run"])?;
                table.row([
                    Cell::text(if busy { "busy" } else { "idle" }),
                    Cell::text(stretch),
                    Cell::number(number(&watched["cpu"])?, 0),
                    Cell::number(number(&windows["scheduled"])?, 0),
                    Cell::number(run, 0),
                    Cell::number(number(&windows["skipped"])?, 0),
                    Cell::number(number(&watched["exposure_ns"])? / run / 1e8 * 100.0, 1),
                ]);
            }
        }
        drop(loads);
    }
    Ok(Section {
        title: "Windows kept and exposure".to_owned(),
        about: "20 s at `--width 100ms --window 500ms --mode per-cpu`; exposure is the share of windows run times width. Busy: \
                two threads a CPU that never sleep."
            .to_owned(),
        tables: vec![table],
        aims: Vec::new(),
        versions: Vec::new(),
    })
}
