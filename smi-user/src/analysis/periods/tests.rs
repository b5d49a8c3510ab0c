//! Intervals that are there are found, and none that are not.

use super::super::{
    Summariser,
    synthetic::{Plan, Source, When, noise},
    timeline::after,
};
use crate::{
    model::{Period, Snapshot, Summary},
    recording::Line,
    settings::Mode,
};

/// Recordings of each kind that must not have an interval. `SMILAT_TRIALS` has more made, to measure how rarely it happens.
fn trials() -> u64 {
    std::env::var("SMILAT_TRIALS").map_or(1, |trials| trials.parse().expect("a number"))
}

fn every(interval: f64, jitter: f64) -> Source {
    Source {
        when: When::Every(interval, jitter),
        us: 200.0,
        cause: 0,
        cpu: None,
    }
}

/// Nothing regular is found in `plan`, whatever the seed.
#[track_caller]
fn nothing(name: &str, plan: &Plan) {
    let (mut events, mut wrong) = (0, Vec::new());
    for seed in 0..trials() {
        let summary = plan.summary(seed);
        events += summary
            .periods_searched
            .as_ref()
            .map_or(0, |searched| searched.events);
        wrong.extend(summary.periods.first().cloned());
    }
    println!(
        "{name}: {} wrong of {}, {} events each",
        wrong.len(),
        trials(),
        events / trials()
    );
    assert!(
        events / trials() >= 50,
        "{name}: {} events are too few to be a test",
        events / trials()
    );
    // One in ten thousand is allowed for, and there are a few hundred trials at the most.
    assert!(wrong.len() as u64 <= trials() / 200, "{name}: {wrong:?}");
}

#[test]
fn random_gaps_have_no_interval() {
    for (width, window) in [(1, 100), (50, 100), (80, 100)] {
        let rate = 1.5 * window as f64 / width as f64;
        let plan = Plan::new(200, width, window, vec![noise(When::Random(rate))]);
        nothing(&format!("random, {width} of {window} ms"), &plan);
    }
}

#[test]
fn dense_random_gaps_do_not_show_the_windows() {
    for (width, window) in [(10, 100), (50, 100), (80, 100), (95, 100)] {
        let rate = 30.0 * window as f64 / width as f64;
        let plan = Plan::new(60, width, window, vec![noise(When::Random(rate))]);
        nothing(&format!("dense, {width} of {window} ms"), &plan);
        let short = Plan { seconds: 8, ..plan };
        nothing(&format!("dense and short, {width} of {window} ms"), &short);
    }
}

#[test]
fn bursts_have_no_interval() {
    for (rate, size, spread) in [
        (0.2, 20.0, 0.5),
        (0.05, 50.0, 5.0),
        (0.5, 10.0, 0.02),
        (0.02, 100.0, 30.0),
    ] {
        let bursts = noise(When::Bursts(rate, size, spread));
        for (width, window) in [(50, 100), (80, 100)] {
            let plan = Plan::new(300, width, window, vec![bursts, noise(When::Random(0.5))]);
            nothing(
                &format!("bursts {rate} {size} {spread}, {width} of {window} ms"),
                &plan,
            );
        }
    }
}

#[test]
fn one_bad_cpu_among_many_in_turn_has_no_interval() {
    for cpus in [16, 64] {
        let mut plan = Plan::new(
            1_200,
            10,
            100,
            vec![
                noise(When::Random(300.0)),
                noise(When::Bursts(1.0, 5.0, 0.2)),
            ],
        );
        plan.cpus = cpus;
        plan.detector.mode = Mode::RoundRobin;
        nothing(&format!("round-robin over {cpus}"), &plan);
    }
}

#[test]
fn windows_at_a_fixed_distance_are_no_interval() {
    for mode in [Mode::PerCpu, Mode::RoundRobin] {
        let mut plan = Plan::new(600, 200, 1_000, vec![noise(When::Random(6.0))]);
        plan.cpus = 2;
        plan.detector.mode = mode;
        plan.detector.name = "hwlat".to_owned();
        nothing(&format!("hwlat, {mode}"), &plan);
    }
}

