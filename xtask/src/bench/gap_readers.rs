//! What a gap of the osnoise tracer costs under each of those who read them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::table::{Aim, Cell, Table, median, ratios};
use crate::vm;

/// What the slow machine's clock counts for an instruction (`-icount shift=6`).
pub(super) const NS_OF_INSTRUCTION: f64 = 64.0;

/// What smilat itself takes in a second is divided by as many gaps: it does not depend on their number.
const GAPS_PER_S: f64 = 100_000.0;

/// smilat with a tenth of the gaps, which shows that.
const FEW: &str = "smilat-few";

/// Those who read, as the machine names them (`tests/src/guest/gap_readers.rs`), the first of them nobody.
const READERS: [(&str, &str); 5] = [
    ("nobody", "nobody"),
    ("smilat-no-counter", "`smilat run --counter none`"),
    ("smilat", "`smilat run`, which reads the counter of SMIs"),
    ("perf", "`perf record`"),
    ("trace_pipe", "`cat trace_pipe > /dev/null`"),
];

/// One round of one reader, as the machine tells it.
#[derive(Debug, Deserialize)]
struct Told {
    reader: String,
    /// Gaps that the tracer says it made.
    gaps: u64,
    /// Time that it sampled meanwhile.
    sampled_ns: u64,
    /// CPU time of the reader's processes.
    own_ns: u64,
    /// For how long that was measured, where it depends on the time rather than the gaps.
    lasted_ns: Option<u64>,
    /// Gaps that the reader saw.
    seen: u64,
}

impl Told {
    /// Instructions of a step of the tracer's loop, with what recording takes.
    fn step(&self) -> f64 {
        self.sampled_ns as f64 / NS_OF_INSTRUCTION / self.gaps as f64
    }

    /// Instructions of the reader's processes in a second.
    fn own_per_s(&self) -> Option<f64> {
        let lasted_s = self.lasted_ns? as f64 / 1e9;
        Some(self.own_ns as f64 / NS_OF_INSTRUCTION / lasted_s)
    }

    /// Instructions of the reader's processes for each gap.
    fn own(&self) -> f64 {
        match self.own_per_s() {
            Some(per_s) => per_s / GAPS_PER_S,
            None => self.own_ns as f64 / NS_OF_INSTRUCTION / self.gaps as f64,
        }
    }

    /// Gaps that the reader did not see, or saw and there were none of.
    fn lost(&self) -> u64 {
        self.gaps.abs_diff(self.seen)
    }
}

/// What was measured of a reader, by round.
struct Reader {
    step: Vec<f64>,
    added: Vec<f64>,
    own: Vec<f64>,
    whole: Vec<f64>,
    gaps: u64,
    lost: u64,
}

impl Reader {
    fn of(told: &[Told], bare: &[Told]) -> Self {
        let step: Vec<f64> = told.iter().map(Told::step).collect();
        let added: Vec<f64> = step
            .iter()
            .zip(bare)
            .map(|(step, bare)| step - bare.step())
            .collect();
        let own: Vec<f64> = told.iter().map(Told::own).collect();
        Self {
            whole: added
                .iter()
                .zip(&own)
                .map(|(added, own)| added + own)
                .collect(),
            step,
            added,
            own,
            gaps: told.iter().map(|round| round.gaps).sum(),
            lost: told.iter().map(Told::lost).sum(),
        }
    }
}

/// The tables and what they say of the aims.
pub(super) fn readers() -> Result<(Vec<Table>, Vec<Aim>)> {
    tables(&vm::measure(vm::Measurement::GapReaders)?)
}

