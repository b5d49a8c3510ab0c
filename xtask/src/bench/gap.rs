//! What a gap costs within the kernel, and under each of those who read gaps.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{
    gap_readers,
    table::{Aim, Cell, Section, Table, median},
};
use crate::{ebpf, sh, vm};

/// The rate that the project's aims are about.
const AIMED_PER_S: u64 = 100_000;

/// What `gap_cost` says.
#[derive(Debug, Deserialize)]
struct Told {
    costs: Vec<Cost>,
    losses: Vec<Loss>,
}

/// One program with one set of causes at one rate.
#[derive(Debug, Deserialize)]
struct Cost {
    /// `nothing`, `osnoise` or `spin`.
    point: String,
    causes: String,
    per_s: u64,
    /// ns a gap, by round.
    ns: Vec<f64>,
}

/// What became of all gaps that were made.
#[derive(Debug, Deserialize)]
struct Loss {
    what: String,
    made: u64,
    counted: u64,
    sent: u64,
    limited: u64,
    lost: u64,
    /// Single gaps that arrived in user space.
    fetched: u64,
}

impl Loss {
    /// Gaps that are missing in what is counted or in what became of their records, and records that never arrived.
    fn missing(&self) -> u64 {
        let told = self.sent + self.limited;
        self.made.abs_diff(self.counted) + self.made.abs_diff(told) + self.sent - self.fetched
    }
}

/// The section.
pub(super) fn gap() -> Result<Section> {
    ebpf::build()?;
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests"]))?;
    let told = sh::read(
        Command::new(sh::root().join("target/release/gap_cost"))
            .env("SMILAT_TEST_BPF", ebpf::test_object()),
    )?;
    let mut section = host(&told)?;
    let (tables, aims) = gap_readers::readers()?;
    section.tables.extend(tables);
    section.aims.extend(aims);
    section
        .versions
        .push(format!("linux-perf {}", vm::perf_version()?));
    Ok(section)
}

fn host(told: &str) -> Result<Section> {
    let told: Told =
        serde_json::from_str(told).with_context(|| format!("gap_cost says: {told}"))?;
    for loss in &told.losses {
        ensure!(
            loss.fetched <= loss.sent,
            "more single gaps arrived than were sent: {loss:?}"
        );
    }
    Ok(Section {
        title: "What a gap costs".to_owned(),
        about: ABOUT.to_owned(),
        tables: vec![costs(&told.costs)?, losses(&told.losses)],
        aims: aims(&told)?,
        versions: Vec::new(),
    })
}

const ABOUT: &str = "First, nanoseconds within the kernel on this machine. Programs with spin's own code and with the code that \
    records osnoise's gaps make gaps by waiting between two readings of the clock; told is the time for which they did not watch, \
    from the reading that ended the gap to the one from which they go on. For spin that takes in reading the sources of causes a \
    second time. Gaps come at fixed rates, medians of 9 rounds (at 1 a second, of one gap each) in turn; at 1 a second, most of what \
    recording needs is no longer in the caches. hwlat's program, run at a breakpoint once for each window, cannot be tested like \
    that. On a virtual machine reading MSR 0x34 leaves for the hypervisor. *A run of its own*: the shipped program that records \
    osnoise's gaps, run by the kernel's means for testing, one gap a run, by the kernel's own count of the time its programs take \
    (BPF_STATS_RUN_TIME). That count adds two readings of the clock, and each run is a system call, which for osnoise's own thread it \
    is not: where the hypervisor keeps tables of pages of its own (nested virtual machines), the kernel's memory is out of the CPU's \
    reach after each. The program that does nothing shows how much that is; nothing is taken off the others.\n\n\
    Then what became of all gaps of 5 s at 100,000 a second, single gaps limited to 100 a second as they are unless told otherwise.\n\n\
    Last, beside those who read osnoise's event `sample_threshold` in other ways, in a virtual machine with one CPU. It counts \
    instructions and nothing else: no cache misses, no branches missed. Each instruction takes 64 ns of its clock, so that each \
    step of the tracer's loop is above the tracer's least threshold of 1 us: all are gaps. What recording one takes is part of the \
    step after it; so the instructions of a window, divided by the gaps that the tracer itself says were in it, are those of a step \
    and its recording. Added: to nobody's in the same round. Its own: what the reader's processes took from the first gap until \
    they had ended, divided by the gaps; for smilat, what they took in a second, with a report and 100 single gaps at most, divided by \
    100,000: it does not grow with the gaps, as the table after that shows, and this slow machine makes fewer of them in a second. \
    `busybox cat` is the cheapest reader of text there can be: hwlatdetect and others \
    also have to understand it. perf with its own settings; lost is what it did not have room for.";

