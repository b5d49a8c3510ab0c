//! How long smilat takes to its first window, and what each snapshot costs.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::table::{Aim, Cell, Section, Table, median, ratios};
use crate::sh;

/// Starts of each kind.
const ROUNDS: usize = 15;

/// What `smilat run` is started with, and how long the first pause is.
const STARTS: [(&str, &[&str]); 2] = [
    ("nothing: 1 ms of every 100 ms", &[]),
    (
        "--mode per-cpu --width 1ms --window 10ms",
        &["--mode", "per-cpu", "--width", "1ms", "--window", "10ms"],
    ),
];

/// Longest time to the first window that the project wants, in ms.
const LONGEST_MS: f64 = 150.0;

/// What `first_window` prints: ns since just before the process was made.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Start {
    loaded_ns: u64,
    noise_ns: u64,
    measured_ns: u64,
    window_ns: u64,
}

/// What `snapshot_cost` prints of a number of CPUs.
#[derive(Debug, Deserialize)]
struct Cost {
    cpus: u32,
    us: BTreeMap<String, Vec<f64>>,
    bytes: BTreeMap<String, u64>,
}

/// The section.
pub(super) fn start(smilat: &Path) -> Result<Section> {
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests"]))?;
    let starts = starts(smilat)?;
    let snapshots: Vec<Cost> = told(&mut measuring("snapshot_cost"))?;
    let by_default = starts[0].iter().map(|start| ms(start.window_ns));
    let small = starts[1].iter().map(|start| ms(start.window_ns));
    Ok(Section {
        title: "Start, and what a snapshot costs".to_owned(),
        about: format!(
            "The first window: {ROUNDS} starts of each kind, in turn. Another process looks every 0.2 ms at the memory in which \
             the sampling threads and the BPF program hand each other stretches; when the first window began stands there, as the \
             program itself read the kernel's clock. All times run from just before the process is made. The columns are \
             reached one after the other: the BPF maps are there; the programs are verified and the first reading of the noise \
             begins; the noise is measured (16 stretches, which take 16 ms, and as long in between); the first window begins, \
             after a pause at random that is as long as that between windows at most, so that CPUs do not begin together.\n\n\
             A snapshot: reading what the programs counted from the kernel's maps, making the snapshot, and writing it as a \
             line of NDJSON or a page for Prometheus; of counts that fill most of the histograms, of four causes. The kernel \
             keeps a copy for each CPU that this machine may have, so those of more CPUs are copies of several loaded objects, \
             with a system call for each: a machine with as many CPUs takes a single one."
        ),
        tables: vec![starts_table(&starts), times(&snapshots)?, bytes(&snapshots)],
        aims: vec![
            aim("started with nothing", by_default),
            aim("with windows every 10 ms", small),
            aim_of_snapshots(&snapshots, "OpenMetrics")?,
            aim_of_snapshots(&snapshots, "NDJSON")?,
        ],
        versions: Vec::new(),
    })
}

fn aim(how: &str, window_ms: impl Iterator<Item = f64>) -> Aim {
    let measured = median(&window_ms.collect::<Vec<_>>());
    Aim::at_most(
        &format!("time from exec to the first window, {how}"),
        LONGEST_MS,
        " ms",
        measured,
    )
}

/// What of a CPU the largest machine's snapshots would take, one a second.
fn aim_of_snapshots(costs: &[Cost], form: &str) -> Result<Aim> {
    let largest = costs.last().context("no costs")?;
    let us: f64 = ["read", "make", form]
        .iter()
        .map(|step| median(&largest.us[*step]))
        .sum();
    Ok(Aim::at_most(
        &format!(
            "CPU time of a snapshot a second, {} CPUs with most of the histograms filled, from maps to {form}",
            largest.cpus
        ),
        1.0,
        " % of a CPU",
        us / 1e6 * 100.0,
    ))
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// A program of the tests' that measures.
fn measuring(name: &str) -> Command {
    Command::new(sh::root().join("target/release").join(name))
}

/// What `command` prints as JSON.
fn told<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    let text = sh::read(command)?;
    serde_json::from_str(&text).with_context(|| format!("{command:?} printed: {text}"))
}

