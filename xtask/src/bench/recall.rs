//! How many SMIs of known time and length each detector sees, at rates up to a thousand in a second.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{
    peers,
    table::{Aim, Cell, Section, Table},
};
use crate::vm;

/// What tells single gaps, or counts them: as the machine names it (`tests/src/guest/recall.rs`) and as it is called.
const OF_GAPS: [(&str, &str); 3] = [
    ("spin", "smilat spin"),
    ("osnoise", "smilat osnoise"),
    ("rtla-hwnoise", "`rtla hwnoise`"),
];

/// What tells the longest gap of each window.
const OF_WINDOWS: [(&str, &str); 2] = [("hwlat", "smilat hwlat"), ("hwlatdetect", "`hwlatdetect`")];

/// The detectors that have an aim.
const AIMS: [(&str, &str); 2] = [
    (
        "spin",
        "SMIs within exposure that `--detector spin` sees, at the worst of all rates",
    ),
    (
        "osnoise",
        "SMIs within exposure that `--detector osnoise` sees, at the worst of all rates",
    ),
];

/// One tool at one rate.
#[derive(Debug, Deserialize)]
struct Line {
    tool: String,
    /// SMIs that were to be fired.
    per_second: u64,
    length_us: u64,
    seconds: f64,
    fired: u64,
    /// Those that came while it sampled.
    inside: u64,
    /// Gaps or windows that it told one by one.
    told: Option<u64>,
    /// Gaps that it counted.
    counted: Option<u64>,
    /// Gaps that it counted, and had no room to tell.
    lost: u64,
    gaps: Option<Gaps>,
    windows: Option<Windows>,
}

/// Of SMIs that came while it sampled.
#[derive(Debug, Deserialize)]
struct Gaps {
    seen: u64,
    /// Of those seen: in one gap with another.
    shared: u64,
    missed: u64,
    /// Further ones, that came while a gap was being recorded.
    recording: u64,
    /// Gaps that no SMI explains.
    others: u64,
    others_longest_us: u64,
}

#[derive(Debug, Deserialize)]
struct Windows {
    with_smis: u64,
    seen: u64,
    /// Windows told without an SMI in them.
    others: u64,
}

impl Line {
    /// Of what was within exposure, SMIs or windows with SMIs, what it told, in percent; `None` when that cannot be known, or
    /// there was none.
    fn recall(&self) -> Option<f64> {
        let (seen, of) = match (&self.gaps, &self.windows) {
            (Some(gaps), _) => (gaps.seen, gaps.seen + gaps.missed),
            (None, Some(windows)) => (windows.seen, windows.with_smis),
            (None, None) => return None,
        };
        (of > 0).then(|| seen as f64 / of as f64 * 100.0)
    }

    fn fired_each_second(&self) -> f64 {
        self.fired as f64 / self.seconds
    }
}

/// The section.
pub(super) fn recall() -> Result<Section> {
    let lines = vm::measure(vm::Measurement::Recall)?;
    let mut section = section(&lines)?;
    section.versions = vec![peers::rtla()?, peers::installed("rt-tests")?];
    Ok(section)
}

fn section(lines: &[String]) -> Result<Section> {
    let lines: Vec<Line> = lines
        .iter()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the machine says: {line}")))
        .collect::<Result<_>>()?;
    for (tool, _) in OF_GAPS.iter().chain(&OF_WINDOWS) {
        ensure!(
            lines.iter().any(|line| line.tool == *tool),
            "the machine says nothing of {tool}"
        );
    }
    let aims = AIMS.map(|(tool, what)| Ok(Aim::at_least(what, 100.0, " %", lowest(&lines, tool)?)));
    Ok(Section {
        title: "SMIs that are seen".to_owned(),
        about: ABOUT.to_owned(),
        tables: vec![of_gaps(&lines), of_windows(&lines)],
        aims: aims.into_iter().collect::<Result<_>>()?,
        versions: Vec::new(),
    })
}

