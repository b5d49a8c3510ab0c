//! What a busy machine loses to each of those who look for gaps, all set alike, in a virtual machine that has them all.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{
    super::table::{Cell, Table, ratios},
    reports::Served,
    slowdowns,
};
use crate::vm;

/// Those who watch, as the machine names them (`tests/src/guest/workload.rs`), the first of them nobody.
const WATCHERS: [(&str, &str); 6] = [
    ("nobody", "nobody"),
    ("spin", "smilat, `spin`"),
    ("osnoise", "smilat, `osnoise`"),
    ("hwnoise", "`rtla hwnoise`"),
    (
        "hwlatdetect",
        "`hwlatdetect`, one CPU after the other as it comes",
    ),
    (
        "hwlatdetect-per-cpu",
        "`hwlatdetect`, `hwlat_detector/mode` set to per-cpu before",
    ),
];

/// One run.
#[derive(Debug, Deserialize)]
struct Line {
    watcher: String,
    width_ms: u64,
    window_ms: u64,
    /// Share of its time that a CPU was sampled.
    sampled: f64,
    /// What redis-benchmark said.
    redis: String,
}

/// Has the machine measure; the table.
pub(super) fn table() -> Result<Table> {
    of_lines(&vm::measure(vm::Measurement::Workload)?)
}

fn of_lines(lines: &[String]) -> Result<Table> {
    let lines: Vec<Line> = lines
        .iter()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the machine says: {line}")))
        .collect::<Result<_>>()?;
    let mut table = Table::new(&[
        "width / window",
        "who watches",
        "sampled, % of each CPU",
        "requests/s",
        "to nobody's",
        "slowdown, %",
        "for each % sampled",
        "p99 ms",
        "p99.9 ms",
        "longest ms",
    ]);
    let mut settings: Vec<(u64, u64)> = Vec::new();
    for line in &lines {
        let setting = (line.width_ms, line.window_ms);
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }
    for (width_ms, window_ms) in settings {
        let of = |watcher: &str| -> Result<(Vec<f64>, Vec<Served>)> {
            let of = lines.iter().filter(|line| {
                (line.width_ms, line.window_ms) == (width_ms, window_ms) && line.watcher == watcher
            });
            of.map(|line| Ok((line.sampled * 100.0, Served::parse(&line.redis)?)))
                .collect()
        };
        let (_, bare) = of(WATCHERS[0].0)?;
        let bare_rates: Vec<f64> = bare.iter().map(|served| served.rate).collect();
        for (watcher, name) in WATCHERS {
            let (sampled, served) = of(watcher)?;
            ensure!(
                !bare.is_empty() && served.len() == bare.len(),
                "the machine tells {} runs of {watcher} at {width_ms} ms, and {} of {}",
                served.len(),
                bare.len(),
                WATCHERS[0].0
            );
            let each = |value: fn(&Served) -> f64| served.iter().map(value).collect::<Vec<f64>>();
            let rates = each(|served| served.rate);
            let to_bare = ratios(&rates, &bare_rates);
            let slowdowns = slowdowns(&to_bare);
            let mut row = vec![
                Cell::text(format!("{width_ms} ms / {window_ms} ms")),
                Cell::text(name),
            ];
            if watcher == WATCHERS[0].0 {
                row.extend([Cell::text("-"), Cell::rounds(&rates, 0)]);
                row.extend([Cell::text("1"), Cell::text("-"), Cell::text("-")]);
            } else {
                row.extend([
                    Cell::rounds(&sampled, 1),
                    Cell::rounds(&rates, 0),
                    Cell::rounds(&to_bare, 2),
                    Cell::rounds(&slowdowns, 0),
                    Cell::rounds(&ratios(&slowdowns, &sampled), 2),
                ]);
            }
            row.extend([
                Cell::rounds(&each(|served| served.p99_ms), 1),
                Cell::rounds(&each(|served| served.p99_9_ms), 1),
                Cell::rounds(&each(|served| served.max_ms), 1),
            ]);
            table.row(row);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(watcher: &str, rate: f64) -> String {
        let redis = format!(
            "99.902% <= 7.5 milliseconds (cumulative count 9)\n\
             throughput summary: {rate} requests per second\n\
             avg min p50 p95 p99 max\n1 2 3 4 5 6\n"
        );
        serde_json::json!({
            "watcher": watcher, "width_ms": 10, "window_ms": 100, "sampled": 0.08, "redis": redis,
        })
        .to_string()
    }

    #[test]
    fn each_is_compared_with_nobody_in_the_same_round() {
        let rounds = [1000.0, 2000.0, 1500.0];
        let lines: Vec<String> = rounds
            .iter()
            .flat_map(|rate| {
                WATCHERS.map(|(watcher, _)| {
                    let share = if watcher == "hwnoise" { 0.9 } else { 1.0 };
                    line(watcher, rate * share)
                })
            })
            .collect();
        let text = of_lines(&lines).expect("a table").to_string();
        assert!(
            text.contains("| 10 ms / 100 ms | nobody | - | 1500 (1000 to 2000) | 1 | - | - | 5.0"),
            "{text}"
        );
        assert!(
            text.contains(
                "| `rtla hwnoise` | 8.0 (8.0 to 8.0) | 1350 (900 to 1800) | 0.90 (0.90 to 0.90) \
                 | 10 (10 to 10) | 1.25 (1.25 to 1.25) | 5.0 (5.0 to 5.0) | 7.5"
            ),
            "{text}"
        );
        assert!(of_lines(&lines[1..]).is_err(), "nobody lacks a round");
        assert!(of_lines(&["smilat".to_owned()]).is_err());
    }
}
