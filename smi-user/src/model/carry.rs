//! Totals that outlast the detector that counted them: a run that starts its detector again goes on from where it was.

use std::ops::AddAssign;

use super::{
    BpfCost, CpuSnapshot, GapStats, RecordCounts, SmiCost, SmiCounts, Snapshot, StealCounts,
    StretchCounts, TracerCounts, WindowCounts,
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
        // CPU time and memory are the process's and go on by themselves; the BPF programs are new ones.
        add_if_there(&mut self.own_cost.bpf, before.own_cost.bpf);
        for earlier in &before.cpus {
            if let Some(cpu) = self.cpus.iter_mut().find(|cpu| cpu.cpu == earlier.cpu) {
                cpu.go_on_from(earlier);
            } else {
                let mut cpu = earlier.clone();
                cpu.begin_interval();
                self.cpus.push(cpu);
            }
        }
        self.cpus.sort_by_key(|cpu| cpu.cpu);
    }
}

impl CpuSnapshot {
    /// As [`Snapshot::go_on_from`], of one CPU.
    pub(crate) fn go_on_from(&mut self, before: &Self) {
        self.exposure_ns += before.exposure_ns;
        self.windows += before.windows;
        self.stretches += before.stretches;
        self.gaps.go_on_from(&before.gaps);
        self.tracer += before.tracer;
        self.records += before.records;
        self.histogram.add(&before.histogram);
        for earlier in &before.causes {
            earlier.add_to(&mut self.causes);
        }
        self.causes.sort_by_key(|of| of.cause);
        add_if_there(&mut self.smis, before.smis);
        add_if_there(&mut self.steal, before.steal);
        add_if_there(&mut self.smi_cost, before.smi_cost);
    }
}

impl GapStats {
    fn go_on_from(&mut self, before: &Self) {
        self.count += before.count;
        self.sum_ns += before.sum_ns;
        self.min_ns = self.min_ns.into_iter().chain(before.min_ns).min();
        self.max_ns = self.max_ns.max(before.max_ns);
        self.last_ns = self.last_ns.or(before.last_ns);
        self.last_time = self.last_time.or(before.last_time);
    }
}

/// Adds up what is there of the two: what nothing counts any more keeps its total.
fn add_if_there<T: Copy + AddAssign>(now: &mut Option<T>, before: Option<T>) {
    match (now, before) {
        (Some(now), Some(before)) => *now += before,
        (now, before) => *now = now.or(before),
    }
}

/// Has these counts added up, each for itself.
macro_rules! add_up {
    ($($counts:ident { $($count:ident),+ })+) => {
        $(impl AddAssign for $counts {
            fn add_assign(&mut self, other: Self) {
                // Whole, so that none is left out.
                let Self { $($count),+ } = other;
                $(self.$count += $count;)+
            }
        })+
    };
}

add_up! {
    WindowCounts { scheduled, run, skipped }
    StretchCounts { scheduled, run, skipped, steps, clock_went_back }
    TracerCounts { steps_over, nmi_count, nmi_ns }
    RecordCounts { sent, limited, lost }
    StealCounts { sampled_ns, in_gaps_ns }
    BpfCost { runs, run_ns }
}

impl AddAssign for SmiCounts {
    fn add_assign(&mut self, other: Self) {
        // Of one alone it would stand for a part of the time only, beside counts of all of it.
        let of_both = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        self.counted += other.counted;
        self.sampled = of_both(self.sampled, other.sampled);
        self.in_gaps = of_both(self.in_gaps, other.in_gaps);
        self.unread += other.unread;
    }
}

impl AddAssign for SmiCost {
    fn add_assign(&mut self, other: Self) {
        *self = Self {
            // One after the other, where `total` has them at the same time.
            smis: self.smis + other.smis,
            ..Self::total([*self, other])
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        made_up,
        model::{Cause, Gap, OwnCost},
    };

    /// A CPU with gaps of these durations, all of one cause, and every other count `each`.
    fn cpu(number: u32, durations: &[u64], bits: u64, each: u64) -> CpuSnapshot {
        let mut cpu = CpuSnapshot {
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
            ..CpuSnapshot::new(number)
        };
        for ns in durations {
            let cause = Cause::of_bits(bits);
            cpu.count(&Gap::new(number, made_up::BEGAN, *ns, cause));
        }
        cpu
    }

    fn snapshot(interval: u64, elapsed_ns: u64, cpus: Vec<CpuSnapshot>) -> Snapshot {
        Snapshot {
            elapsed_ns,
            interval,
            own_cost: OwnCost {
                cpu_ns: elapsed_ns,
                resident_bytes: Some(5),
                bpf: Some(BpfCost {
                    runs: interval,
                    run_ns: interval,
                }),
            },
            gaps_dropped: interval,
            ..Snapshot::new(made_up::BEGAN, made_up::detector(), cpus)
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
            let mut sum = now;
            sum += before;
            assert_eq!((sum.counted, sum.unread), (105, 3));
            assert_eq!((sum.sampled, sum.in_gaps), (None, None));
        }
        let mut sum = compared;
        sum += compared;
        assert_eq!(sum.sampled, Some(4));
    }

    #[test]
    fn the_share_of_smis_weighs_by_cycles_and_theirs_add_up() {
        let mut cost = SmiCost::of(2, 100, 90);
        cost += SmiCost::of(3, 300, 300);
        assert_eq!((cost.smis, cost.aperf, cost.cycles), (5, 400, 390));
        assert!((cost.share - 0.025).abs() < 1e-12, "{cost:?}");
    }
}
