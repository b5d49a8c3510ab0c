//! A machine that counts what tests tell it to.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    model::{
        Attribution, Cause, CauseStats, CounterInfo, CpuSnapshot, DetectorInfo, Gap, GapKind,
        GapStats, Histogram, OwnCost, Proof, RecordCounts, SCHEMA_VERSION, SmiCounts, Snapshot,
        StretchCounts, TracerCounts, WindowCounts,
    },
    settings::Mode,
};

/// A machine whose CPUs count gaps as they are told to.
pub(crate) struct Machine {
    /// The newest one.
    pub(crate) snapshot: Snapshot,
}

impl Machine {
    /// Before the first interval.
    pub(crate) fn new(cpus: u32) -> Self {
        Self {
            snapshot: Snapshot {
                schema_version: SCHEMA_VERSION,
                time: time(0),
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
                attribution: Attribution {
                    smi: Proof::Gap,
                    counter: Some(CounterInfo {
                        name: "msr/smi".to_owned(),
                        source: "a counter".to_owned(),
                        exact: true,
                        caveats: Vec::new(),
                    }),
                    ..Attribution::default()
                },
                own_cost: OwnCost::default(),
                cpus: (0..cpus).map(cpu).collect(),
                gaps: Vec::new(),
                gaps_dropped: 0,
                recording_lost: None,
            },
        }
    }

    /// An interval of a second in which these gaps came: CPU, duration, bits of the cause.
    pub(crate) fn interval(&mut self, gaps: &[(u32, u64, u64)]) -> Arc<Snapshot> {
        let snapshot = &mut self.snapshot;
        snapshot.interval += 1;
        snapshot.elapsed_ns += 1_000_000_000;
        snapshot.time = time(snapshot.elapsed_ns);
        snapshot.gaps.clear();
        for cpu in &mut snapshot.cpus {
            cpu.exposure_ns += 5_000_000;
            cpu.gaps.interval_max_ns = None;
            cpu.gaps.interval_min_ns = None;
        }
        for (number, ns, bits) in gaps {
            let cause = Cause::of_bits(*bits);
            let cpu = &mut snapshot.cpus[*number as usize];
            let stats = &mut cpu.gaps;
            stats.count += 1;
            stats.sum_ns += ns;
            stats.min_ns = stats.min_ns.into_iter().chain([*ns]).min();
            stats.max_ns = stats.max_ns.max(Some(*ns));
            stats.interval_min_ns = stats.interval_min_ns.into_iter().chain([*ns]).min();
            stats.interval_max_ns = stats.interval_max_ns.max(Some(*ns));
            stats.last_ns = Some(*ns);
            stats.last_time = Some(snapshot.time);
            cpu.histogram.record(*ns);
            if let Some(smis) = &mut cpu.smis {
                smis.counted += u64::from(cause.has_smi());
            }
            match cpu.causes.iter_mut().find(|of| of.cause == cause) {
                Some(of) => of.count += 1,
                None => cpu.causes.push(CauseStats {
                    cause,
                    count: 1,
                    sum_ns: *ns,
                    max_ns: *ns,
                    histogram: Histogram::default(),
                }),
            }
            snapshot.gaps.push(Gap {
                cpu: *number,
                end_time: snapshot.time,
                duration_ns: *ns,
                cause,
                smis: 0,
                steal_ns: 0,
                window: None,
            });
        }
        Arc::new(snapshot.clone())
    }
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
        smis: Some(SmiCounts::default()),
        steal: None,
        smi_cost: None,
    }
}

/// 2026-11-22 16:00:00 UTC and so much.
fn time(ns: u64) -> Timestamp {
    let second = 1_795_363_200 + i64::try_from(ns / 1_000_000_000).expect("small");
    Timestamp::new(second, 0).expect("a time")
}
