//! Reads the maps once an interval and makes a snapshot of them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::SystemTime,
};

use anyhow::Result;
use jiff::Timestamp;
use smi_common::{CpuStats, GapRecord};

use crate::{
    attribution::Attribution,
    bpf::Bpf,
    detector::{Detector, Running},
    kernel::{
        clock::{self, Epoch},
        process,
    },
    model::{
        Cause, CauseStats, CpuSnapshot, DetectorInfo, Gap, GapKind, GapStats, OwnCost, Proof,
        RecordCounts, SamplerCounts, Snapshot, StealCounts, StretchCounts, TracerCounts,
        WindowRecord,
    },
    settings::Settings,
    units::ns,
};

/// Single gaps kept between two snapshots; of more, the oldest are given up and counted.
const MAX_GAPS: usize = 100_000;

/// Makes snapshots of what a running detector counts.
pub struct Collector {
    bpf: Bpf,
    running: Box<dyn Running>,
    attribution: Attribution,
    info: DetectorInfo,
    began_ns: u64,
    interval: u64,
    gaps: VecDeque<Gap>,
    gaps_dropped: u64,
    /// Gaps read by this process, by CPU; empty when the kernel counts them.
    own: BTreeMap<u32, CpuStats>,
}

impl Collector {
    /// A collector for `running`, whose programs count in the maps of `bpf` and find causes by `attribution`.
    pub fn new(
        bpf: Bpf,
        running: Box<dyn Running>,
        mut attribution: Attribution,
        detector: &dyn Detector,
        settings: &Settings,
    ) -> Self {
        let noise = running.noise();
        if !running.records_in_kernel() {
            attribution.not_in_kernel();
        }
        Self {
            attribution,
            info: DetectorInfo {
                name: detector.name().to_owned(),
                gap_kind: detector.gap_kind(),
                threshold_ns: ns(settings.threshold),
                width_ns: ns(settings.width),
                window_ns: ns(settings.window),
                irqs_off_max_ns: ns(detector.irqs_off(settings)),
                mode: settings.mode,
                cpus: settings.cpus.to_string(),
                step_ns: noise.step_ns,
                noise_floor_ns: noise.floor_ns,
            },
            bpf,
            running,
            began_ns: clock::monotonic_ns(),
            interval: 1,
            gaps: VecDeque::new(),
            gaps_dropped: 0,
            own: BTreeMap::new(),
        }
    }

    /// How the detector is set, and the noise it measured.
    pub fn info(&self) -> &DetectorInfo {
        &self.info
    }

    /// Name of what counts SMIs, if anything does.
    pub fn counter(&self) -> Option<&str> {
        Some(&self.attribution.info().counter.as_ref()?.name)
    }

    /// What the user should know and was not told yet.
    pub fn warnings(&mut self) -> Vec<String> {
        let mut warnings = self.running.warnings();
        warnings.extend(self.attribution.warnings());
        warnings
    }

    /// Changes the threshold while the detector runs: the programs follow from their next stretch on.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn set_threshold_ns(&mut self, threshold_ns: u64) -> Result<()> {
        let mut knobs = self.bpf.knobs()?;
        knobs.threshold_ns = threshold_ns;
        self.bpf.set_knobs(knobs)?;
        self.info.threshold_ns = threshold_ns;
        Ok(())
    }

    /// Takes what waits in the kernel's buffers; to be called more often than they fill.
    ///
    /// # Errors
    /// When they cannot be read, or the detector has ended by itself.
    pub fn fetch(&mut self) -> Result<()> {
        self.running.check()?;
        self.attribution.follow(&mut self.bpf)?;
        self.fetch_gaps()
    }

    fn fetch_gaps(&mut self) -> Result<()> {
        let epoch = self.running.epoch();
        let kind = self.info.gap_kind;
        let (gaps, dropped) = (&mut self.gaps, &mut self.gaps_dropped);
        let mut keep = |record: &GapRecord| {
            if gaps.len() == MAX_GAPS {
                gaps.pop_front();
                *dropped += 1;
            }
            gaps.push_back(gap(record, kind, &epoch));
        };
        let records = self.running.records()?;
        if !records.is_empty() {
            let knobs = self.bpf.knobs()?;
            for record in records {
                let stats = self.own.entry(record.cpu as u32).or_default();
                if stats.add_gap(&record, &knobs) {
                    stats.records_sent += 1;
                    keep(&record);
                }
            }
        }
        self.bpf.take_gaps(|record| keep(&record));
        Ok(())
    }

    /// Ends the interval and reads everything.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let ended = self.interval;
        self.interval += 1;
        // First the change of interval, then the reading: see `smi_common::Extremes`.
        let mut knobs = self.bpf.knobs()?;
        knobs.interval = self.interval;
        self.bpf.set_knobs(knobs)?;
        self.read(ended, false)
    }

    /// Stops the detector and reads everything for the last time. What was counted is returned whatever became of the
    /// detector, and beside it the failure that ended it, if one did.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn finish(mut self) -> Result<(Snapshot, Result<()>)> {
        let stopped = self.running.stop();
        let ended = self.interval;
        let snapshot = self.read(ended, true)?;
        for warning in self.warnings() {
            log::warn!("{warning}");
        }
        Ok((snapshot, stopped))
    }

    fn read(&mut self, interval: u64, last: bool) -> Result<Snapshot> {
        self.fetch_gaps()?;
        let mut stats = self.bpf.stats()?;
        for (cpu, own) in &self.own {
            if let Some(stats) = stats.get_mut(*cpu as usize) {
                *stats = CpuStats {
                    stretches: stats.stretches,
                    counted: stats.counted,
                    ..*own
                };
            }
        }
        let counts = self.running.counts(&stats);
        let told_steal = self.attribution.info().steal == Proof::Gap;
        let epoch = self.running.epoch();
        let cpus = counts
            .into_iter()
            .map(|(cpu, counts)| {
                let stats = stats.get(cpu as usize).copied().unwrap_or_default();
                let smis = self.attribution.smis(cpu, &stats.counted, last);
                CpuSnapshot {
                    smis,
                    steal: told_steal.then_some(StealCounts {
                        sampled_ns: stats.counted.steal_ns.sampled,
                        in_gaps_ns: stats.counted.steal_ns.in_gaps,
                    }),
                    ..cpu_snapshot(cpu, counts, &stats, interval, &epoch)
                }
            })
            .collect();
        Ok(Snapshot {
            elapsed_ns: clock::monotonic_ns() - self.began_ns,
            interval,
            last,
            attribution: self.attribution.info().clone(),
            own_cost: OwnCost {
                cpu_ns: process::cpu_ns(),
                resident_bytes: process::resident_bytes(),
                bpf: self.bpf.cost()?,
            },
            gaps: std::mem::take(&mut self.gaps).into(),
            gaps_dropped: self.gaps_dropped,
            ..Snapshot::new(Timestamp::now(), self.info.clone(), cpus)
        })
    }
}