/// All starts, by kind.
fn starts(smilat: &Path) -> Result<[Vec<Start>; STARTS.len()]> {
    let mut all = STARTS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, args), rounds) in STARTS.iter().zip(&mut all) {
            let mut command = measuring("first_window");
            rounds.push(told(
                command.arg(smilat).args(["run", "--quiet"]).args(*args),
            )?);
        }
    }
    Ok(all)
}

fn starts_table(starts: &[Vec<Start>]) -> Table {
    let mut table = Table::new(&[
        "started with",
        "maps, ms",
        "programs, ms",
        "noise measured, ms",
        "first window, ms",
    ])
    .captioned("From exec to the first window:");
    let reached: [fn(&Start) -> u64; 4] = [
        |start| start.loaded_ns,
        |start| start.noise_ns,
        |start| start.measured_ns,
        |start| start.window_ns,
    ];
    for ((name, _), rounds) in STARTS.iter().zip(starts) {
        let times = reached.map(|reached| {
            let rounds: Vec<f64> = rounds.iter().map(|start| ms(reached(start))).collect();
            Cell::rounds(&rounds, 1)
        });
        table.row([Cell::text(*name)].into_iter().chain(times));
    }
    table
}

/// Steps of a snapshot, as `snapshot_cost` names them, and the columns of a table.
const STEPS: [(&str, &str); 6] = [
    ("read", "read the maps, us"),
    ("make", "make the snapshot, us"),
    ("NDJSON", "NDJSON, us"),
    ("text", "text, us"),
    ("OpenMetrics", "OpenMetrics, us"),
    ("protobuf", "protobuf, us"),
];

fn times(costs: &[Cost]) -> Result<Table> {
    let columns: Vec<&str> = ["CPUs"]
        .into_iter()
        .chain(STEPS.map(|(_, column)| column))
        .collect();
    let mut table = Table::new(&columns).captioned("What a snapshot costs by the number of CPUs:");
    for cost in costs {
        let times = STEPS.map(|(step, _)| Cell::rounds(&cost.us[step], 1));
        table.row([Cell::count(cost.cpus.into())].into_iter().chain(times));
    }
    let (few, many) = costs.first().zip(costs.last()).context("no costs")?;
    let per_cpu = |cost: &Cost, step: &str| -> Vec<f64> {
        let us = &cost.us[step];
        us.iter().map(|us| us / f64::from(cost.cpus)).collect()
    };
    let times =
        STEPS.map(|(step, _)| Cell::rounds(&ratios(&per_cpu(many, step), &per_cpu(few, step)), 2));
    let name = format!("a CPU's part of {}, to that of {}", many.cpus, few.cpus);
    table.row([Cell::text(name)].into_iter().chain(times));
    Ok(table)
}

fn bytes(costs: &[Cost]) -> Table {
    let forms = &STEPS.map(|(step, _)| step)[2..];
    let columns: Vec<String> = forms.iter().map(|form| format!("{form}, bytes")).collect();
    let columns: Vec<&str> = ["CPUs"]
        .into_iter()
        .chain(columns.iter().map(String::as_str))
        .collect();
    let mut table = Table::new(&columns).captioned("And how large it is:");
    for cost in costs {
        let sizes = forms.iter().map(|form| Cell::count(cost.bytes[*form]));
        table.row([Cell::count(cost.cpus.into())].into_iter().chain(sizes));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_s_part_is_compared_round_by_round() {
        let cost = |cpus: u32, us: [f64; 2]| Cost {
            cpus,
            us: STEPS
                .iter()
                .map(|(step, _)| ((*step).to_owned(), us.to_vec()))
                .collect(),
            bytes: BTreeMap::new(),
        };
        let table = times(&[cost(2, [4.0, 8.0]), cost(4, [8.0, 32.0])]).expect("a table");
        assert_eq!(
            table.rows.last().expect("a row")[1],
            Cell::rounds(&[1.0, 2.0], 2)
        );
    }
}