/// One row for each attach point and set of causes, one column for each rate.
fn costs(costs: &[Cost]) -> Result<Table> {
    let mut rates: Vec<u64> = costs.iter().map(|cost| cost.per_s).collect();
    rates.sort_unstable();
    rates.dedup();
    let mut columns = vec![
        "attach point".to_owned(),
        "what is read for the cause".to_owned(),
    ];
    columns.extend(
        rates
            .iter()
            .map(|rate| format!("ns, {} gaps/s", thousands(*rate))),
    );
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&columns);
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for cost in costs {
        let row = (cost.point.as_str(), cost.causes.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    // By attach point, in the order in which they are told.
    rows.sort_by_key(|(point, _)| costs.iter().position(|cost| cost.point == *point));
    for (point, causes) in rows {
        let name = match point {
            "nothing" => "a program that does nothing",
            point => point,
        };
        let mut cells = vec![Cell::text(name), Cell::text(causes)];
        for rate in &rates {
            cells.push(Cell::rounds(&find(costs, point, causes, *rate)?.ns, 0));
        }
        table.row(cells);
    }
    Ok(table)
}

fn find<'a>(costs: &'a [Cost], point: &str, causes: &str, per_s: u64) -> Result<&'a Cost> {
    costs
        .iter()
        .find(|cost| {
            (cost.point.as_str(), cost.causes.as_str(), cost.per_s) == (point, causes, per_s)
        })
        .filter(|cost| !cost.ns.is_empty())
        .with_context(|| format!("gap_cost says nothing of {point}, {causes}, {per_s} gaps/s"))
}

fn losses(losses: &[Loss]) -> Table {
    let mut table = Table::new(&[
        "gaps recorded by",
        "made",
        "counted",
        "single gaps sent",
        "kept back by the limit",
        "lost",
        "arrived",
    ]);
    for loss in losses {
        let counts = [
            loss.made,
            loss.counted,
            loss.sent,
            loss.limited,
            loss.lost,
            loss.fetched,
        ];
        let cells = counts.into_iter().map(Cell::count);
        table.row([Cell::text(&loss.what)].into_iter().chain(cells));
    }
    table
}

fn aims(told: &Told) -> Result<Vec<Aim>> {
    let limit_ns = 250.0;
    let rate = thousands(AIMED_PER_S);
    let mut aims = Vec::new();
    for point in ["spin", "osnoise"] {
        let dearest = told
            .costs
            .iter()
            .filter(|cost| cost.per_s == AIMED_PER_S && cost.point == point)
            .max_by(|a, b| median(&a.ns).total_cmp(&median(&b.ns)))
            .with_context(|| format!("gap_cost says nothing of {point} at {rate} gaps/s"))?;
        aims.push(Aim::at_most(
            &format!(
                "recording a gap of {point}'s within the kernel, {} read, {rate} gaps/s",
                dearest.causes
            ),
            limit_ns,
            " ns",
            median(&dearest.ns),
        ));
    }
    let missing: u64 = told.losses.iter().map(Loss::missing).sum();
    aims.push(Aim::at_most(
        &format!("gaps lost at {rate} gaps/s"),
        0.0,
        "",
        missing as f64,
    ));
    Ok(aims)
}

/// A whole number as people write it.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"{
        "costs": [
            {"point": "nothing", "causes": "", "per_s": 100000, "ns": [20, 30, 25]},
            {"point": "osnoise", "causes": "NMIs", "per_s": 100000, "ns": [100]},
            {"point": "spin", "causes": "NMIs", "per_s": 100000, "ns": [300]},
            {"point": "osnoise", "causes": "NMIs and steal", "per_s": 100000, "ns": [120]},
            {"point": "nothing", "causes": "", "per_s": 1, "ns": [50]},
            {"point": "osnoise", "causes": "NMIs", "per_s": 1, "ns": [900]},
            {"point": "spin", "causes": "NMIs", "per_s": 1, "ns": [1500]},
            {"point": "osnoise", "causes": "NMIs and steal", "per_s": 1, "ns": [950]}
        ],
        "losses": [
            {"what": "it", "made": 1000, "counted": 1000, "sent": 10, "limited": 988, "lost": 2, "fetched": 9}
        ]
    }"#;

    #[test]
    fn attach_points_are_rows_and_rates_are_columns() {
        let section = host(TOLD).expect("a section");
        assert_eq!(
            section.tables[0].to_string(),
            "| attach point | what is read for the cause | ns, 1 gaps/s | ns, 100,000 gaps/s |\n\
             | --- | --- | --- | --- |\n\
             | a program that does nothing |  | 50 (50 to 50) | 25 (20 to 30) |\n\
             | osnoise | NMIs | 900 (900 to 900) | 100 (100 to 100) |\n\
             | osnoise | NMIs and steal | 950 (950 to 950) | 120 (120 to 120) |\n\
             | spin | NMIs | 1500 (1500 to 1500) | 300 (300 to 300) |\n"
        );
    }

    #[test]
    fn aims_are_about_the_highest_rate() {
        let measured: Vec<f64> = host(TOLD)
            .expect("a section")
            .aims
            .iter()
            .map(|aim| aim.measured)
            .collect();
        assert_eq!(measured, [300.0, 120.0, 3.0]);
    }

    #[test]
    fn what_is_missing_is_told() {
        assert!(
            host(&TOLD.replace(r#""per_s": 1, "ns": [900]"#, r#""per_s": 1, "ns": []"#)).is_err()
        );
        assert!(host(&TOLD.replace(r#""fetched": 9"#, r#""fetched": 11"#)).is_err());
    }

    #[test]
    fn long_numbers_have_commas() {
        for (number, text) in [
            (1, "1"),
            (1_000, "1,000"),
            (100_000, "100,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }
}
