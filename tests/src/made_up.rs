//! Recordings of made-up machines, whose gaps are known. Unit tests have theirs in `smi-user/src/made_up.rs`.

use std::{fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use smi_common::{CpuStats, GapRecord, Knobs, cause};
use smi_user::{
    kernel::cpus::CpuList,
    model::{
        Cause, CpuSnapshot, DetectorInfo, Gap, GapKind, Header, Machine, SCHEMA_VERSION, Snapshot,
    },
    settings::Mode,
};

/// When all of them begin.
const BEGAN: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A gap: CPU, ns, whether it is proven to be an SMI.
pub type Made = (u32, u64, bool);

/// What a machine with `cpus` CPUs tells that has these gaps in each second, one second after the other.
///
/// # Panics
/// When a gap is on a CPU that is not there.
pub fn snapshots(cpus: u32, seconds: &[impl AsRef<[Made]>]) -> Vec<Snapshot> {
    let all = (0..cpus).map(CpuSnapshot::new).collect();
    let mut now = Snapshot::new(BEGAN, detector(cpus), all);
    let tell = |gaps: &[Made]| {
        now.interval += 1;
        now.elapsed_ns += 1_000_000_000;
        let began = now.time;
        now.time += SignedDuration::from_secs(1);
        now.last = now.interval == seconds.len() as u64;
        now.gaps.clear();
        for cpu in &mut now.cpus {
            cpu.exposure_ns += 500_000_000;
            cpu.windows.scheduled += 10;
            cpu.windows.run += 10;
            cpu.begin_interval();
        }
        for (number, (cpu, ns, is_smi)) in (0..).zip(gaps) {
            // No interval fits them.
            let ms = 100 + number * 137 + now.interval.cast_signed() * 31 % 97;
            let end = began + SignedDuration::from_millis(ms);
            let cause = [Cause::UNKNOWN, Cause::SMI][usize::from(*is_smi)];
            let gap = Gap::new(*cpu, end, *ns, cause);
            let cpu = &mut now.cpus[*cpu as usize];
            cpu.count(&gap);
            cpu.records.sent += 1;
            now.gaps.push(gap);
        }
        now.clone()
    };
    seconds.iter().map(AsRef::as_ref).map(tell).collect()
}

/// A recording of one CPU, with a snapshot each second and from one to four gaps of 20 us to 300 us in each.
pub fn recording(count: u64) -> Vec<Snapshot> {
    let gap = |second, number| (0, 20_000 + (second * 5 + number * 3) % 29 * 10_000, false);
    let gaps = |second: u64| (0..=second * 7 % 4).map(move |number| gap(second, number));
    let seconds: Vec<Vec<Made>> = (1..=count).map(|second| gaps(second).collect()).collect();
    snapshots(1, &seconds)
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

/// The header of a run that began so many seconds after the first.
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

/// What the programs of a detector have counted on `cpu`, of gaps of 10 us to 9.5 ms: many short ones and fewer long ones, of
/// four causes, so that most of the histograms' buckets in between are in use.
pub fn counted(cpu: u32) -> CpuStats {
    const OCTAVES: u64 = 10;
    const KINDS: [u64; 4] = [0, cause::STEAL, cause::SMI, cause::NMI];
    let knobs = Knobs {
        threshold_ns: 10_000,
        records_per_s: 100,
        interval: 1,
        look_ns: 0,
    };
    let mut stats = CpuStats::default();
    let mut end_ns = 0;
    for octave in 0..OCTAVES {
        for number in 0..(OCTAVES - octave) * 64 {
            end_ns += 1_000_000 + u64::from(cpu);
            // No interval fits them.
            let duration_ns = (10_000 << octave) * (1_000 + number * 337 % 855) / 1_000;
            let record = GapRecord {
                end_ns,
                duration_ns,
                cpu: cpu.into(),
                cause: KINDS[(number % 4) as usize],
                ..GapRecord::default()
            };
            stats.add_gap(&record, &knobs);
        }
    }
    stats.records_sent = stats.gaps.count - stats.records_limited;
    let seconds = end_ns / 1_000_000_000 + 1;
    stats.stretches.run = seconds * 10;
    stats.stretches.exposure_ns = stats.stretches.run * 1_000_000;
    stats.stretches.steps = stats.stretches.exposure_ns / 25;
    stats
}

/// Writes [`lines`].
///
/// # Panics
/// When it cannot.
pub fn write(path: &Path, header: Option<&Header>, snapshots: &[Snapshot]) {
    fs::write(path, lines(header, snapshots)).expect("written");
}

/// Spin, watching all of `cpus` CPUs half of the time.
pub fn detector(cpus: u32) -> DetectorInfo {
    DetectorInfo {
        name: "spin".to_owned(),
        gap_kind: GapKind::Gap,
        threshold_ns: 10_000,
        width_ns: 50_000_000,
        window_ns: 100_000_000,
        irqs_off_max_ns: 1_000_000,
        mode: Mode::PerCpu,
        cpus: (0..cpus).collect::<CpuList>().to_string(),
        step_ns: 25.0,
        noise_floor_ns: 168,
    }
}
