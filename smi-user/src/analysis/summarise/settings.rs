//! What the detectors of a recording were set to, from its first line to its last.

use std::mem;

use super::{super::periods::Sampling, remarks::same};
use crate::{
    kernel::cpus::CpuList,
    model::{DetectorInfo, GapKind, Snapshot},
};

/// All settings that there were.
#[derive(Default)]
pub(super) struct Settings {
    /// The newest.
    detector: Option<DetectorInfo>,
    /// Lowest and highest threshold.
    pub(super) thresholds_ns: Option<(u64, u64)>,
    /// The highest of the run that goes on.
    of_run_ns: u64,
    gap_kinds: Vec<GapKind>,
    pub(super) samplings: Vec<Sampling>,
}

impl Settings {
    /// Takes those of the next snapshot.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        let now = &snapshot.detector;
        self.of_run_ns = self.of_run_ns.max(now.threshold_ns);
        if self.detector.as_ref().is_some_and(|was| same(was, now)) {
            return;
        }
        let (lowest, highest) = self
            .thresholds_ns
            .unwrap_or((now.threshold_ns, now.threshold_ns));
        self.thresholds_ns = Some((lowest.min(now.threshold_ns), highest.max(now.threshold_ns)));
        if !self.gap_kinds.contains(&now.gap_kind) {
            self.gap_kinds.push(now.gap_kind);
        }
        // Totals stay of CPUs that are watched no longer.
        let watched = now
            .cpus
            .parse::<CpuList>()
            .map_or(snapshot.cpus.len(), |cpus| cpus.len());
        let sampling = Sampling::of(now, watched);
        if !self.samplings.contains(&sampling) {
            self.samplings.push(sampling);
        }
        self.detector = Some(now.clone());
    }

    /// A run ended, which had this as its highest threshold.
    pub(super) fn end_run(&mut self) -> u64 {
        mem::take(&mut self.of_run_ns)
    }

    /// Whether every gap was counted for a part of the time, and the longest of each window for another.
    pub(super) fn mixes_gap_kinds(&self) -> bool {
        self.gap_kinds.len() > 1
    }
}
