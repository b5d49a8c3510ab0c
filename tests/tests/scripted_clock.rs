//! The shipped loop, instruction for instruction, on readings that a test wrote: a gap is seen wherever it falls among
//! the readings of a round.

use std::time::Duration;

use aya::maps::{Array, MapData};
use smi_common::{GapRecord, Knobs};
use smi_user::kernel::clock::monotonic_ns;
use tests::{Lab, take_array, two_cpus};

const STEP_NS: u64 = 30;
const THRESHOLD_NS: u64 = 1_000;

/// Feeds the loop with readings `steps` apart and returns what it counted and the single gaps.
fn run(steps: impl IntoIterator<Item = i64>) -> (smi_common::CpuStats, Vec<GapRecord>) {
    let (cpu, _) = two_cpus();
    let mut lab = Lab::new(
        "scripted",
        cpu,
        Knobs {
            threshold_ns: THRESHOLD_NS,
            records_per_s: 1_000_000,
            interval: 1,
            look_ns: 0,
        },
    );
    let mut readings: Array<MapData, u64> = take_array(&mut lab.bpf, "READINGS");
    let begin_ns = monotonic_ns();
    let mut reading_ns = begin_ns;
    let mut place = 0;
    let mut say = |ns| {
        readings.set(place, ns, 0).expect("set");
        place += 1;
    };
    say(begin_ns);
    for step in steps {
        reading_ns = reading_ns.strict_add_signed(step);
        say(reading_ns);
    }
    let length_ns = reading_ns - begin_ns;
    // The loop looks at the end only once a round; what it reads until then adds nothing.
    for _ in 0..64 {
        say(reading_ns);
    }
    lab.stretch(Duration::from_nanos(length_ns));
    let mut gaps = Vec::new();
    lab.bpf.take_gaps(|gap| gaps.push(gap));
    (lab.bpf.stats().expect("stats")[cpu as usize], gaps)
}

#[test]
fn a_gap_is_seen_at_each_of_the_64_places_of_a_round() {
    let mut steps = Vec::new();
    let mut expected = Vec::new();
    for place in 0..64 {
        // A gap ends its round, so each round gets `place` plain steps before its gap.
        steps.extend([STEP_NS.cast_signed(); 64][..place].iter());
        let gap_ns = THRESHOLD_NS + place as u64;
        steps.push(gap_ns.cast_signed());
        expected.push(gap_ns);
        // The reading after the recording, from which the loop goes on.
        steps.push(7);
    }
    let plain: u64 = (0..64).map(|place| place * STEP_NS).sum();
    let (stats, gaps) = run(steps);
    let seen: Vec<u64> = gaps.iter().map(|gap| gap.duration_ns).collect();
    assert_eq!(seen, expected);
    assert_eq!(stats.gaps.count, 64);
    assert_eq!(stats.gaps.sum_ns, expected.iter().sum::<u64>());
    // All but the 7 ns of each recording.
    assert_eq!(stats.stretches.exposure_ns, plain + stats.gaps.sum_ns);
    assert_eq!(stats.stretches.clock_went_back, 0);
}

#[test]
fn the_threshold_is_the_shortest_gap() {
    let below = THRESHOLD_NS.cast_signed() - 1;
    let (stats, gaps) = run([below, below + 1, 7, below, below + 2, 7, below]);
    let seen: Vec<u64> = gaps.iter().map(|gap| gap.duration_ns).collect();
    assert_eq!(seen, [THRESHOLD_NS, THRESHOLD_NS + 1]);
    assert_eq!(stats.gaps.min_ns, THRESHOLD_NS);
    assert_eq!(stats.gaps.max_ns, THRESHOLD_NS + 1);
}

#[test]
fn a_clock_that_goes_back_is_counted_and_is_no_gap() {
    let (stats, gaps) = run([30, 30, -20, 7, 30, 2_000, 7, 30]);
    assert_eq!(stats.stretches.clock_went_back, 1);
    assert_eq!(stats.gaps.count, 1);
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].duration_ns, 2_000);
}
