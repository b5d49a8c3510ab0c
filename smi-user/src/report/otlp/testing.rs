//! A snapshot in which every number is another.

use smi_common::cause::{NMI, SMI, STEAL};

use crate::{
    model::{
        Attribution, BpfCost, Cause, CauseStats, CounterInfo, CpuSnapshot, DetectorInfo, GapKind,
        GapStats, Histogram, OwnCost, Proof, RecordCounts, SCHEMA_VERSION, SmiCounts, Snapshot,
        StealCounts, StretchCounts, TracerCounts, WindowCounts,
    },
    settings::Mode,
};

/// See the module.
pub(crate) fn snapshot() -> Snapshot {
    Snapshot {
        schema_version: SCHEMA_VERSION,
        time: "2026-11-22T08:00:10.5Z".parse().expect("a time"),
        elapsed_ns: 10_500_000_000,
        interval: 2,
        last: false,
        detector: DetectorInfo {
            name: "spin".to_owned(),
            gap_kind: GapKind::Gap,
            threshold_ns: 10_000,
            width_ns: 10_000_000,
            window_ns: 1_000_000_000,
            irqs_off_max_ns: 1_000_000,
            mode: Mode::RoundRobin,
            cpus: "0,3".to_owned(),
            step_ns: 21.5,
            noise_floor_ns: 180,
        },
        attribution: Attribution {
            smi: Proof::Gap,
            nmi: Proof::None,
            steal: Proof::Interval,
            counter: Some(CounterInfo {
                name: "msr-pmu".to_owned(),
                source: "MSR 0x34".to_owned(),
                exact: true,
                caveats: Vec::new(),
            }),
        },
        own_cost: OwnCost {
            cpu_ns: 105_000_000,
            resident_bytes: Some(12_345_678),
            bpf: Some(BpfCost {
                runs: 777,
                run_ns: 88_000_000,
            }),
        },
        cpus: vec![
            cpu(0, &[12_000, 13_000, 150_000], SMI),
            cpu(3, &[20_000, 2_000_000], NMI | STEAL),
        ],
        gaps: Vec::new(),
        gaps_dropped: 6,
        recording_lost: None,
    }
}

/// A CPU whose first gap has no known cause, and the others this one.
fn cpu(cpu: u32, durations: &[u64], cause: u64) -> CpuSnapshot {
    let k = u64::from(cpu) + 1;
    let histogram = |durations: &[u64]| {
        let mut histogram = Histogram::default();
        for ns in durations {
            histogram.record(*ns);
        }
        histogram
    };
    let of_cause = |bits, durations: &[u64]| CauseStats {
        cause: Cause::of_bits(bits),
        count: durations.len() as u64,
        sum_ns: durations.iter().sum(),
        max_ns: durations.iter().copied().max().unwrap_or(0),
        histogram: histogram(durations),
    };
    CpuSnapshot {
        cpu,
        exposure_ns: k * 100_000_001,
        windows: WindowCounts {
            scheduled: k * 10 + 3,
            run: k * 10,
            skipped: 3,
        },
        stretches: StretchCounts::default(),
        gaps: GapStats {
            count: durations.len() as u64,
            sum_ns: durations.iter().sum(),
            min_ns: durations.iter().copied().min(),
            max_ns: durations.iter().copied().max(),
            interval_min_ns: None,
            interval_max_ns: None,
            last_ns: durations.last().copied(),
            last_time: None,
        },
        tracer: TracerCounts::default(),
        records: RecordCounts {
            sent: k * 100,
            limited: k * 7,
            lost: k * 5,
        },
        histogram: histogram(durations),
        causes: vec![
            of_cause(0, &durations[..1]),
            of_cause(cause, &durations[1..]),
        ],
        smis: Some(SmiCounts {
            counted: 40,
            sampled: Some(20),
            in_gaps: Some(10),
            unread: k,
        }),
        steal: Some(StealCounts {
            sampled_ns: k * 1_000_000,
            in_gaps_ns: k * 600_000,
        }),
        smi_cost: None,
    }
}
