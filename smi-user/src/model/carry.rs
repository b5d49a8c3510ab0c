//! Totals that outlast the detector that counted them: a run that starts its detector again goes on from where it was.

use super::{
    CauseStats, CpuSnapshot, GapStats, OwnCost, RecordCounts, SmiCost, SmiCounts, Snapshot,
    StealCounts, StretchCounts, TracerCounts, WindowCounts, own_cost::BpfCost,
};

impl Snapshot {
    /// Has this snapshot go on from `before`, the last one of the detector that ran before: totals are those of both,
    /// intervals are numbered on, and CPUs that are watched no longer keep what they had. What belongs to the newest
    /// interval alone stays as it is.
    ///
    /// `started_ns` is when this snapshot's detector started, counted as `elapsed_ns` is: from when the first one did.
    pub fn go_on_from(&mut self, before: &Self, started_ns: u64) {
        self.elapsed_ns += started_ns;
        self.interval += before.interval;
        self.gaps_dropped += before.gaps_dropped;
        self.own_cost = own_cost(self.own_cost, before.own_cost);
        for earlier in &before.cpus {
            match self.cpus.iter_mut().find(|cpu| cpu.cpu == earlier.cpu) {
                Some(cpu) => cpu.go_on_from(earlier),
                None => self.cpus.push(earlier.without_interval()),
            }
        }
        self.cpus.sort_by_key(|cpu| cpu.cpu);
    }
}

impl CpuSnapshot {
    /// As [`Snapshot::go_on_from`], of one CPU.
    pub(crate) fn go_on_from(&mut self, before: &Self) {
        self.exposure_ns += before.exposure_ns;
        self.windows = windows(self.windows, before.windows);
        self.stretches = stretches(self.stretches, before.stretches);
        self.gaps = gaps(self.gaps, before.gaps);
        self.tracer = tracer(self.tracer, before.tracer);
        self.records = records(self.records, before.records);
        self.histogram.add(&before.histogram);
        for earlier in &before.causes {
            match self
                .causes
                .iter_mut()
                .find(|now| now.cause == earlier.cause)
            {
                Some(now) => add_cause(now, earlier),
                None => self.causes.push(earlier.clone()),
            }
        }
        self.causes.sort_by_key(|of| of.cause);
        self.smis = both(self.smis, before.smis, smis);
        self.steal = both(self.steal, before.steal, steal);
        self.smi_cost = both(self.smi_cost, before.smi_cost, smi_cost);
    }

    /// As it is once an interval passed in which it was not watched.
    fn without_interval(&self) -> Self {
        let mut cpu = self.clone();
        cpu.gaps.interval_min_ns = None;
        cpu.gaps.interval_max_ns = None;
        cpu
    }
}

/// What is there of the two, added up if both are: what nothing counts any more keeps its total.
fn both<T>(now: Option<T>, before: Option<T>, add: impl FnOnce(T, T) -> T) -> Option<T> {
    match (now, before) {
        (Some(now), Some(before)) => Some(add(now, before)),
        (now, before) => now.or(before),
    }
}

/// The sum if both are there: else it would stand for a part of the time only, beside counts of all of it.
fn sum_of_both(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    Some(now? + before?)
}

fn windows(now: WindowCounts, before: WindowCounts) -> WindowCounts {
    WindowCounts {
        scheduled: now.scheduled + before.scheduled,
        run: now.run + before.run,
        skipped: now.skipped + before.skipped,
    }
}

fn stretches(now: StretchCounts, before: StretchCounts) -> StretchCounts {
    StretchCounts {
        scheduled: now.scheduled + before.scheduled,
        run: now.run + before.run,
        skipped: now.skipped + before.skipped,
        steps: now.steps + before.steps,
        clock_went_back: now.clock_went_back + before.clock_went_back,
    }
}

fn gaps(now: GapStats, before: GapStats) -> GapStats {
    GapStats {
        count: now.count + before.count,
        sum_ns: now.sum_ns + before.sum_ns,
        min_ns: now.min_ns.into_iter().chain(before.min_ns).min(),
        max_ns: now.max_ns.max(before.max_ns),
        interval_min_ns: now.interval_min_ns,
        interval_max_ns: now.interval_max_ns,
        last_ns: now.last_ns.or(before.last_ns),
        last_time: now.last_time.or(before.last_time),
    }
}

