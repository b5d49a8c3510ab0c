//! What it costs to have smilat run beside the work of a machine.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    peers,
    table::{Aim, Cell, Section, Table, median},
};
use crate::{
    sh,
    vm::{self, Measurement},
};

const MIB: f64 = 1024.0 * 1024.0;

/// What a watcher took in a minute (`tests/src/watch_cost.rs`).
#[derive(Clone, Debug, Deserialize)]
struct Watcher {
    who: String,
    parts: Vec<Part>,
    /// The most at the end of any part.
    resident_bytes: f64,
    /// The most at any time.
    peak_bytes: f64,
    /// As far as it tells.
    gaps_per_s: Option<f64>,
    lost: Option<f64>,
    exposure_ns_per_s: Option<f64>,
}

/// A sixth of the minute.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Part {
    cpu_ns_per_s: f64,
    sampling_ns_per_s: f64,
    wakeups_per_s: f64,
    sampling_wakeups_per_s: f64,
}

impl Watcher {
    /// A share of one CPU, in percent, in each part.
    fn percent(&self, of: fn(&Part) -> f64) -> Vec<f64> {
        self.parts.iter().map(|part| of(part) / 1e7).collect()
    }

    fn cpu_percent(&self) -> f64 {
        median(&self.percent(|part| part.cpu_ns_per_s))
    }

    fn wakeups(&self, of: fn(&Part) -> f64) -> Cell {
        let rounds: Vec<f64> = self.parts.iter().map(of).collect();
        Cell::rounds(&rounds, 1)
    }

    /// Whether it reports once a second, of a machine with few gaps.
    fn is_calm(&self) -> bool {
        ["smilat, text", "smilat, NDJSON", "smilat, 1 scrape/s"].contains(&self.who.as_str())
    }

    fn is_smilat(&self) -> bool {
        self.who.starts_with("smilat")
    }
}

/// The memory that a watcher held.
#[derive(Clone, Debug, Deserialize)]
struct Holder {
    who: String,
    cpus: u64,
    resident_bytes: f64,
    peak_bytes: f64,
}

fn parse<T: DeserializeOwned>(lines: &[impl AsRef<str>]) -> Result<Vec<T>> {
    let watchers = lines.iter().map(|line| {
        let line = line.as_ref();
        serde_json::from_str(line).with_context(|| format!("no watcher's cost: {line}"))
    });
    watchers.collect()
}

/// The section.
pub(super) fn watching(smilat: &Path) -> Result<Section> {
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests"]))?;
    let program = sh::root().join("target/release/watch_cost");
    let here = sh::read(Command::new(program).env("SMILAT", smilat))?;
    let here = parse(&here.lines().collect::<Vec<_>>())?;
    let two = parse(&vm::measure(Measurement::Watching)?)?;
    let held = parse(&vm::measure(Measurement::Memory)?)?;
    let mut section = section(&here, &two, &held)?;
    section.versions = vec![
        peers::rtla()?,
        peers::installed("rt-tests")?,
        format!("turbostat of linux-cpupower {}", vm::turbostat_version()?),
    ];
    Ok(section)
}

fn section(here: &[Watcher], two: &[Watcher], held: &[Holder]) -> Result<Section> {
    for holder in held {
        ensure!(
            holder.cpus == 255,
            "memory was to be measured on 255 CPUs, and {} are there",
            holder.cpus
        );
    }
    let tables = [
        ("On this machine:", here),
        (
            "In a virtual machine, 2 CPUs, Linux 6.12 with `PREEMPT_RT`:",
            two,
        ),
    ];
    Ok(Section {
        title: "Cost of watching".to_owned(),
        about: "A minute each, in six parts: medians, lowest and highest are of these. smilat by its defaults (spin, 1 ms of every \
                100 ms, one CPU after another) and a report each second, on a machine that does nothing else. *CPU*, *wake-ups*: those \
                of the process but for its sampling threads, or of the whole process where it has none; 100 % is one CPU. *Sampling*: \
                its sampling threads; *beyond*: what they took more than what they watched. *Many gaps*: with a threshold of 1 ns each \
                step is a gap. Kernel threads that sample for osnoise and hwlat are in no column.\n\n\
                The virtual machines' clock counts instructions, of all CPUs together, 4 ns each: 1 % of such a CPU is 2.5 million \
                instructions a second, which takes today's CPUs a small part of that time. `rtla hwnoise` and smilat's osnoise watch all CPUs, 100 us of \
                each second; hwlatdetect and smilat's hwlat 1 ms of every 100 ms. Programs there are linked statically, but for \
                hwlatdetect's Python and turbostat.\n\n\
                The machine with 255 CPUs is emulated by this one's few: time says nothing on it, and what a snapshot of so many takes \
                is measured by `cargo xtask bench start`."
            .to_owned(),
        tables: tables
            .into_iter()
            .map(|(caption, watchers)| table(watchers).captioned(caption))
            .chain([memory(held)])
            .collect(),
        aims: [
            aims("2 CPUs", here, 12.0, 0.1)?,
            vec![
                memory_aim(
                    "255 CPUs",
                    held.iter().map(|holder| holder.resident_bytes),
                    24.0,
                )?,
                to_rtla(two)?,
            ],
        ]
        .concat(),
        versions: Vec::new(),
    })
}

