//! Truth of the numbers: a program of the spin program's shape makes gaps of known length, and everything that is
//! counted must agree with what was made.

use std::time::Duration;

use aya::maps::{Array, MapData};
use smi_common::{CauseCounts, CpuStats, GapRecord, Knobs, buckets};
use tests::{Lab, take_array, two_cpus};

const STRETCH: Duration = Duration::from_millis(100);

const THRESHOLD_NS: u64 = 20_000;

/// Slots of the map that holds the waits.
const WAITS: u64 = 512;

struct Maker {
    lab: Lab,
    waits: Array<MapData, [u64; 2]>,
    made: Array<MapData, [u64; 2]>,
}

impl Maker {
    fn new(knobs: Knobs) -> Self {
        let (cpu, _) = two_cpus();
        let mut lab = Lab::new("waits", cpu, knobs);
        let waits = take_array(&mut lab.bpf, "WAITS");
        let made = take_array(&mut lab.bpf, "MADE");
        Self { lab, waits, made }
    }

    /// Makes `count` waits, going round `wanted_ns`; returns the lengths really made, of the last round.
    fn make(&mut self, wanted_ns: &[u64], count: u64) -> Vec<u64> {
        for slot in 0..WAITS {
            let wanted_ns = wanted_ns[slot as usize % wanted_ns.len()];
            self.waits.set(slot as u32, [wanted_ns, 0], 0).expect("set");
        }
        self.made.set(0, [0, count], 0).expect("set");
        while self.made.get(&0, 0).expect("get")[0] < count {
            self.lab.stretch(STRETCH);
        }
        (0..count.min(WAITS))
            .map(|slot| {
                let [wanted_ns, made_ns] = self.waits.get(&(slot as u32), 0).expect("get");
                assert!(made_ns >= wanted_ns, "{made_ns} ns made of {wanted_ns}");
                made_ns
            })
            .collect()
    }

    fn stats(&self) -> CpuStats {
        self.lab.bpf.stats().expect("stats")[self.lab.cpu as usize]
    }

    fn gaps(&mut self) -> Vec<GapRecord> {
        let mut gaps = Vec::new();
        self.lab.bpf.take_gaps(|gap| gaps.push(gap));
        gaps
    }
}

fn knobs() -> Knobs {
    Knobs {
        threshold_ns: THRESHOLD_NS,
        records_per_s: 1_000_000,
        interval: 1,
        look_ns: 0,
    }
}

/// From 2 us to 1 ms, evenly on a logarithmic scale: both sides of the threshold, in some 70 buckets.
fn lengths(count: u32) -> Vec<u64> {
    (0..count)
        .map(|i| (2_000.0 * 500f64.powf(f64::from(i) / f64::from(count))) as u64)
        .collect()
}

#[test]
fn count_sum_extremes_and_every_bucket_agree_with_the_gaps_made() {
    let mut maker = Maker::new(knobs());
    let made = maker.make(&lengths(300), 300);
    let gaps: Vec<u64> = made
        .iter()
        .copied()
        .filter(|ns| *ns >= THRESHOLD_NS)
        .collect();
    assert!(
        (100..300).contains(&gaps.len()),
        "the waits lie on one side of the threshold"
    );

    let stats = maker.stats();
    assert_eq!(stats.gaps.count, gaps.len() as u64);
    assert_eq!(stats.gaps.sum_ns, gaps.iter().sum::<u64>());
    assert_eq!(Some(&stats.gaps.min_ns), gaps.iter().min());
    assert_eq!(Some(&stats.gaps.max_ns), gaps.iter().max());
    assert_eq!(Some(&stats.gaps.last_ns), gaps.last());
    let mut histogram = [0u64; buckets::BUCKETS];
    for ns in &gaps {
        histogram[buckets::position(*ns)] += 1;
    }
    assert_eq!(stats.histogram(), histogram);
    // Nothing is to be proven here, so nothing is.
    assert_eq!(stats.causes[0].count, stats.gaps.count);
    assert_eq!(stats.counted, CauseCounts::default());
    assert!(stats.stretches.exposure_ns >= made.iter().sum::<u64>());
    assert_eq!(stats.stretches.clock_went_back, 0);

    let cpu = maker.lab.cpu;
    let records = maker.gaps();
    let durations: Vec<u64> = records.iter().map(|record| record.duration_ns).collect();
    assert_eq!(durations, gaps);
    assert!(records.iter().all(|record| record.cpu == u64::from(cpu)));
    assert!(records.is_sorted_by_key(|record| record.end_ns));
    assert_eq!(stats.records_sent, gaps.len() as u64);
    assert_eq!(
        records.last().map(|last| last.end_ns),
        Some(stats.gaps.last_end_ns)
    );
}