fn tracer(now: TracerCounts, before: TracerCounts) -> TracerCounts {
    TracerCounts {
        steps_over: now.steps_over + before.steps_over,
        nmi_count: now.nmi_count + before.nmi_count,
        nmi_ns: now.nmi_ns + before.nmi_ns,
    }
}

fn records(now: RecordCounts, before: RecordCounts) -> RecordCounts {
    RecordCounts {
        sent: now.sent + before.sent,
        limited: now.limited + before.limited,
        lost: now.lost + before.lost,
    }
}

fn add_cause(now: &mut CauseStats, before: &CauseStats) {
    now.count += before.count;
    now.sum_ns += before.sum_ns;
    now.max_ns = now.max_ns.max(before.max_ns);
    now.histogram.add(&before.histogram);
}

fn smis(now: SmiCounts, before: SmiCounts) -> SmiCounts {
    SmiCounts {
        counted: now.counted + before.counted,
        sampled: sum_of_both(now.sampled, before.sampled),
        in_gaps: sum_of_both(now.in_gaps, before.in_gaps),
        unread: now.unread + before.unread,
    }
}

fn steal(now: StealCounts, before: StealCounts) -> StealCounts {
    StealCounts {
        sampled_ns: now.sampled_ns + before.sampled_ns,
        in_gaps_ns: now.in_gaps_ns + before.in_gaps_ns,
    }
}

fn smi_cost(now: SmiCost, before: SmiCost) -> SmiCost {
    SmiCost {
        // One after the other, where `total` has them at the same time.
        smis: now.smis + before.smis,
        ..SmiCost::total([now, before])
    }
}