#[test]
fn windows_of_settings_that_were_changed_are_no_interval() {
    let mut first = Plan::new(600, 200, 1_000, vec![noise(When::Random(6.0))]);
    first.detector.name = "hwlat".to_owned();
    let second = Plan::new(100, 50, 100, vec![noise(When::Random(0.5))]);
    let mut all: Vec<Snapshot> = first.snapshots(1).collect();
    let last = all[599].clone();
    all[599].last = false;
    for mut snapshot in second.snapshots(2) {
        snapshot.time = after(snapshot.time, last.elapsed_ns);
        for gap in &mut snapshot.gaps {
            gap.end_time = after(gap.end_time, last.elapsed_ns);
        }
        snapshot.go_on_from(&last, last.elapsed_ns);
        all.push(snapshot);
    }
    let mut summariser = Summariser::new("changed".to_owned(), None);
    for snapshot in all {
        summariser.add("changed", Line::Snapshot(Box::new(snapshot)));
    }
    let summary = summariser.finish().expect("snapshots");
    assert!(
        summary
            .periods_searched
            .is_some_and(|searched| searched.events > 500)
    );
    assert_eq!(summary.periods, []);
}

#[test]
fn records_kept_back_each_second_are_no_interval() {
    let mut plan = Plan::new(
        300,
        50,
        100,
        vec![
            noise(When::Random(4.0)),
            noise(When::Bursts(0.3, 40.0, 1.0)),
        ],
    );
    plan.records_per_s = 5;
    plan.interval_s = 2;
    nothing("limited", &plan);
}

/// The only interval found.
#[track_caller]
fn only(name: &str, summary: &Summary, interval: f64) -> Period {
    let [period] = &summary.periods[..] else {
        panic!("{name}: {:?}", summary.periods);
    };
    let apart = (period.interval_ns - interval * 1e9).abs();
    assert!(
        apart <= period.uncertainty_ns.max(2e-3 * interval * 1e9),
        "{name}: {period:?}"
    );
    period.clone()
}

#[test]
fn a_fixed_interval_is_found_among_unrelated_gaps() {
    for (interval, jitter, seconds, noise_rate) in [
        (1.0, 0.0, 2_000, 1.0),
        (1.0, 0.01, 2_000, 1.0),
        (60.0, 0.001, 86_400, 1.0 / 60.0),
        (0.064, 0.01, 200, 15.6),
        (0.064, 0.01, 300, 60.0),
        (0.0025, 0.0, 20, 400.0),
    ] {
        for seed in 0..trials().min(10) {
            let mut plan = Plan::new(
                seconds,
                10,
                100,
                vec![every(interval, jitter), noise(When::Random(noise_rate))],
            );
            plan.interval_s = (seconds / 200).max(1);
            let name = format!("{interval} s with {jitter}, seed {seed}");
            let summary = plan.summary(seed);
            let period = only(&name, &summary, interval);
            assert!(
                period.p_value < 1e-4 && period.coherence > 0.1,
                "{name}: {period:?}"
            );
        }
    }
}

#[test]
fn every_cpu_sees_the_same_smi_once() {
    let mut plan = Plan::new(300, 50, 100, vec![every(1.0, 0.001)]);
    plan.cpus = 8;
    let period = only("8 CPUs", &plan.summary(1), 1.0);
    assert!(period.gaps <= 301, "{period:?}");
    assert!(period.coherence > 0.8, "{period:?}");
}

#[test]
fn two_intervals_are_told_apart() {
    let plan = Plan::new(1_000, 50, 100, vec![every(1.0, 0.0), every(0.37, 0.0)]);
    let summary = plan.summary(1);
    let mut found: Vec<f64> = summary
        .periods
        .iter()
        .map(|period| (period.interval_ns / 1e7).round() / 100.0)
        .collect();
    found.sort_by(f64::total_cmp);
    assert_eq!(found, [0.37, 1.0]);
}

#[test]
fn long_gaps_keep_time_among_many_short_ones() {
    let mut plan = Plan::new(
        3_600,
        50,
        100,
        vec![every(10.0, 0.0), noise(When::Random(0.5))],
    );
    plan.interval_s = 10;
    let period = only("long", &plan.summary(1), 10.0);
    assert!(period.coherence > 0.9, "{period:?}");
}