fn tables(lines: &[String]) -> Result<(Vec<Table>, Vec<Aim>)> {
    let mut rounds: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for line in lines {
        let told: Told =
            serde_json::from_str(line).with_context(|| format!("the machine says: {line}"))?;
        ensure!(told.gaps > 0, "the machine made no gaps: {line}");
        rounds.entry(told.reader.clone()).or_default().push(told);
    }
    let of = |reader: &str| {
        let of = rounds.get(reader);
        of.with_context(|| format!("the machine says nothing of {reader}"))
    };
    let bare = of(READERS[0].0)?;
    let mut measured = BTreeMap::new();
    for (reader, _) in READERS {
        let told = of(reader)?;
        ensure!(
            told.len() == bare.len(),
            "{reader} has {} rounds of {}",
            told.len(),
            bare.len()
        );
        measured.insert(reader, Reader::of(told, bare));
    }
    let text = &measured["trace_pipe"];
    let mut table = Table::new(&[
        "who reads",
        "instructions of a step",
        "added",
        "its own",
        "added and its own",
        "to trace_pipe's",
        "lost",
        "of gaps",
    ])
    .captioned(&format!(
        "Each gap of osnoise, in instructions, {} rounds in turn:",
        bare.len()
    ));
    for (reader, name) in READERS {
        let one = &measured[reader];
        table.row([
            Cell::text(name),
            Cell::rounds(&one.step, 0),
            Cell::rounds(&one.added, 0),
            Cell::rounds(&one.own, 0),
            Cell::rounds(&one.whole, 0),
            Cell::rounds(&ratios(&one.whole, &text.whole), 3),
            Cell::count(one.lost),
            Cell::count(one.gaps),
        ]);
    }
    let aims = [
        ("smilat-no-counter", "causes but SMIs"),
        ("smilat", "all causes"),
    ]
    .map(|(reader, causes)| {
        Aim::at_most(
            &format!(
                "what a gap costs, added and smilat's own, {causes} read, to reading it as text from trace_pipe"
            ),
            0.1,
            " times",
            median(&ratios(&measured[reader].whole, &text.whole)),
        )
    })
    .to_vec();
    let mut own = Table::new(&[
        "gaps in a round",
        "instructions of smilat's own process in a second",
    ])
    .captioned("What smilat itself takes, with many gaps and with a tenth of them:");
    for told in [of("smilat-no-counter")?, of(FEW)?] {
        let gaps: Vec<f64> = told.iter().map(|round| round.gaps as f64).collect();
        let per_s: Vec<f64> = told.iter().filter_map(Told::own_per_s).collect();
        ensure!(
            per_s.len() == gaps.len(),
            "the machine does not say how long it watched: {told:?}"
        );
        own.row([Cell::rounds(&gaps, 0), Cell::rounds(&per_s, 0)]);
    }
    Ok((vec![table, own], aims))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rounds of everyone: steps of 100 instructions and what is told here.
    fn lines() -> Vec<String> {
        let mut lines = Vec::new();
        for (reader, added, own, seen) in [
            ("nobody", 0, 0, 1000),
            ("smilat", 300, 100, 1000),
            ("smilat-no-counter", 200, 100, 1000),
            ("smilat-few", 200, 100, 1000),
            ("perf", 900, 1100, 990),
            ("trace_pipe", 1000, 7000, 1000),
        ] {
            for _ in 0..2 {
                let ns = |instructions: u64| instructions * 1000 * 64;
                // A thousandth of a second, so that there are 100 gaps for what smilat takes.
                let lasted = if reader.starts_with("smilat") {
                    "1000000"
                } else {
                    "null"
                };
                lines.push(format!(
                    r#"{{"reader": "{reader}", "gaps": 1000, "sampled_ns": {}, "own_ns": {}, "lasted_ns": {lasted}, "seen": {seen}}}"#,
                    ns(100 + added),
                    ns(own)
                ));
            }
        }
        lines
    }

    #[test]
    fn readers_are_compared_round_by_round() {
        let (tables, aims) = tables(&lines()).expect("tables");
        let text = tables[0].to_string();
        for row in [
            "| nobody | 100 (100 to 100) | 0 (0 to 0) | 0 (0 to 0) | 0 (0 to 0) | 0.000 (0.000 to 0.000) | 0 | 2000 |",
            "| `perf record` | 1000 (1000 to 1000) | 900 (900 to 900) | 1100 (1100 to 1100) | 2000 (2000 to 2000) \
             | 0.250 (0.250 to 0.250) | 20 | 2000 |",
        ] {
            assert!(text.contains(row), "{text}");
        }
        // 200 and 300 added, 1000 of its own for each of 100 gaps, of 8000.
        for (aim, whole) in aims.iter().zip([1200.0, 1300.0]) {
            assert!((aim.measured - whole / 8000.0).abs() < 1e-9, "{aims:?}");
        }
        assert_eq!(aims.len(), 2);
        let own = tables[1].to_string();
        let row = "| 1000 (1000 to 1000) | 100000000 (100000000 to 100000000) |";
        assert_eq!(own.matches(row).count(), 2, "{own}");
    }

    #[test]
    fn what_is_missing_is_told() {
        let all = lines();
        assert!(tables(&all[1..]).is_err(), "a round");
        assert!(tables(&all[2..]).is_err(), "a reader");
        assert!(tables(&["smilat 1 2".to_owned()]).is_err());
    }
}