/// The part of a snapshot that `stats`, what the programs counted on `cpu` up to the end of `interval`, and `counts`, what its
/// sampling thread did, come to; without what [`Attribution`] knows.
pub fn cpu_snapshot(
    cpu: u32,
    counts: SamplerCounts,
    stats: &CpuStats,
    interval: u64,
    epoch: &Epoch,
) -> CpuSnapshot {
    let gaps = stats.gaps;
    let any = |ns: u64| (gaps.count > 0).then_some(ns);
    let stretches_skipped = stats.stretches.late + counts.stretches_given_up;
    let extremes = stats.interval[usize::from(interval % 2 == 1)];
    let in_interval =
        |ns: u64| (extremes.interval == interval && extremes.max_ns > 0).then_some(ns);
    CpuSnapshot {
        exposure_ns: stats.stretches.exposure_ns,
        windows: counts.windows,
        stretches: StretchCounts {
            scheduled: stats.stretches.run + stretches_skipped,
            run: stats.stretches.run,
            skipped: stretches_skipped,
            steps: stats.stretches.steps,
            clock_went_back: stats.stretches.clock_went_back,
        },
        gaps: GapStats {
            count: gaps.count,
            sum_ns: gaps.sum_ns,
            min_ns: any(gaps.min_ns),
            max_ns: any(gaps.max_ns),
            interval_min_ns: in_interval(extremes.min_ns),
            interval_max_ns: in_interval(extremes.max_ns),
            last_ns: any(gaps.last_ns),
            last_time: any(gaps.last_end_ns).map(|ns| timestamp(epoch.date(ns))),
        },
        tracer: TracerCounts {
            steps_over: stats.tracer.steps_over,
            nmi_count: stats.tracer.nmi_count,
            nmi_ns: stats.tracer.nmi_ns,
        },
        records: RecordCounts {
            sent: stats.records_sent,
            limited: stats.records_limited,
            lost: stats.records_lost,
        },
        histogram: stats.histogram().into(),
        causes: causes(stats),
        ..CpuSnapshot::new(cpu)
    }
}

/// The sets of causes of which there are gaps.
fn causes(stats: &CpuStats) -> Vec<CauseStats> {
    (0..)
        .zip(&stats.causes)
        .filter(|(_, totals)| totals.count > 0)
        .map(|(bits, totals)| CauseStats {
            cause: Cause::of_bits(bits),
            count: totals.count,
            sum_ns: totals.sum_ns,
            max_ns: totals.max_ns,
            histogram: totals.histogram.into(),
        })
        .collect()
}

fn gap(record: &GapRecord, kind: GapKind, epoch: &Epoch) -> Gap {
    Gap {
        cpu: record.cpu as u32,
        end_time: timestamp(epoch.date(record.end_ns)),
        duration_ns: record.duration_ns,
        cause: Cause::of_bits(record.cause),
        smis: record.smis,
        steal_ns: record.steal_ns,
        window: (kind == GapKind::WindowMax).then_some(WindowRecord {
            inner_ns: record.inner_ns,
            outer_ns: record.outer_ns,
            steps_over: record.steps_over,
            nmi_count: record.nmi_count,
            nmi_ns: record.nmi_ns,
        }),
    }
}

/// The system's time as jiff has it; the two differ only in range.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use smi_common::Knobs;

    use super::*;

    #[test]
    fn a_snapshot_counts_a_gap_as_the_programs_do() {
        let epoch = Epoch::now();
        let mut stats = CpuStats::default();
        let mut counted = CpuSnapshot::new(3);
        for (interval, durations) in [(1, &[40_000, 20_000, 90_000][..]), (2, &[50_000, 30_000])] {
            let knobs = Knobs {
                interval,
                ..Knobs::default()
            };
            counted.begin_interval();
            for (end_ns, duration_ns) in (1..).zip(durations) {
                let record = GapRecord {
                    end_ns,
                    duration_ns: *duration_ns,
                    cpu: 3,
                    cause: duration_ns / 10_000 % 4,
                    ..GapRecord::default()
                };
                stats.add_gap(&record, &knobs);
                counted.count(&gap(&record, GapKind::Gap, &epoch));
            }
            // Whether it is passed on is not the snapshot's affair.
            counted.records.limited = stats.records_limited;
            let read = cpu_snapshot(3, SamplerCounts::default(), &stats, interval, &epoch);
            assert_eq!(counted, read);
        }
        assert_eq!(counted.causes.len(), 4);
    }
}