#[test]
fn the_threshold_can_be_changed_while_the_program_is_attached() {
    let mut maker = Maker::new(knobs());
    maker.make(&[10_000], 20);
    let before = maker.stats().gaps.count;
    let mut lower = maker.lab.bpf.knobs().expect("knobs");
    lower.threshold_ns = 5_000;
    maker.lab.bpf.set_knobs(lower).expect("knobs");
    maker.make(&[10_000], 20);
    // A wait of 10 us can be stretched past 20 us by the machine, but not below 10 us.
    assert_eq!(maker.stats().gaps.count, before + 20);
}

#[test]
fn each_interval_has_its_own_extremes() {
    let mut maker = Maker::new(knobs());
    let mut total = 0;
    for (interval, wanted_ns) in [(1, 400_000), (2, 40_000), (3, 90_000)] {
        let mut knobs = maker.lab.bpf.knobs().expect("knobs");
        knobs.interval = interval;
        maker.lab.bpf.set_knobs(knobs).expect("knobs");
        let made = maker.make(&[wanted_ns, wanted_ns * 2], 10);
        let stats = maker.stats();
        let extremes = stats.interval[(interval & 1) as usize];
        assert_eq!(extremes.interval, interval);
        assert_eq!(Some(&extremes.min_ns), made.iter().min());
        assert_eq!(Some(&extremes.max_ns), made.iter().max());
        total += 10;
        assert_eq!(stats.gaps.count, total);
    }
}

#[test]
fn single_gaps_above_the_limit_are_kept_back_and_counted() {
    let mut maker = Maker::new(Knobs {
        records_per_s: 10,
        ..knobs()
    });
    let mut waits = [30_000; 100];
    waits[70] = 500_000;
    maker.make(&waits, 100);
    let stats = maker.stats();
    assert_eq!(stats.gaps.count, 100);
    assert_eq!(stats.records_sent + stats.records_limited, 100);
    assert!(stats.records_limited > 0);
    assert!(stats.records_sent >= 10);
    assert_eq!(stats.records_lost, 0);
    let gaps = maker.gaps();
    assert_eq!(gaps.len() as u64, stats.records_sent);
    // The longest comes through whatever the limit.
    let longest = gaps.iter().map(|gap| gap.duration_ns).max();
    assert_eq!(longest, Some(stats.gaps.max_ns));
}

#[test]
fn single_gaps_that_find_no_room_are_counted_as_lost_and_in_everything_else() {
    let mut maker = Maker::new(Knobs {
        threshold_ns: 1,
        ..knobs()
    });
    maker.make(&[2_000], 10_000);
    let stats = maker.stats();
    assert_eq!(stats.gaps.count, 10_000);
    assert_eq!(stats.histogram().iter().sum::<u64>(), 10_000);
    assert!(
        stats.records_lost > 0,
        "the buffer holds more than it should"
    );
    assert_eq!(stats.records_sent + stats.records_lost, 10_000);
    assert_eq!(maker.gaps().len() as u64, stats.records_sent);
}
