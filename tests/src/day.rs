//! A day on a made-up machine, as a summary: every kind of gap there is, many of each, and stretches without any.

use jiff::{SignedDuration, Timestamp};
use smi_common::cause::{NMI, SMI, STEAL};
use smi_user::{
    model::{
        Attribution, Cause, CauseStats, Comparison, CounterInfo, CpuSnapshot, DetectorInfo,
        Difference, Gap, Header, Machine, Period, Proof, RecordCounts, Slot, SmiCounts,
        StealCounts, Summary, Verdict, WindowCounts,
    },
    settings::Mode,
};

use crate::made_up;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;
/// Slots of the time line.
const SLOTS: u64 = 720;
/// Single gaps of a slot that a summary keeps.
const KEPT: usize = 28;
const HARDLIMIT_NS: u64 = 1_000_000;

/// A generator of numbers that are the same each time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Most near `ns`, some far longer.
    fn about(&mut self, ns: f64, spread: f64) -> u64 {
        let normal = (0..6).map(|_| self.part()).sum::<f64>() - 3.0;
        (ns * (normal * spread).exp()) as u64
    }
}

/// A day of one machine with `cpus` CPUs: SMIs each minute, NMIs, steal in bursts by day and a quiet night, half an hour
/// in which nothing was sampled, and one gap of 5 ms. The same for the same `seed`.
///
/// # Panics
/// Never: the dates are valid.
pub fn day(name: &str, cpus: u32, seed: u64) -> Summary {
    let began: Timestamp = "2026-11-21T06:30:00Z".parse().expect("a time");
    let at = |seconds: f64| {
        began
            .checked_add(SignedDuration::from_nanos((seconds * 1e9) as i64))
            .expect("a time")
    };
    let gaps = gaps(cpus, seed, &at);
    let slot_of = |gap: &Gap| {
        let ns = began.duration_until(gap.end_time).as_nanos() as u64;
        (ns / (DAY * SECOND / SLOTS)).min(SLOTS - 1)
    };
    let mut all = CpuSnapshot::new(0);
    let mut slots = vec![CpuSnapshot::new(0); SLOTS as usize];
    let mut by_cpu: Vec<_> = (0..cpus).map(CpuSnapshot::new).collect();
    for gap in &gaps {
        all.count(gap);
        slots[slot_of(gap) as usize].count(gap);
        by_cpu[gap.cpu as usize].count(gap);
    }
    let timeline: Vec<Slot> = (0..)
        .zip(slots)
        .map(|(number, sum)| {
            let length_ns = DAY * SECOND / SLOTS;
            let mut counts = sum.total();
            let hour = number * 24 / SLOTS;
            let minute = number * 1_440 / SLOTS % 60;
            let is_dark = hour == 7 && minute < 30;
            counts.exposure_ns = if is_dark { 0 } else { length_ns / 100 };
            Slot {
                began: at((number * length_ns) as f64 / 1e9),
                length_ns,
                counts,
                causes: by_count(sum.causes),
            }
        })
        .collect();
    all.exposure_ns = timeline.iter().map(|slot| slot.counts.exposure_ns).sum();
    let detector = DetectorInfo {
        width_ns: 1_000_000,
        mode: Mode::RoundRobin,
        ..made_up::detector(cpus)
    };
    let cpus = by_cpu
        .into_iter()
        .map(|cpu| with_the_rest(cpu, all.exposure_ns / u64::from(cpus)))
        .collect();
    let mut kept = gaps;
    let worst = kept.iter().max_by_key(|gap| gap.duration_ns).copied();
    let over = kept
        .iter()
        .filter(|gap| gap.duration_ns > HARDLIMIT_NS)
        .count() as u64;
    let counted = kept.len();
    kept.sort_by_key(|gap| (slot_of(gap), std::cmp::Reverse(gap.duration_ns)));
    kept = kept
        .chunk_by(|a, b| slot_of(a) == slot_of(b))
        .flat_map(|slot| slot.iter().take(KEPT).copied())
        .collect();
    kept.sort_by_key(|gap| gap.end_time);
    let gaps_left_out = (counted - kept.len()) as u64;
    Summary {
        name: name.to_owned(),
        header: Some(header(began, name)),
        threshold_range_ns: (detector.threshold_ns, detector.threshold_ns),
        detector,
        attribution: attribution(),
        gap_kinds_mixed: false,
        began,
        ended: at(DAY as f64),
        snapshots: DAY,
        runs: 2,
        verdict: Some(Verdict {
            hardlimit_ns: HARDLIMIT_NS,
            max_ns: all.gaps.max_ns,
            exceeded: over > 0,
            over,
            worst: worst.filter(|_| over > 0),
        }),
        total: all.total(),
        causes: by_count(all.causes),
        cpus,
        smis: Some(1_440),
        timeline,
        gaps: kept,
        gaps_left_out,
        periods: vec![Period {
            cause: Some(Cause::of_bits(SMI)),
            longer_than_ns: None,
            interval_ns: 60.000_8 * 1e9,
            uncertainty_ns: 21e6,
            gaps: 1_403,
            coherence: 0.971,
            p_value: 1e-300,
        }],
        periods_searched: None,
        remarks: vec![
            "smilat was started anew at 14:00:00: the time between is not sampled".to_owned(),
            "line 31022 of the recording is torn (1812 bytes): what it said is lost".to_owned(),
        ],
    }
}

