//! Reports of a day, a month and a year, and the room that recordings take.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{
    super::{
        table::{Aim, Cell, Table, median, ratios},
        usage::{self, Usage},
    },
    Recorded, told,
};

/// Seconds between the snapshots of a long recording.
const INTERVAL_S: u64 = 60;
const SNAPSHOTS_A_DAY: u64 = 86_400 / INTERVAL_S;
/// Days of each recording, and its name.
const LENGTHS: [(&str, u64); 3] = [("a day", 1), ("a month of 30 days", 30), ("a year", 365)];
/// Days of the recording that is compressed, which takes far longer than to read one.
const PACKED_DAYS: u64 = 7;
/// Rounds; the lengths take turns in each.
const ROUNDS: usize = 3;

/// How much more a year may take than a shorter time.
const FLAT: f64 = 1.5;

/// Defaults of `smilat run`, in bytes and files.
const ROTATE_BYTES: u64 = 64 << 20;
const ROTATE_KEEP: u64 = 10;

/// What `grown packed` prints.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Packed {
    bytes: u64,
    packed_bytes: u64,
}

/// The tables, and what they are held against.
pub(super) fn recordings(smilat: &Path, recorded: &Recorded) -> Result<(Vec<Table>, Vec<Aim>)> {
    let mut rounds = LENGTHS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, days), rounds) in LENGTHS.iter().zip(&mut rounds) {
            rounds.push(report(smilat, recorded, days * SNAPSHOTS_A_DAY)?);
        }
    }
    let (table, aims) = reports(&rounds);
    let packed: Packed =
        told(&mut recorded.grown("packed", PACKED_DAYS * SNAPSHOTS_A_DAY, INTERVAL_S))?;
    Ok((vec![table, room(packed)], aims))
}

/// What `smilat report` takes for a recording of so many snapshots.
fn report(smilat: &Path, recorded: &Recorded, snapshots: u64) -> Result<Usage> {
    let mut writer = recorded
        .grown("recording", snapshots, INTERVAL_S)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run grown")?;
    let lines = writer.stdout.take().context("the output is not piped")?;
    let usage = usage::of(
        Command::new(smilat)
            .args(["report", "--json", "-"])
            .stdin(lines)
            .stdout(Stdio::null()),
    );
    ensure!(writer.wait()?.success() || usage.is_err(), "grown failed");
    usage
}

fn reports(rounds: &[Vec<Usage>; LENGTHS.len()]) -> (Table, Vec<Aim>) {
    let us: Vec<Vec<f64>> = LENGTHS
        .iter()
        .zip(rounds)
        .map(|((_, days), rounds)| {
            let snapshots = (days * SNAPSHOTS_A_DAY) as f64;
            let us = |usage: &Usage| usage.cpu.as_secs_f64() * 1e6 / snapshots;
            rounds.iter().map(us).collect()
        })
        .collect();
    let mib: Vec<Vec<f64>> = rounds
        .iter()
        .map(|rounds| rounds.iter().map(|usage| mib(usage.peak_bytes)).collect())
        .collect();
    let mut table = Table::new(&[
        "recording",
        "snapshots",
        "wall time, s",
        "CPU time, s",
        "CPU time a snapshot, us",
        "to a month's",
        "peak memory, MiB",
        "to a day's",
    ])
    .captioned("A report of one node's recording, a snapshot a minute:");
    for (((name, days), rounds), (us_each, mib_each)) in
        LENGTHS.iter().zip(rounds).zip(us.iter().zip(&mib))
    {
        let wall: Vec<f64> = rounds
            .iter()
            .map(|usage| usage.wall.as_secs_f64())
            .collect();
        let cpu: Vec<f64> = rounds.iter().map(|usage| usage.cpu.as_secs_f64()).collect();
        table.row([
            Cell::text(*name),
            Cell::count(days * SNAPSHOTS_A_DAY),
            Cell::rounds(&wall, 2),
            Cell::rounds(&cpu, 2),
            Cell::rounds(us_each, 1),
            Cell::rounds(&ratios(us_each, &us[1]), 2),
            Cell::rounds(mib_each, 1),
            Cell::rounds(&ratios(mib_each, &mib[0]), 2),
        ]);
    }
    let aims = vec![
        Aim::at_most(
            "memory over a simulated year, to a day's",
            FLAT,
            " x",
            median(&ratios(&mib[2], &mib[0])),
        ),
        Aim::at_most(
            "time per snapshot of a simulated year, to a month's",
            FLAT,
            " x",
            median(&ratios(&us[2], &us[1])),
        ),
    ];
    (table, aims)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Most that a recording takes on the disk by default: the file being written, and the one before it while it is being
/// compressed, which is not yet one of those kept.
fn most_bytes(packed_part: f64) -> f64 {
    2.0 * ROTATE_BYTES as f64 + (ROTATE_KEEP + 1) as f64 * packed_part
}

fn room(packed: Packed) -> Table {
    let snapshots = PACKED_DAYS * SNAPSHOTS_A_DAY;
    let each = packed.bytes as f64 / snapshots as f64;
    let share = packed.packed_bytes as f64 / packed.bytes as f64;
    let kept_snapshots = (ROTATE_KEEP * ROTATE_BYTES) as f64 / each;
    let mut table = Table::new(&[
        "interval",
        "a snapshot, bytes",
        "compressed, %",
        "a year as written, MiB",
        "a year compressed, MiB",
        "the default rotation takes at most, MiB",
        "and holds, days",
    ])
    .captioned(
        "Room that a recording takes, measured over a week with a snapshot a minute, with the same single gaps in each snapshot; \
         the default rotation is `--rotate-size 64MiB --rotate-keep 10`:",
    );
    for (name, seconds) in [("1 min", 60), ("5 s, the default", 5)] {
        let year = f64::from(365 * 86_400 / seconds) * each / f64::from(1 << 20);
        table.row([
            Cell::text(name),
            Cell::number(each, 0),
            Cell::number(share * 100.0, 1),
            Cell::number(year, 0),
            Cell::number(year * share, 0),
            Cell::number(
                most_bytes(ROTATE_BYTES as f64 * share) / f64::from(1 << 20),
                0,
            ),
            Cell::number(kept_snapshots * f64::from(seconds) / 86_400.0, 1),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_year_is_held_against_a_month_and_a_day() {
        let usage = |cpu_s, peak_mib: u64| {
            vec![Usage {
                wall: Duration::from_secs(1),
                cpu: Duration::from_secs(cpu_s),
                peak_bytes: peak_mib << 20,
            }]
        };
        let (table, aims) = reports(&[usage(1, 20), usage(30, 22), usage(730, 25)]);
        assert_eq!(table.rows.len(), 3);
        assert!((aims[0].measured - 1.25).abs() < 1e-9);
        assert!((aims[1].measured - 2.0).abs() < 1e-9);
        assert!(!aims[1].is_met());
    }
}