const ABOUT: &str = "\
SMIs of known length are fired at CPU 1 of an emulated machine (two CPUs, Linux 6.12 with `PREEMPT_RT`), at 1, 10, 100 and 1,000 a \
second and at random distances, while a detector watches that CPU, 36 ms of every 40 ms; one after the other in the same machine, \
all with a threshold of four fifths of the SMIs' length. The SMM handler logs each SMI; the handler's and the CPU's own counts \
agree with the number fired, or the run fails. *Within exposure* are those that found interrupts off and the CPU in the detector's \
loop or in the clock that it reads, by the state that the CPU saved. Others read that clock with interrupts off, too, and what \
records a gap does, so a few of those that count as missed may have come when nothing watched; the machine's console says of each \
where it came and how long after a gap. *Seen* are those for which a gap was told that holds half of \
them or more; *sharing a gap* are those of them that came before the CPU got to its next reading after another. *While recording* \
are SMIs, not within exposure, that came up to 2 ms after a gap, outside of the loop. *Without an SMI* are gaps \
told above the threshold that no SMI explains: the emulator's and its host's own. *Counted* is what the tool itself counts above \
its threshold, whatever made it: all that `rtla hwnoise` tells, so that there is no saying which SMIs it saw.\n\n\
hwlat and `hwlatdetect` tell the longest gap of a window; for them windows with SMIs are compared, told one from another by the SMIs \
that came between them. hwlat's own count is of the steps of its loop above the threshold. `hwlatdetect` reads ten times a second \
and keeps one record of all that there are then, which leaves out most windows of 40 ms.";

/// The lowest recall of a tool.
fn lowest(lines: &[Line], tool: &str) -> Result<f64> {
    let of = lines.iter().filter(|line| line.tool == tool);
    let recalls: Vec<f64> = of.filter_map(Line::recall).collect();
    ensure!(
        !recalls.is_empty(),
        "no SMI came while {tool} sampled: nothing can be said of it"
    );
    Ok(recalls.into_iter().fold(f64::INFINITY, f64::min))
}

/// The lines of these tools, with the names people know, by tool.
fn of<'a>(
    lines: &'a [Line],
    tools: &'a [(&str, &'a str)],
) -> impl Iterator<Item = (&'a str, &'a Line)> {
    tools.iter().flat_map(move |(tool, name)| {
        let of = lines.iter().filter(move |line| line.tool == *tool);
        of.map(move |line| (*name, line))
    })
}

/// What is not known.
fn nothing() -> Cell {
    Cell::text("-")
}

fn count(value: Option<u64>) -> Cell {
    value.map_or_else(nothing, Cell::count)
}

fn percent(value: Option<f64>) -> Cell {
    value.map_or_else(nothing, |value| Cell::number(value, 2))
}

/// What every row begins with.
fn head(name: &str, line: &Line) -> [Cell; 6] {
    [
        Cell::text(name),
        Cell::count(line.per_second),
        Cell::number(line.fired_each_second(), 1),
        Cell::count(line.length_us),
        Cell::count(line.fired),
        Cell::count(line.inside),
    ]
}

const HEAD: [&str; 6] = [
    "who",
    "SMIs/s",
    "reached",
    "length, us",
    "SMIs",
    "within exposure",
];