fn gaps(cpus: u32, seed: u64, at: &impl Fn(f64) -> Timestamp) -> Vec<Gap> {
    let mut dice = Dice(seed | 1);
    let mut gaps = Vec::new();
    let mut push = |seconds: f64, cpu: u32, duration_ns: u64, bits: u64| {
        // Nothing was sampled from 7 h to 7 h 30 min after the start.
        if (25_200.0..27_000.0).contains(&seconds) {
            return;
        }
        let cause = Cause::of_bits(bits);
        let mut gap = Gap::new(cpu, at(seconds), duration_ns.max(10_000), cause);
        if bits & STEAL != 0 {
            gap.steal_ns = duration_ns / 10 * 9;
        }
        gaps.push(gap);
    };
    for second in 0..DAY {
        let here = second as f64 + dice.part();
        let cpu = (dice.next() % u64::from(cpus)) as u32;
        let hour = second / 3_600;
        let is_night = (14..22).contains(&hour);
        if second % 60 == 17 {
            push(second as f64 + 0.5, cpu, dice.about(182_000.0, 0.12), SMI);
        }
        if second % 613 == 5 {
            push(here, cpu, dice.about(14_500.0, 0.2), NMI);
        }
        if second % 9_001 == 77 {
            push(here, cpu, dice.about(240_000.0, 0.2), SMI | NMI);
        }
        let share = if is_night { 0.01 } else { 0.35 };
        if dice.part() < share {
            push(here, cpu, dice.about(15_000.0, 0.5), 0);
        }
        let is_burst = !is_night && second / 700 % 5 == 2;
        if is_burst {
            for _ in 0..3 {
                push(
                    second as f64 + dice.part(),
                    cpu,
                    dice.about(55_000.0, 1.0),
                    STEAL,
                );
            }
            if second % 97 == 3 {
                push(here, cpu, dice.about(300_000.0, 0.5), SMI | STEAL);
            }
        }
    }
    push(50_432.25, 1 % cpus, 5_040_000, 0);
    gaps.sort_by_key(|gap| gap.end_time);
    gaps
}

/// The most frequent first.
fn by_count(mut causes: Vec<CauseStats>) -> Vec<CauseStats> {
    causes.sort_by_key(|of| std::cmp::Reverse(of.count));
    causes
}

/// What a CPU tells beside its gaps.
fn with_the_rest(cpu: CpuSnapshot, exposure_ns: u64) -> CpuSnapshot {
    let of_smis = cpu.causes.iter().filter(|of| of.cause.has_smi());
    let in_gaps = of_smis.map(|of| of.count).sum();
    CpuSnapshot {
        exposure_ns,
        windows: WindowCounts {
            scheduled: 216_000,
            run: 215_981,
            skipped: 19,
        },
        records: RecordCounts {
            sent: cpu.gaps.count,
            ..RecordCounts::default()
        },
        smis: Some(SmiCounts {
            counted: 1_440,
            sampled: Some(in_gaps),
            in_gaps: Some(in_gaps),
            unread: 0,
        }),
        steal: Some(StealCounts {
            sampled_ns: 2_000_000_000,
            in_gaps_ns: 1_700_000_000,
        }),
        ..cpu
    }
}

fn header(began: Timestamp, name: &str) -> Header {
    let firmware = if name.contains("after") {
        "2.19.1 06/04/2026"
    } else {
        "2.14.2 10/09/2024"
    };
    Header {
        started: began,
        hardlimit_ns: Some(HARDLIMIT_NS),
        machine: Machine {
            hostname: Some("cell-07.example.org".to_owned()),
            kernel: Some("6.12.48+deb13-rt-amd64".to_owned()),
            cpu: Some("Intel(R) Xeon(R) Gold 6338N CPU @ 2.20GHz".to_owned()),
            cpus: Some("0-7".to_owned()),
            microcode: Some("0xd0003f5".to_owned()),
            hypervisor: Some("KVMKVMKVM".to_owned()),
            product: Some("Acme R750".to_owned()),
            firmware: Some(format!("Acme {firmware}")),
            clock_source: Some("tsc".to_owned()),
        },
        ..made_up::header(0, 1)
    }
}

fn attribution() -> Attribution {
    Attribution {
        smi: Proof::Gap,
        nmi: Proof::Gap,
        steal: Proof::Gap,
        counter: Some(CounterInfo {
            name: "msr-pmu".to_owned(),
            source: "Intel's MSR 0x34, by the event smi of the kernel's msr PMU".to_owned(),
            exact: true,
            caveats: vec![
                "this is a virtual machine: the count is its own virtual one, and SMIs of the host are not in it"
                    .to_owned(),
            ],
        }),
    }
}

/// A comparison of two of these days with every judgement there is.
pub fn comparison(before: &Summary, after: &Summary) -> Comparison {
    let row = |cause: Option<Cause>, ratio: Option<f64>, p: Option<f64>| Difference {
        cause,
        rate_before: Some(117.25),
        rate_after: ratio.map(|ratio| 117.25 * ratio),
        ratio,
        ratio_range: ratio.map(|ratio| (ratio * 0.93, ratio * 1.07)),
        rate_p_value: p,
        rate_differs: p.map(|p| p < 0.01),
        p50_p99_before: Some((21_400.5, 392_000.25)),
        p50_p99_after: Some((18_800.75, 211_000.5)),
        max_before: before.total.max_ns,
        max_after: after.total.max_ns,
        duration_p_value: p.map(|p| p * 3.0),
        durations_differ: p.map(|p| p * 3.0 < 0.01),
    };
    Comparison {
        before: before.name.clone(),
        after: after.name.clone(),
        rows: vec![
            row(None, Some(0.612), Some(2.5e-9)),
            row(Some(Cause::of_bits(SMI)), Some(0.031), Some(0.000_2)),
            row(Some(Cause::of_bits(STEAL)), Some(1.04), Some(0.31)),
            row(Some(Cause::of_bits(NMI)), None, None),
        ],
        remarks: vec!["the two were recorded with other firmware".to_owned()],
    }
}
