//! How long the steps of the detectors' loops are in virtual machines, on average and at the 99.99th percentile.

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    gap_readers::NS_OF_INSTRUCTION,
    load::number,
    table::{Cell, Table, median, ratios},
};
use crate::vm;

/// Of so many steps, one may be longer.
pub(super) const ONE_IN: f64 = 10_000.0;

const DETECTORS: [&str; 3] = ["spin", "osnoise", "hwlat"];

/// A buckets' upper bound to its lower (`smi_common::buckets`: eight of them for each power of two).
const BUCKET: f64 = 1.090_507_732_665_257_7;

/// Steps where each instruction takes 64 ns, as the machine tells them (`tests/src/guest/steps.rs`).
#[derive(Debug, Deserialize)]
struct Counted {
    detector: String,
    sampled_ns: u64,
    steps: u64,
}

/// Long steps on a machine of normal speed.
#[derive(Debug, Deserialize)]
struct Long {
    detector: String,
    /// spin: the CPU's part of a snapshot.
    #[serde(default)]
    cpu: Value,
    /// Tracers: threshold in us, time sampled in ns, steps above it.
    #[serde(default)]
    over: Vec<(u64, u64, u64)>,
}

/// The table.
pub(super) fn steps() -> Result<Table> {
    table(
        &vm::measure(vm::Measurement::Steps)?,
        &vm::measure(vm::Measurement::Floor)?,
    )
}

fn parse<T: DeserializeOwned>(lines: &[String]) -> Result<Vec<T>> {
    lines
        .iter()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the machine says: {line}")))
        .collect()
}

fn table(counted: &[String], long: &[String]) -> Result<Table> {
    let counted: Vec<Counted> = parse(counted)?;
    let long: Vec<Long> = parse(long)?;
    let instructions = |detector: &str| -> Result<Vec<f64>> {
        let of = counted.iter().filter(|one| one.detector == detector);
        let all: Vec<f64> = of
            .map(|one| one.sampled_ns as f64 / NS_OF_INSTRUCTION / one.steps as f64)
            .collect();
        (!all.is_empty())
            .then_some(all)
            .with_context(|| format!("the machine counts no steps of {detector}"))
    };
    let of_spin = instructions("spin")?;
    let mut spin = Vec::new();
    for one in long.iter().filter(|one| one.detector == "spin") {
        spin.push((step_ns(&one.cpu)?, floor_ns(&one.cpu)?));
    }
    let mut table = Table::new(&[
        "detector",
        "instructions of a step",
        "to spin's",
        "99.99 % of the steps are shorter than, us",
    ])
    .captioned("In virtual machines, each detector of the same kernel:");
    for detector in DETECTORS {
        let own = instructions(detector)?;
        let ratio = ratios(&own, &of_spin);
        let floor_us: Vec<f64> = if detector == "spin" {
            spin.iter().map(|(_, floor_ns)| floor_ns / 1e3).collect()
        } else {
            let of = long.iter().filter(|one| one.detector == detector);
            of.zip(&spin)
                .map(|(one, (spin_ns, _))| floor_us(one, spin_ns * median(&ratio)))
                .collect::<Result<_>>()?
        };
        (!floor_us.is_empty())
            .then_some(())
            .with_context(|| format!("the machine tells no long steps of {detector}"))?;
        table.row([
            Cell::text(detector),
            Cell::rounds(&own, 0),
            Cell::rounds(&ratio, 2),
            Cell::rounds(&floor_us, 1),
        ]);
    }
    Ok(table)
}

/// Mean time of a step of spin's.
fn step_ns(cpu: &Value) -> Result<f64> {
    Ok(number(&cpu["exposure_ns"])? / number(&cpu["stretches"]["steps"])?)
}

