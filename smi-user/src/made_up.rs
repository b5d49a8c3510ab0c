//! Runs made up for unit tests. Tests of the whole have theirs in `tests/src/made_up.rs`.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{
        self, Cause, CounterInfo, CpuSnapshot, DetectorInfo, Gap, GapKind, Header, Proof,
        SCHEMA_VERSION, SmiCounts, Snapshot,
    },
    settings::Mode,
};

/// When all of them begin: 2026-11-22 16:00:00 UTC.
pub(crate) const BEGAN: Timestamp = Timestamp::constant(1_795_363_200, 0);

/// Spin on two CPUs.
pub(crate) fn detector() -> DetectorInfo {
    DetectorInfo {
        name: "spin".to_owned(),
        gap_kind: GapKind::Gap,
        threshold_ns: 10_000,
        width_ns: 1_000_000,
        window_ns: 100_000_000,
        irqs_off_max_ns: 1_000_000,
        mode: Mode::RoundRobin,
        cpus: "0-1".to_owned(),
        step_ns: 25.0,
        noise_floor_ns: 168,
    }
}

/// The header of a run's first file.
pub(crate) fn header() -> Header {
    Header {
        schema_version: SCHEMA_VERSION,
        smilat: "0.1.0".to_owned(),
        started: BEGAN,
        part: 1,
        interval_ns: 1_000_000_000,
        hardlimit_ns: None,
        machine: model::Machine::default(),
    }
}

/// The snapshot of an interval of which no CPU tells.
pub(crate) fn snapshot(interval: u64) -> Snapshot {
    Snapshot {
        elapsed_ns: interval * 1_000_000_000,
        interval,
        ..Snapshot::new(BEGAN, detector(), Vec::new())
    }
}

/// A machine whose CPUs count gaps as they are told to, and SMIs.
pub(crate) struct Machine {
    /// The newest one.
    pub(crate) snapshot: Snapshot,
}

impl Machine {
    /// Before the first interval.
    pub(crate) fn new(cpus: u32) -> Self {
        let detector = DetectorInfo {
            cpus: format!("0-{}", cpus - 1),
            ..detector()
        };
        let cpu = |number| CpuSnapshot {
            smis: Some(SmiCounts::default()),
            ..CpuSnapshot::new(number)
        };
        let mut snapshot = Snapshot::new(BEGAN, detector, (0..cpus).map(cpu).collect());
        snapshot.attribution.smi = Proof::Gap;
        snapshot.attribution.counter = Some(CounterInfo {
            name: "msr/smi".to_owned(),
            source: "a counter".to_owned(),
            exact: true,
            caveats: Vec::new(),
        });
        Self { snapshot }
    }

    /// An interval of a second in which these gaps came: CPU, duration, bits of the cause.
    pub(crate) fn interval(&mut self, gaps: &[(u32, u64, u64)]) -> Arc<Snapshot> {
        let now = &mut self.snapshot;
        now.interval += 1;
        now.elapsed_ns += 1_000_000_000;
        now.time += SignedDuration::from_secs(1);
        now.gaps.clear();
        for cpu in &mut now.cpus {
            cpu.exposure_ns += 5_000_000;
            cpu.begin_interval();
        }
        for (number, ns, bits) in gaps {
            let gap = Gap::new(*number, now.time, *ns, Cause::of_bits(*bits));
            let cpu = &mut now.cpus[*number as usize];
            cpu.count(&gap);
            if let Some(smis) = &mut cpu.smis {
                smis.counted += gap.smis;
            }
            now.gaps.push(gap);
        }
        Arc::new(now.clone())
    }
}
