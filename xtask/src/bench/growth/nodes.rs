//! One node's page for Prometheus, and those of 10,000.

use anyhow::Result;
use serde::Deserialize;

use super::{
    super::table::{Cell, Table},
    Recorded, told,
};

/// Nodes that are counted together.
pub(super) const NODES: f64 = 10_000.0;
/// Seconds between two scrapes.
pub(super) const SCRAPES_S: [u32; 2] = [15, 60];

/// Snapshots of a year, and seconds between them.
const YEAR: (u64, u64) = (365 * 1_440, 60);

/// What `grown pages` prints of a number of CPUs.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Size {
    pub(super) series: u64,
    pub(super) native_series: u64,
    text: u64,
    text_packed: u64,
    protobuf: u64,
    protobuf_packed: u64,
}

/// The page of a node with so many CPUs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) cpus: u32,
    start: Size,
    pub(super) year: Size,
}

/// Measures them.
pub(super) fn nodes(recorded: &Recorded) -> Result<Vec<Node>> {
    let (snapshots, seconds) = YEAR;
    let start: Vec<(u32, Size)> = told(&mut recorded.grown("pages", 1, seconds))?;
    let year: Vec<(u32, Size)> = told(&mut recorded.grown("pages", snapshots, seconds))?;
    let both = start.into_iter().zip(year);
    Ok(both
        .map(|((cpus, start), (_, year))| Node { cpus, start, year })
        .collect())
}

/// What the tables say of one way to take histograms.
type Way = (&'static str, fn(&Size) -> u64, fn(&Size) -> u64);

const WAYS: [Way; 2] = [
    ("classic", |size| size.series, |size| size.text_packed),
    (
        "native",
        |size| size.native_series,
        |size| size.protobuf_packed,
    ),
];

/// The tables of them.
pub(super) fn tables(nodes: &[Node]) -> [Table; 2] {
    [pages(nodes), many(nodes)]
}

fn pages(nodes: &[Node]) -> Table {
    let mut table = Table::new(&[
        "CPUs",
        "when",
        "series, classic histograms",
        "series, native histograms",
        "OpenMetrics, bytes",
        "compressed",
        "protobuf, bytes",
        "compressed",
    ])
    .captioned("One node's page for Prometheus:");
    for node in nodes {
        for (when, size) in [("at the start", node.start), ("after a year", node.year)] {
            let counts = [
                size.series,
                size.native_series,
                size.text,
                size.text_packed,
                size.protobuf,
                size.protobuf_packed,
            ];
            let cells = [Cell::count(node.cpus.into()), Cell::text(when)];
            table.row(cells.into_iter().chain(counts.map(Cell::count)));
        }
    }
    table
}

fn many(nodes: &[Node]) -> Table {
    let mut table = Table::new(&[
        "CPUs of each",
        "histograms",
        "series, million",
        "MB a round of scrapes",
        "samples/s, scraped every 15 s",
        "every 60 s",
    ])
    .captioned("10,000 nodes, after a year:");
    for node in nodes {
        for (name, series, bytes) in WAYS {
            let all = NODES * series(&node.year) as f64;
            let samples = SCRAPES_S.map(|seconds| Cell::number(all / f64::from(seconds), 0));
            let cells = [
                Cell::count(node.cpus.into()),
                Cell::text(name),
                Cell::number(all / 1e6, 2),
                Cell::number(NODES * bytes(&node.year) as f64 / 1e6, 1),
            ];
            table.row(cells.into_iter().chain(samples));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_nodes_have_ten_thousand_times_as_much() {
        let size = Size {
            series: 120,
            native_series: 93,
            text: 20_000,
            text_packed: 2_000,
            protobuf: 10_000,
            protobuf_packed: 1_500,
        };
        let node = Node {
            cpus: 2,
            start: size,
            year: size,
        };
        let [pages, many] = tables(&[node]);
        assert_eq!(pages.rows.len(), 2);
        let text: Vec<String> = many.rows[0].iter().map(Cell::to_string).collect();
        assert_eq!(text, ["2", "classic", "1.20", "20.0", "80000", "20000"]);
    }
}