fn columns(own: &[&'static str]) -> Vec<&'static str> {
    HEAD.iter().chain(own).copied().collect()
}

fn of_gaps(lines: &[Line]) -> Table {
    let mut table = Table::new(&columns(&[
        "seen",
        "recall, %",
        "sharing a gap",
        "while recording",
        "without an SMI",
        "longest, us",
        "counted",
        "of them not told",
    ]))
    .captioned("Those that tell each gap:");
    for (name, line) in of(lines, &OF_GAPS) {
        let gaps = line.gaps.as_ref();
        let own = [
            count(gaps.map(|gaps| gaps.seen)),
            percent(line.recall()),
            count(gaps.map(|gaps| gaps.shared)),
            count(gaps.map(|gaps| gaps.recording)),
            count(gaps.map(|gaps| gaps.others)),
            count(gaps.map(|gaps| gaps.others_longest_us)),
            count(line.counted),
            count(line.told.map(|_| line.lost)),
        ];
        table.row(head(name, line).into_iter().chain(own));
    }
    table
}

fn of_windows(lines: &[Line]) -> Table {
    let mut table = Table::new(&columns(&[
        "windows with SMIs",
        "told",
        "recall, %",
        "without an SMI",
        "counted",
    ]))
    .captioned("Those that tell the longest gap of each window:");
    for (name, line) in of(lines, &OF_WINDOWS) {
        let windows = line.windows.as_ref();
        let own = [
            count(windows.map(|windows| windows.with_smis)),
            count(windows.map(|windows| windows.seen)),
            percent(line.recall()),
            count(windows.map(|windows| windows.others)),
            count(line.counted),
        ];
        table.row(head(name, line).into_iter().chain(own));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(tool: &str, per_second: u64, of: &str) -> String {
        format!(
            r#"{{"tool":"{tool}","per_second":{per_second},"length_us":300,"seconds":2.0,"fired":19,"inside":10,"told":12,
                "counted":14,"lost":2,{of}}}"#
        )
    }

    fn lines() -> Vec<String> {
        let gaps = |seen: u64| {
            format!(
                r#""gaps":{{"seen":{seen},"shared":1,"missed":{},"recording":3,"others":4,"others_longest_us":512}},"windows":null"#,
                10 - seen
            )
        };
        let windows = r#""gaps":null,"windows":{"with_smis":8,"seen":6,"others":5}"#;
        let counted = line("rtla-hwnoise", 10, r#""gaps":null,"windows":null"#);
        vec![
            line("spin", 10, &gaps(10)),
            line("osnoise", 10, &gaps(10)),
            line("hwlat", 10, windows),
            counted.replace("\"told\":12", "\"told\":null"),
            line("hwlatdetect", 10, windows).replace("\"counted\":14", "\"counted\":null"),
            line("spin", 1000, &gaps(9)),
        ]
    }

    #[test]
    fn the_worst_of_all_rates_is_held_against_the_aim() {
        let section = section(&lines()).expect("a section");
        let measured: Vec<f64> = section.aims.iter().map(|aim| aim.measured).collect();
        assert_eq!(measured, [90.0, 100.0]);
        let met: Vec<bool> = section.aims.iter().map(Aim::is_met).collect();
        assert_eq!(met, [false, true]);
    }

    #[test]
    fn each_tool_has_its_rows_in_the_table_of_what_it_tells() {
        let text = section(&lines()).expect("a section").to_string();
        for row in [
            "| smilat spin | 10 | 9.5 | 300 | 19 | 10 | 10 | 100.00 | 1 | 3 | 4 | 512 | 14 | 2 |\n\
             | smilat spin | 1000 | 9.5 | 300 | 19 | 10 | 9 | 90.00 | 1 | 3 | 4 | 512 | 14 | 2 |",
            "| `rtla hwnoise` | 10 | 9.5 | 300 | 19 | 10 | - | - | - | - | - | - | 14 | - |",
            "| smilat hwlat | 10 | 9.5 | 300 | 19 | 10 | 8 | 6 | 75.00 | 5 | 14 |",
            "| `hwlatdetect` | 10 | 9.5 | 300 | 19 | 10 | 8 | 6 | 75.00 | 5 | - |",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_missing_is_an_error() {
        let lines = lines();
        assert!(section(&lines[1..5]).is_err(), "nothing of spin");
        assert!(section(&["spin".to_owned()]).is_err());
        let unseen = line(
            "spin",
            1,
            r#""gaps":{"seen":0,"shared":0,"missed":0,"recording":0,"others":0,"others_longest_us":0},"windows":null"#,
        );
        let mut none: Vec<String> = lines[1..5].to_vec();
        none.push(unseen);
        let error = section(&none).expect_err("no SMI within exposure");
        assert!(error.to_string().contains("spin"), "{error}");
    }
}