fn table(watchers: &[Watcher]) -> Table {
    let mut table = Table::new(&[
        "who",
        "CPU, %",
        "wake-ups/s",
        "sampling, %",
        "beyond, %",
        "its wake-ups/s",
        "resident MiB",
        "peak MiB",
        "gaps/s",
        "lost",
    ]);
    for watcher in watchers {
        let sampling = watcher.percent(|part| part.sampling_ns_per_s);
        let samples = sampling.iter().any(|percent| *percent > 0.0);
        let if_it_samples = |cell: Cell| if samples { cell } else { Cell::text("-") };
        let or_dash = |value: Option<f64>, digits| {
            value.map_or_else(|| Cell::text("-"), |value| Cell::number(value, digits))
        };
        let beyond = watcher.exposure_ns_per_s.filter(|_| samples);
        table.row([
            Cell::text(&watcher.who),
            Cell::rounds(&watcher.percent(|part| part.cpu_ns_per_s), 3),
            watcher.wakeups(|part| part.wakeups_per_s),
            if_it_samples(Cell::rounds(&sampling, 2)),
            or_dash(beyond.map(|ns| median(&sampling) - ns / 1e7), 2),
            if_it_samples(watcher.wakeups(|part| part.sampling_wakeups_per_s)),
            Cell::number(watcher.resident_bytes / MIB, 1),
            Cell::number(watcher.peak_bytes / MIB, 1),
            or_dash(watcher.gaps_per_s, 0),
            or_dash(watcher.lost, 0),
        ]);
    }
    table
}

fn memory(held: &[Holder]) -> Table {
    let mut table = Table::new(&["who", "CPUs", "resident MiB", "peak MiB"])
        .captioned("Memory alone, in a virtual machine with as many CPUs:");
    for holder in held {
        table.row([
            Cell::text(&holder.who),
            Cell::count(holder.cpus),
            Cell::number(holder.resident_bytes / MIB, 1),
            Cell::number(holder.peak_bytes / MIB, 1),
        ]);
    }
    table
}

/// The aims for memory, in MiB, and CPU time at an interval of 1 s, in percent of one CPU, on a machine of this `size`.
fn aims(size: &str, watchers: &[Watcher], mebibytes: f64, percent: f64) -> Result<Vec<Aim>> {
    let ours = || watchers.iter().filter(|watcher| watcher.is_smilat());
    let resident = ours().map(|watcher| watcher.resident_bytes);
    let calm = ours().filter(|watcher| watcher.is_calm());
    let cpu = most(size, calm.map(Watcher::cpu_percent))?;
    Ok(vec![
        memory_aim(size, resident, mebibytes)?,
        Aim::at_most(
            &format!(
                "CPU time at an interval of 1 s, {size}, the dearest of text, NDJSON, metrics"
            ),
            percent,
            " % of a CPU",
            cpu,
        ),
        Aim::at_most(
            &format!("records of gaps lost for lack of room, {size}, many gaps"),
            0.0,
            "",
            most(size, ours().filter_map(|watcher| watcher.lost))?,
        ),
    ])
}

fn memory_aim(
    size: &str,
    resident_bytes: impl Iterator<Item = f64>,
    mebibytes: f64,
) -> Result<Aim> {
    Ok(Aim::at_most(
        &format!("resident memory, {size}, the largest of all ways to watch"),
        mebibytes,
        " MiB",
        most(size, resident_bytes)? / MIB,
    ))
}

/// The greatest of what was measured on a machine of this `size`.
fn most(size: &str, values: impl Iterator<Item = f64>) -> Result<f64> {
    values
        .reduce(f64::max)
        .with_context(|| format!("nothing was measured on {size}"))
}

/// The aim beside the peer that reads the same tracer.
fn to_rtla(watchers: &[Watcher]) -> Result<Aim> {
    let of = |who: &str| {
        let found = watchers.iter().find(|watcher| watcher.who == who);
        found.with_context(|| format!("nothing was measured of {who}"))
    };
    let ratio = of("smilat, osnoise, text")?.cpu_percent() / of("rtla hwnoise")?.cpu_percent();
    Ok(Aim::at_most(
        "CPU time with osnoise, 2 CPUs, to that of `rtla hwnoise`",
        0.1,
        " times",
        ratio,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(who: &str, cpu_ns: u64, more: &str) -> String {
        format!(
            r#"{{"who":"{who}","resident_bytes":9437184,"peak_bytes":10485760{more},"parts":[
            {{"cpu_ns_per_s":{cpu_ns},"sampling_ns_per_s":0,"wakeups_per_s":2,"sampling_wakeups_per_s":0}}]}}"#
        )
    }

    #[test]
    fn aims_are_of_the_dearest_and_beside_the_peer() {
        let lines = [
            line("smilat, text", 500_000, ""),
            line("smilat, NDJSON", 900_000, r#","lost":0,"gaps_per_s":7.5"#),
            line("smilat, 10 scrapes/s", 9_000_000, ""),
            line("smilat, osnoise, text", 500_000, ""),
            line("rtla hwnoise", 4_000_000, ""),
        ];
        let watchers: Vec<Watcher> = parse(&lines).expect("watchers");
        let held = [
            r#"{"who":"smilat, text","cpus":255,"resident_bytes":20971520,"peak_bytes":26214400}"#,
        ];
        let held: Vec<Holder> = parse(&held).expect("holders");
        let section = section(&watchers, &watchers, &held).expect("a section");
        let measured: Vec<f64> = section.aims.iter().map(|aim| aim.measured).collect();
        assert_eq!(measured, [9.0, 0.09, 0.0, 20.0, 0.125]);
        let text = section.to_string();
        let row = "| rtla hwnoise | 0.400 (0.400 to 0.400) | 2.0 (2.0 to 2.0) | - | - | - | 9.0 | 10.0 | - | - |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("| smilat, text | 255 | 20.0 | 25.0 |"),
            "{text}"
        );
        let of_three = super::section(&watchers[..3], &watchers[..3], &held);
        assert!(of_three.is_err(), "there is no peer");
        assert!(parse::<Watcher>(&["{}"]).is_err());
    }
}
