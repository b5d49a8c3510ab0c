//! Recordings of made-up machines, whose gaps tests choose: the same on every machine.

use std::{fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use smi_common::cause::SMI;
use smi_user::{
    model::{
        Attribution, Cause, CauseStats, CpuSnapshot, DetectorInfo, Gap, GapKind, GapStats,
        Histogram, OwnCost, RecordCounts, SCHEMA_VERSION, Snapshot, StretchCounts, TracerCounts,
        WindowCounts,
    },
    settings::Mode,
};

/// A gap: CPU, ns, whether it is proven to be an SMI.
pub type Made = (u32, u64, bool);

/// What a machine with `cpus` CPUs tells that has these gaps in each second, one second after the other.
///
/// # Panics
/// When a gap is on a CPU that is not there.
pub fn snapshots(cpus: u32, seconds: &[&[Made]]) -> Vec<Snapshot> {
    let began: Timestamp = "2026-11-22T16:00:00Z".parse().expect("a time");
    let mut now = Snapshot {
        schema_version: SCHEMA_VERSION,
        time: began,
        elapsed_ns: 0,
        interval: 0,
        last: false,
        detector: DetectorInfo {
            name: "spin".to_owned(),
            gap_kind: GapKind::Gap,
            threshold_ns: 10_000,
            width_ns: 1_000_000,
            window_ns: 100_000_000,
            irqs_off_max_ns: 1_000_000,
            mode: Mode::RoundRobin,
            cpus: format!("0-{}", cpus - 1),
            step_ns: 25.0,
            noise_floor_ns: 168,
        },
        attribution: Attribution::default(),
        own_cost: OwnCost::default(),
        cpus: (0..cpus).map(cpu).collect(),
        gaps: Vec::new(),
        gaps_dropped: 0,
        recording_lost: None,
    };
    let mut all = Vec::new();
    for gaps in seconds {
        now.interval += 1;
        now.elapsed_ns += 1_000_000_000;
        now.time += SignedDuration::from_secs(1);
        now.last = now.interval == seconds.len() as u64;
        now.gaps.clear();
        for cpu in &mut now.cpus {
            cpu.exposure_ns += 5_000_000;
            cpu.gaps.interval_min_ns = None;
            cpu.gaps.interval_max_ns = None;
        }
        for gap in *gaps {
            add(&mut now, *gap);
        }
        all.push(now.clone());
    }
    all
}

/// Writes them as `smilat run --format ndjson` does.
///
/// # Panics
/// When that is not possible.
pub fn write(path: &Path, snapshots: &[Snapshot]) {
    let lines = snapshots.iter().map(|snapshot| {
        let line = serde_json::to_string(snapshot).expect("JSON");
        line + "\n"
    });
    fs::write(path, lines.collect::<String>()).expect("written");
}

fn add(now: &mut Snapshot, (number, ns, is_smi): Made) {
    let time = now.time - SignedDuration::from_millis(100);
    let cause = Cause::of_bits(if is_smi { SMI } else { 0 });
    let cpu = &mut now.cpus[number as usize];
    let stats = &mut cpu.gaps;
    stats.count += 1;
    stats.sum_ns += ns;
    stats.min_ns = stats.min_ns.into_iter().chain([ns]).min();
    stats.max_ns = stats.max_ns.max(Some(ns));
    stats.interval_min_ns = stats.interval_min_ns.into_iter().chain([ns]).min();
    stats.interval_max_ns = stats.interval_max_ns.max(Some(ns));
    stats.last_ns = Some(ns);
    stats.last_time = Some(time);
    cpu.records.sent += 1;
    cpu.histogram.record(ns);
    let place = cpu.causes.iter().position(|of| of.cause == cause);
    let place = place.unwrap_or_else(|| {
        cpu.causes.push(CauseStats {
            cause,
            count: 0,
            sum_ns: 0,
            max_ns: 0,
            histogram: Histogram::default(),
        });
        cpu.causes.len() - 1
    });
    let of = &mut cpu.causes[place];
    of.count += 1;
    of.sum_ns += ns;
    of.max_ns = of.max_ns.max(ns);
    of.histogram.record(ns);
    now.gaps.push(Gap {
        cpu: number,
        end_time: time,
        duration_ns: ns,
        cause,
        smis: u64::from(is_smi),
        steal_ns: 0,
        window: None,
    });
}

fn cpu(number: u32) -> CpuSnapshot {
    CpuSnapshot {
        cpu: number,
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
    }
}
