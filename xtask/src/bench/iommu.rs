//! What a map or unmap costs under `smilat iommu`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::table::{Cell, Section, Table};
use crate::vm;

/// What the emulated CPU's clock counts for an instruction (`-icount shift=2`).
const NS_OF_INSTRUCTION: f64 = 4.0;

/// Those who watch, as the machine names them (`tests/src/guest/iommu_cost.rs`), the first of them nobody.
const WATCHERS: [(&str, &str); 5] = [
    ("nobody", "nobody"),
    ("smilat", "`smilat iommu`"),
    (
        "smilat-counting",
        "`smilat iommu --track 0 --time-one-in 0 --resched-limit 0`",
    ),
    ("trace_pipe", "`cat trace_pipe > /dev/null`"),
    ("trace-cmd", "`trace-cmd record`"),
];

/// One round of one watcher.
struct Round {
    /// Instructions that the mapping thread took for each event.
    mapper: f64,
    /// Instructions that the watcher's own processes took for each event.
    watcher: f64,
    events: u64,
    lost: u64,
}

impl Round {
    /// Of the line `WATCHER EVENTS MAPPER-NS WATCHER-NS LOST`.
    fn parse(line: &str) -> Option<(&str, Self)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [watcher, events, mapper_ns, watcher_ns, lost] = words[..] else {
            return None;
        };
        let events: u64 = events.parse().ok()?;
        let for_each = |ns: &str| {
            let ns: f64 = ns.parse().ok()?;
            Some(ns / NS_OF_INSTRUCTION / events as f64)
        };
        Some((
            watcher,
            Self {
                mapper: for_each(mapper_ns)?,
                watcher: for_each(watcher_ns)?,
                events,
                lost: lost.parse().ok()?,
            },
        ))
    }
}

/// The section.
pub(super) fn iommu() -> Result<Section> {
    section(&vm::measure(vm::Measurement::Iommu)?)
}

fn section(lines: &[String]) -> Result<Section> {
    let mut rounds: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
    for line in lines {
        let (watcher, round) =
            Round::parse(line).with_context(|| format!("the machine says: {line}"))?;
        rounds.entry(watcher).or_default().push(round);
    }
    let of = |watcher: &str| {
        let of = rounds.get(watcher);
        of.with_context(|| format!("the machine says nothing of {watcher}"))
    };
    let bare = of(WATCHERS[0].0)?;
    let mut table = Table::new(&[
        "who watches",
        "instructions of an event",
        "added",
        "its own",
        "share of the CPU, %",
        "lost",
        "of events",
    ]);
    for (watcher, name) in WATCHERS {
        let of = of(watcher)?;
        ensure!(
            of.len() == bare.len(),
            "{watcher} has {} rounds of {}",
            of.len(),
            bare.len()
        );
        let mapper: Vec<f64> = of.iter().map(|round| round.mapper).collect();
        let pairs = of.iter().zip(bare);
        let added: Vec<f64> = pairs
            .map(|(round, bare)| round.mapper - bare.mapper)
            .collect();
        let pairs = of.iter().zip(bare);
        let share: Vec<f64> = pairs
            .map(|(round, bare)| {
                let all = round.mapper + round.watcher;
                (all - bare.mapper) / all * 100.0
            })
            .collect();
        let own: Vec<f64> = of.iter().map(|round| round.watcher).collect();
        table.row([
            Cell::text(name),
            Cell::rounds(&mapper, 0),
            Cell::rounds(&added, 0),
            Cell::rounds(&own, 0),
            Cell::rounds(&share, 0),
            Cell::count(of.iter().map(|round| round.lost).sum()),
            Cell::count(of.iter().map(|round| round.events).sum()),
        ]);
    }
    Ok(Section {
        title: "What a map or unmap costs".to_owned(),
        about: format!(
            "A module in a virtual machine maps a page and unmaps it, {} events a round, {} rounds in turn, while each of these \
             watches all maps and unmaps. The emulated CPU counts instructions and nothing else: no cache misses, and the IOMMU \
             itself takes no time. Added: to those of nobody in the same round. Its own: what the watcher's processes took for \
             each event from then until they had ended; smilat's do not depend on the number of events. Share: what was added and \
             its own, of all that the CPU did, at the highest rate that it reaches so. An instruction is {NS_OF_INSTRUCTION} ns of \
             the machine's clock.",
            bare.first().map_or(0, |round| round.events),
            bare.len(),
        ),
        tables: vec![table],
        aims: Vec::new(),
        versions: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_compares_round_by_round() {
        let lines: Vec<String> = WATCHERS
            .iter()
            .flat_map(|(watcher, _)| {
                let extra = if *watcher == "smilat" { 400 } else { 0 };
                [1000, 3000, 2000].map(|ns| format!("{watcher} 10 {} 80 1", ns + extra))
            })
            .collect();
        let text = section(&lines).expect("a section").to_string();
        assert!(text.contains("10 events a round, 3 rounds"), "{text}");
        assert!(
            text.contains(
                "| nobody | 50 (25 to 75) | 0 (0 to 0) | 2 (2 to 2) | 4 (3 to 7) | 3 | 30 |"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "| `smilat iommu` | 60 (35 to 85) | 10 (10 to 10) | 2 (2 to 2) | 19 (14 to 32) | 3 | 30 |"
            ),
            "{text}"
        );
        assert!(section(&lines[1..]).is_err(), "a round is missing");
        assert!(section(&["smilat 1 2".to_owned()]).is_err());
    }
}
