//! What one Prometheus server would need for 10,000 nodes, by what was measured of a small one.

use super::{
    super::table::{Cell, Table},
    nodes::{NODES, Node, SCRAPES_S},
    server::Prometheus,
};

const GIB: f64 = (1u64 << 30) as f64;
const DAY_S: f64 = 86_400.0;
/// Prometheus keeps this long by default (`--storage.tsdb.retention.time`).
const RETENTION_DAYS: f64 = 15.0;
const YEAR_DAYS: f64 = 365.0;
/// Samples of the newest hours stay in memory: those of half as long again as a block of 2 h.
const HEAD_S: f64 = 3.0 * 3_600.0;

/// The tables.
pub(super) fn tables(nodes: &[Node], prometheus: &Prometheus) -> [Table; 2] {
    [measured(prometheus), needed(nodes, prometheus)]
}

fn measured(prometheus: &Prometheus) -> Table {
    let mut table = Table::new(&["what", "measured", "of"])
        .captioned("What a small Prometheus takes, with classic histograms:");
    for (disk, seconds) in prometheus.disk.iter().zip(SCRAPES_S) {
        table.row([
            Cell::text(format!("bytes a sample on disk, scraped every {seconds} s")),
            Cell::number(disk.bytes as f64 / disk.samples as f64, 2),
            Cell::text(format!("{} samples", disk.samples)),
        ]);
    }
    for (what, bytes) in [
        ("heap in use, bytes a series", prometheus.memory.heap_bytes),
        (
            "resident memory, bytes a series",
            prometheus.memory.resident_bytes,
        ),
    ] {
        table.row([
            Cell::text(what),
            Cell::number(bytes as f64 / prometheus.memory.series as f64, 0),
            Cell::text(format!("{} series", prometheus.memory.series)),
        ]);
    }
    table
}

fn needed(nodes: &[Node], prometheus: &Prometheus) -> Table {
    let mut table = Table::new(&[
        "CPUs of each",
        "scraped every, s",
        "samples/s",
        "disk for 15 days, GiB",
        "disk for a year, GiB",
        "memory, GiB",
    ])
    .captioned("On paper, one server for 10,000 nodes with classic histograms:");
    for node in nodes {
        for (disk, seconds) in prometheus.disk.iter().zip(SCRAPES_S) {
            let bytes_a_sample = disk.bytes as f64 / disk.samples as f64;
            let series = NODES * node.year.series as f64;
            let samples_per_s = series / f64::from(seconds);
            let disk = |days: f64| samples_per_s * bytes_a_sample * days * DAY_S / GIB;
            let memory = &prometheus.memory;
            let heap = series * memory.heap_bytes as f64 / memory.series as f64;
            let head = samples_per_s * bytes_a_sample * HEAD_S;
            table.row([
                Cell::count(node.cpus.into()),
                Cell::count(seconds.into()),
                Cell::number(samples_per_s, 0),
                Cell::number(disk(RETENTION_DAYS), 0),
                Cell::number(disk(YEAR_DAYS), 0),
                Cell::number((heap + head) / GIB, 1),
            ]);
        }
    }
    table
}