/// CPU time and memory are the process's and go on by themselves; the BPF programs are new ones.
fn own_cost(now: OwnCost, before: OwnCost) -> OwnCost {
    OwnCost {
        bpf: both(now.bpf, before.bpf, |now, before| BpfCost {
            runs: now.runs + before.runs,
            run_ns: now.run_ns + before.run_ns,
        }),
        ..now
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        model::{Attribution, Cause, DetectorInfo, GapKind, Histogram, SCHEMA_VERSION},
        settings::Mode,
    };

    /// A CPU with gaps of these durations, all of one cause, and every other count `each`.
    fn cpu(cpu: u32, durations: &[u64], bits: u64, each: u64) -> CpuSnapshot {
        let mut histogram = Histogram::default();
        for ns in durations {
            histogram.record(*ns);
        }
        let count = durations.len() as u64;
        let sum_ns = durations.iter().sum();
        let (min_ns, max_ns) = (
            durations.iter().min().copied(),
            durations.iter().max().copied(),
        );
        CpuSnapshot {
            cpu,
            exposure_ns: each,
            windows: WindowCounts {
                scheduled: each,
                run: each,
                skipped: each,
            },
            stretches: StretchCounts {
                scheduled: each,
                run: each,
                skipped: each,
                steps: each,
                clock_went_back: each,
            },
            gaps: GapStats {
                count,
                sum_ns,
                min_ns,
                max_ns,
                interval_min_ns: min_ns,
                interval_max_ns: max_ns,
                last_ns: durations.last().copied(),
                last_time: durations.last().map(|_| Timestamp::UNIX_EPOCH),
            },
            tracer: TracerCounts {
                steps_over: each,
                nmi_count: each,
                nmi_ns: each,
            },
            records: RecordCounts {
                sent: each,
                limited: each,
                lost: each,
            },
            histogram: histogram.clone(),
            causes: durations
                .iter()
                .max()
                .map(|max_ns| CauseStats {
                    cause: Cause::of_bits(bits),
                    count,
                    sum_ns,
                    max_ns: *max_ns,
                    histogram,
                })
                .into_iter()
                .collect(),
            smis: Some(SmiCounts {
                counted: each,
                sampled: Some(each),
                in_gaps: Some(each),
                unread: each,
            }),
            steal: Some(StealCounts {
                sampled_ns: each,
                in_gaps_ns: each,
            }),
            smi_cost: Some(SmiCost::of(each, 100 * each, 99 * each)),
        }
    }

    fn snapshot(interval: u64, elapsed_ns: u64, cpus: Vec<CpuSnapshot>) -> Snapshot {
        Snapshot {
            schema_version: SCHEMA_VERSION,
            time: Timestamp::UNIX_EPOCH,
            elapsed_ns,
            interval,
            last: false,
            detector: DetectorInfo {
                name: "spin".to_owned(),
                gap_kind: GapKind::Gap,
                threshold_ns: 1,
                width_ns: 1,
                window_ns: 1,
                irqs_off_max_ns: 1,
                mode: Mode::None,
                cpus: String::new(),
                step_ns: 0.0,
                noise_floor_ns: 0,
            },
            attribution: Attribution::default(),
            own_cost: OwnCost {
                cpu_ns: elapsed_ns,
                resident_bytes: Some(5),
                bpf: Some(BpfCost {
                    runs: interval,
                    run_ns: interval,
                }),
            },
            cpus,
            gaps: Vec::new(),
            gaps_dropped: interval,
            recording_lost: None,
        }
    }

    #[test]
    fn two_detectors_one_after_the_other_are_as_one() {
        let mut now = snapshot(2, 500, vec![cpu(0, &[70, 300], 1, 4)]);
        now.go_on_from(&snapshot(3, 900, vec![cpu(0, &[50, 200], 1, 10)]), 1_000);
        let mut as_one = cpu(0, &[50, 200, 70, 300], 1, 14);
        // Of the newest interval alone.
        as_one.gaps.interval_min_ns = Some(70);
        assert_eq!(now.cpus, [as_one]);
        assert_eq!(
            (now.interval, now.elapsed_ns, now.gaps_dropped),
            (5, 1_500, 5)
        );
        assert_eq!(now.own_cost.cpu_ns, 500);
        assert_eq!(now.own_cost.bpf, Some(BpfCost { runs: 5, run_ns: 5 }));
    }

    #[test]
    fn causes_stay_apart() {
        let mut now = snapshot(1, 1, vec![cpu(0, &[70], 4, 1)]);
        now.go_on_from(&snapshot(1, 1, vec![cpu(0, &[50], 1, 1)]), 1);
        let causes: Vec<(String, u64, u64)> = now.cpus[0]
            .causes
            .iter()
            .map(|of| (of.cause.to_string(), of.count, of.max_ns))
            .collect();
        assert_eq!(
            causes,
            [("smi".to_owned(), 1, 50), ("steal".to_owned(), 1, 70)]
        );
    }

    #[test]
    fn cpus_and_counters_that_are_gone_keep_their_totals() {
        let before = snapshot(1, 1, vec![cpu(1, &[900], 1, 3), cpu(2, &[40], 1, 5)]);
        let mut now = snapshot(1, 1, vec![cpu(0, &[70], 1, 1), cpu(2, &[], 1, 1)]);
        now.cpus[1].smis = None;
        now.cpus[1].steal = None;
        now.go_on_from(&before, 1);
        let cpus: Vec<u32> = now.cpus.iter().map(|cpu| cpu.cpu).collect();
        assert_eq!(cpus, [0, 1, 2]);
        let gone = &now.cpus[1].gaps;
        assert_eq!(
            (gone.count, gone.max_ns, gone.interval_max_ns),
            (1, Some(900), None)
        );
        assert_eq!(now.cpus[2].smis, before.cpus[1].smis);
        assert_eq!(now.cpus[2].steal, before.cpus[1].steal);
        assert_eq!(
            (now.cpus[2].gaps.last_ns, now.cpus[2].gaps.min_ns),
            (Some(40), Some(40))
        );
    }

    #[test]
    fn smis_compared_with_gaps_for_a_part_of_the_time_are_not_told_as_if_for_all() {
        let compared = SmiCounts {
            counted: 5,
            sampled: Some(2),
            in_gaps: Some(1),
            unread: 0,
        };
        let counted = SmiCounts {
            counted: 100,
            sampled: None,
            in_gaps: None,
            unread: 3,
        };
        for (now, before) in [(compared, counted), (counted, compared)] {
            let sum = smis(now, before);
            assert_eq!((sum.counted, sum.unread), (105, 3));
            assert_eq!((sum.sampled, sum.in_gaps), (None, None));
        }
        assert_eq!(smis(compared, compared).sampled, Some(4));
    }

    #[test]
    fn the_share_of_smis_weighs_by_cycles_and_theirs_add_up() {
        let cost = smi_cost(SmiCost::of(2, 100, 90), SmiCost::of(3, 300, 300));
        assert_eq!((cost.smis, cost.aperf, cost.cycles), (5, 400, 390));
        assert!((cost.share - 0.025).abs() < 1e-12, "{cost:?}");
    }
}
