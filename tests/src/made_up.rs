//! Recordings with gaps that are known, made without a machine that has any.

use std::{fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use smi_user::{
    model::{
        Attribution, Cause, CauseStats, CpuSnapshot, DetectorInfo, Gap, GapKind, GapStats, Header,
        Histogram, Machine, OwnCost, RecordCounts, SCHEMA_VERSION, Snapshot, StretchCounts,
        TracerCounts, WindowCounts,
    },
    settings::Mode,
};

/// When all of them begin.
pub const BEGAN: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A recording of one CPU, with a snapshot each second and from one to four gaps of 20 us to 300 us in each.
pub fn recording(count: u64) -> Vec<Snapshot> {
    let mut cpu = CpuSnapshot {
        cpu: 0,
        exposure_ns: 0,
        windows: WindowCounts::default(),
        stretches: StretchCounts::default(),
        gaps: GapStats::default(),
        tracer: TracerCounts::default(),
        records: RecordCounts::default(),
        histogram: Histogram::default(),
        causes: Vec::new(),
        smis: None,
        steal: None,
        smi_cost: None,
    };
    (1..=count)
        .map(|interval| {
            cpu.exposure_ns += 500_000_000;
            cpu.windows.scheduled += 10;
            cpu.windows.run += 10;
            (cpu.gaps.interval_min_ns, cpu.gaps.interval_max_ns) = (None, None);
            let gaps: Vec<Gap> = (0..=interval * 7 % 4)
                .map(|number| gap(interval, number))
                .collect();
            for gap in &gaps {
                add(&mut cpu, gap);
            }
            Snapshot {
                schema_version: SCHEMA_VERSION,
                time: at(interval * 1_000),
                elapsed_ns: interval * 1_000_000_000,
                interval,
                last: interval == count,
                detector: detector(),
                attribution: Attribution::default(),
                own_cost: OwnCost::default(),
                cpus: vec![cpu.clone()],
                gaps,
                gaps_dropped: 0,
                recording_lost: None,
            }
        })
        .collect()
}

/// `snapshots` so many seconds later.
pub fn later(snapshots: &[Snapshot], seconds: i64) -> Vec<Snapshot> {
    let by = SignedDuration::from_secs(seconds);
    let mut all = snapshots.to_vec();
    for snapshot in &mut all {
        snapshot.time += by;
        for gap in &mut snapshot.gaps {
            gap.end_time += by;
        }
    }
    all
}

/// The header of a run that began so many seconds after [`BEGAN`].
pub fn header(seconds: i64, part: u64) -> Header {
    Header {
        schema_version: SCHEMA_VERSION,
        smilat: "test".to_owned(),
        started: BEGAN + SignedDuration::from_secs(seconds),
        part,
        interval_ns: 1_000_000_000,
        hardlimit_ns: None,
        machine: Machine {
            hostname: Some("made-up".to_owned()),
            ..Machine::default()
        },
    }
}

/// Lines of a recording.
///
/// # Panics
/// When a number in them is none that JSON has.
pub fn lines(header: Option<&Header>, snapshots: &[Snapshot]) -> String {
    let mut text = String::new();
    if let Some(header) = header {
        text += &json!({ "recording": header }).to_string();
        text.push('\n');
    }
    for snapshot in snapshots {
        text += &serde_json::to_string(snapshot).expect("JSON");
        text.push('\n');
    }
    text
}

/// Writes [`lines`].
///
/// # Panics
/// When it cannot.
pub fn write(path: &Path, header: Option<&Header>, snapshots: &[Snapshot]) {
    fs::write(path, lines(header, snapshots)).expect("written");
}

fn at(ms: u64) -> Timestamp {
    BEGAN + SignedDuration::from_millis(ms.cast_signed())
}

fn gap(interval: u64, number: u64) -> Gap {
    Gap {
        cpu: 0,
        end_time: at(interval * 1_000 - 900 + number * 137 + interval * 31 % 97),
        duration_ns: 20_000 + (interval * 5 + number * 3) % 29 * 10_000,
        cause: Cause::of_bits(0),
        smis: 0,
        steal_ns: 0,
        window: None,
    }
}

fn add(cpu: &mut CpuSnapshot, gap: &Gap) {
    let ns = gap.duration_ns;
    let gaps = &mut cpu.gaps;
    let least = |old: Option<u64>| Some(old.map_or(ns, |old| old.min(ns)));
    gaps.count += 1;
    gaps.sum_ns += ns;
    (gaps.min_ns, gaps.interval_min_ns) = (least(gaps.min_ns), least(gaps.interval_min_ns));
    gaps.max_ns = gaps.max_ns.max(Some(ns));
    gaps.interval_max_ns = gaps.interval_max_ns.max(Some(ns));
    (gaps.last_ns, gaps.last_time) = (Some(ns), Some(gap.end_time));
    cpu.records.sent += 1;
    cpu.histogram.record(ns);
    cpu.causes = vec![CauseStats {
        cause: gap.cause,
        count: gaps.count,
        sum_ns: gaps.sum_ns,
        max_ns: gaps.max_ns.unwrap_or(0),
        histogram: cpu.histogram.clone(),
    }];
}

fn detector() -> DetectorInfo {
    DetectorInfo {
        name: "spin".to_owned(),
        gap_kind: GapKind::Gap,
        threshold_ns: 10_000,
        width_ns: 50_000_000,
        window_ns: 100_000_000,
        irqs_off_max_ns: 1_000_000,
        mode: Mode::PerCpu,
        cpus: "0".to_owned(),
        step_ns: 25.0,
        noise_floor_ns: 200,
    }
}