/// The time that only one of 10,000 steps of spin's is longer than, by its histogram of those above the threshold. Within a
/// bucket they are taken to be spread evenly. The lower bound of the shortest one where fewer steps are above the threshold.
pub(super) fn floor_ns(cpu: &Value) -> Result<f64> {
    let mut longer = number(&cpu["stretches"]["steps"])? / ONE_IN;
    let buckets = cpu["histogram"].as_array().context("no histogram")?;
    let mut shortest = None;
    for bucket in buckets.iter().rev() {
        let count = number(&bucket["count"])?;
        // The highest has no bound; a gap of 16 s fills no percentile.
        let Some(upper) = bucket["le_ns"].as_f64() else {
            longer -= count;
            continue;
        };
        let lower = upper / BUCKET;
        if count >= longer {
            return Ok(upper - (upper - lower) * longer / count);
        }
        longer -= count;
        shortest = Some(lower);
    }
    shortest
        .context("no step was above the threshold, which is too high to tell how long steps are")
}

/// The shortest gap that a tracer tells at the least threshold that fewer than one of 10,000 steps are above, in us.
fn floor_us(long: &Long, step_ns: f64) -> Result<f64> {
    let is_quiet = |(_, sampled_ns, over): &&(u64, u64, u64)| {
        (*over as f64) * ONE_IN <= *sampled_ns as f64 / step_ns
    };
    let quiet = long.over.iter().find(is_quiet);
    let (us, ..) =
        quiet.with_context(|| format!("too many steps above each threshold: {long:?}"))?;
    // hwlat compares whole microseconds, rounded down, and takes what is above its threshold (`kernel/trace/trace_hwlat.c`).
    let beyond = u64::from(long.detector == "hwlat");
    Ok((us + beyond) as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_percentile_lies_within_the_bucket_that_reaches_it() {
        let cpu = json!({
            "stretches": {"steps": 1_000_000},
            "histogram": [
                {"index": -190, "le_ns": 100, "count": 160},
                {"index": -180, "le_ns": 200, "count": 20},
            ],
        });
        // 100 may be longer: the 20 of the last bucket, and half of those in the first.
        let lower = 100.0 / BUCKET;
        let floor = floor_ns(&cpu).expect("a percentile");
        assert!(
            (floor - f64::midpoint(100.0, lower)).abs() < 1e-9,
            "{floor}"
        );
    }

    #[test]
    fn without_enough_long_steps_it_is_below_all_of_them() {
        let cpu = json!({
            "stretches": {"steps": 1_000_000},
            "histogram": [{"index": -180, "le_ns": 200, "count": 20}],
        });
        let floor = floor_ns(&cpu).expect("a bound");
        assert!((floor - 200.0 / BUCKET).abs() < 1e-9, "{floor}");
        assert!(floor_ns(&json!({"stretches": {"steps": 5}, "histogram": []})).is_err());
    }

    #[test]
    fn steps_of_tracers_follow_from_those_of_spin() {
        let counted: Vec<String> = [("spin", 10_000), ("osnoise", 5_000), ("hwlat", 2_500)]
            .map(|(detector, steps)| {
                json!({"detector": detector, "sampled_ns": 64_000_000, "steps": steps}).to_string()
            })
            .to_vec();
        let spin = json!({
            "exposure_ns": 100_000_000,
            "stretches": {"steps": 1_000_000},
            "histogram": [{"index": -150, "le_ns": 2000, "count": 100}],
        });
        // spin's step is 100 ns, so osnoise's are 200 and hwlat's 400: 100 and 50 may be above.
        let over = [
            [1, 200_000_000, 101],
            [2, 200_000_000, 60],
            [3, 200_000_000, 50],
        ];
        let long: Vec<String> = [
            json!({"detector": "spin", "cpu": spin}),
            json!({"detector": "osnoise", "over": over}),
            json!({"detector": "hwlat", "over": over}),
        ]
        .map(|line| line.to_string())
        .to_vec();
        let text = table(&counted, &long).expect("a table").to_string();
        for row in [
            "| spin | 100 (100 to 100) | 1.00 (1.00 to 1.00) | 1.8 (1.8 to 1.8) |",
            "| osnoise | 200 (200 to 200) | 2.00 (2.00 to 2.00) | 2.0 (2.0 to 2.0) |",
            "| hwlat | 400 (400 to 400) | 4.00 (4.00 to 4.00) | 4.0 (4.0 to 4.0) |",
        ] {
            assert!(text.contains(row), "{text}");
        }
        assert!(table(&counted[1..], &long).is_err());
    }
}
