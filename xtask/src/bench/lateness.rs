//! What waits because of smilat.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    load::{Load, cpu, number},
    peers,
    table::{Cell, Section, Table},
};
use crate::sh;

/// The section.
pub(super) fn lateness(smilat: &Path) -> Result<Section> {
    let cpu = cpu()?;
    let mut table = Table::new(&[
        "smilat",
        "median us",
        "90 % us",
        "99 % us",
        "worst us",
        "stretches",
        "hangs",
    ]);
    for stretch in [None, Some("100us"), Some("1ms"), Some("10ms"), Some("50ms")] {
        let hangs = timer_hangs()?;
        let load = stretch.map(|stretch| {
            Load::start(
                Command::new(smilat)
                    .args(["run", "--quiet", "--format", "ndjson", "--cpus", &cpu])
                    .args(["--mode", "per-cpu", "--width", "50ms", "--window", "100ms"])
                    .args(["--irqs-off-max", stretch])
                    .stdout(Stdio::piped()),
            )
        });
        let load = load.transpose()?;
        let json = sh::root().join("target/cyclictest.json");
        sh::run(
            Command::new("cyclictest")
                .args(["--quiet", "--mlockall", "--priority=80", "--interval=1000"])
                .args(["--threads=1", "--duration=20s", "--histogram=100000"])
                .arg(format!("--affinity={cpu}"))
                .arg(format!("--json={}", json.display()))
                .stdout(Stdio::null()),
        )?;
        let stretches = match load {
            Some(load) => Cell::number(
                number(&load.last_snapshot()?["cpus"][0]["stretches"]["run"])?,
                0,
            ),
            None => Cell::text("-"),
        };
        let report: Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
        let thread = &report["thread"]["0"];
        let percentiles = percentiles(&thread["histogram"], [0.5, 0.9, 0.99])?;
        let name =
            stretch.map_or_else(|| "not running".to_owned(), |s| format!("stretches of {s}"));
        let mut row = vec![Cell::text(name)];
        row.extend(percentiles.map(Cell::count));
        row.extend([
            Cell::number(number(&thread["max"])?, 0),
            stretches,
            Cell::count(timer_hangs()? - hangs),
        ]);
        table.row(row);
    }
    Ok(Section {
        title: "What waits because of smilat".to_owned(),
        about: format!(
            "Lateness of a 1 ms timer on CPU {cpu} (cyclictest, SCHED_FIFO 80, 20 s), while smilat samples 50 ms of every \
             100 ms there with different stretches. The first line is the machine's own. On a virtual machine the \
             hypervisor adds its part to the last columns: compare `smilat run --cpus {cpu}`. Hangs are the cases in which \
             the kernel found its timers overdue three times in one interrupt and put all of the CPU's off by as long as \
             that had taken (`nr_hangs` in /proc/timer_list); stretches are those that smilat ran meanwhile."
        ),
        tables: vec![table],
        aims: Vec::new(),
        versions: vec![peers::installed("rt-tests")?],
    })
}

/// Timer interrupts of all CPUs since boot that the kernel gave up on.
fn timer_hangs() -> Result<u64> {
    let timers = fs::read_to_string("/proc/timer_list").context("cannot read /proc/timer_list")?;
    Ok(timers
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".nr_hangs")?.split(':').nth(1))
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum())
}

/// Percentiles of a histogram as rt-tests writes it: counts by microseconds.
fn percentiles<const N: usize>(histogram: &Value, shares: [f64; N]) -> Result<[u64; N]> {
    let mut buckets = histogram
        .as_object()
        .context("the report has no histogram")?
        .iter()
        .map(|(us, count)| Ok((us.parse::<u64>()?, number(count)?)))
        .collect::<Result<Vec<_>>>()?;
    buckets.sort_unstable_by_key(|(us, _)| *us);
    let total: f64 = buckets.iter().map(|(_, count)| count).sum();
    Ok(shares.map(|share| {
        let mut left = share * total;
        for (us, count) in &buckets {
            left -= count;
            if left <= 0.0 {
                return *us;
            }
        }
        buckets.last().map_or(0, |(us, _)| *us)
    }))
}
