//! Differences that are there are found; those that chance makes are called chance, as often as they should be.

use super::super::synthetic::{Plan, Source, When, noise};
use super::*;

/// Pairs of recordings compared to see how often chance is called a difference.
const PAIRS: u64 = 100;

fn plan(sources: Vec<Source>) -> Plan {
    // A search for fixed intervals needs single gaps, and these tests need none.
    let mut plan = Plan::new(200, 50, 100, sources);
    plan.records_per_s = 0;
    plan
}

fn difference(before: &Plan, after: &Plan, seed: u64) -> Difference {
    compare(&before.summary(2 * seed), &after.summary(2 * seed + 1)).rows[0].clone()
}

/// Of `PAIRS` without a difference, the shares with a probability below 0.01, for rates and for durations.
fn called_different(plan: &Plan) -> (u64, u64) {
    let mut called = (0, 0);
    for seed in 0..PAIRS {
        let row = difference(plan, plan, seed);
        called.0 += u64::from(row.rate_p_value.is_some_and(|p| p < 0.01));
        called.1 += u64::from(row.duration_p_value.is_some_and(|p| p < 0.01));
    }
    called
}

#[test]
fn chance_is_rarely_called_a_difference() {
    // By chance 1 of 100 is expected; 6 or more have a probability below 0.001.
    for (name, sources) in [
        ("random", vec![noise(When::Random(2.0))]),
        ("few", vec![noise(When::Random(0.1))]),
        ("bursts", vec![noise(When::Bursts(0.3, 20.0, 2.0))]),
        (
            "bursts among others",
            vec![
                noise(When::Random(5.0)),
                Source {
                    us: 500.0,
                    ..noise(When::Bursts(0.1, 30.0, 5.0))
                },
            ],
        ),
    ] {
        let (rates, durations) = called_different(&plan(sources));
        println!("{name}: rates {rates}, durations {durations} of {PAIRS}");
        assert!(rates < 6, "{name}: {rates} of {PAIRS} rates");
        assert!(durations < 6, "{name}: {durations} of {PAIRS} durations");
    }
}

#[test]
fn twice_as_many_are_found() {
    for (name, when, twice) in [
        ("random", When::Random(4.0), When::Random(8.0)),
        (
            "bursts",
            When::Bursts(1.0, 5.0, 0.2),
            When::Bursts(2.0, 5.0, 0.2),
        ),
    ] {
        let (mut before, mut after) = (plan(vec![noise(when)]), plan(vec![noise(twice)]));
        (before.seconds, after.seconds) = (600, 600);
        let row = difference(&before, &after, 1);
        assert_eq!(row.rate_differs, Some(true), "{name}: {row:?}");
        let (low, high) = row.ratio_range.expect("a range");
        assert!(low < 2.0 && 2.0 < high && low > 1.0, "{name}: {row:?}");
        assert_ne!(row.durations_differ, Some(true), "{name}: {row:?}");
    }
}

#[test]
fn longer_gaps_are_found_though_as_many() {
    let source = noise(When::Random(4.0));
    let longer = Source { us: 26.0, ..source };
    let row = difference(&plan(vec![source]), &plan(vec![longer]), 3);
    assert_eq!(row.durations_differ, Some(true), "{row:?}");
    assert_ne!(row.rate_differs, Some(true), "{row:?}");
}

#[test]
fn a_cause_that_is_new_is_more_than_chance_only_when_it_comes_often_enough() {
    let smi = |rate| Source {
        cause: 1,
        ..noise(When::Random(rate))
    };
    let before = plan(vec![noise(When::Random(4.0))]);
    for (rate, differs) in [(1.0, true), (0.02, false)] {
        let after = plan(vec![noise(When::Random(4.0)), smi(rate)]);
        let comparison = compare(&before.summary(1), &after.summary(2));
        let row = comparison
            .rows
            .iter()
            .find(|row| row.cause.is_some_and(Cause::has_smi))
            .expect("a row for SMIs");
        assert_eq!(row.rate_differs, Some(differs), "{row:?}");
        assert_eq!((row.ratio, row.ratio_range), (None, None));
        assert_eq!(row.rate_before, Some(0.0));
    }
}

#[test]
fn thresholds_that_differ_leave_what_both_saw() {
    let sources = vec![
        noise(When::Random(10.0)),
        Source {
            us: 100.0,
            ..noise(When::Random(4.0))
        },
    ];
    let before = plan(sources.clone()).summary(1);
    let mut after = plan(sources[1..].to_vec()).summary(2);
    after.detector.threshold_ns = 50_000;
    let comparison = compare(&before, &after);
    let row = &comparison.rows[0];
    assert_ne!(row.rate_differs, Some(true), "{row:?}");
    assert!(
        row.ratio.is_some_and(|ratio| (0.7..1.4).contains(&ratio)),
        "{row:?}"
    );
    assert!(
        comparison
            .remarks
            .iter()
            .any(|remark| remark.contains("thresholds differ")),
        "{:?}",
        comparison.remarks
    );
}

#[test]
fn what_cannot_be_told_is_not_told() {
    let mut short = plan(vec![noise(When::Random(50.0))]);
    short.seconds = 4;
    let row = difference(&short, &short, 1);
    assert_eq!((row.rate_p_value, row.rate_differs), (None, None));
    assert_eq!((row.duration_p_value, row.durations_differ), (None, None));
    let mut other = plan(vec![noise(When::Random(5.0))]);
    let before = other.summary(1);
    other.detector.gap_kind = GapKind::WindowMax;
    let row = compare(&before, &other.summary(2)).rows[0].clone();
    assert_eq!((row.rate_differs, row.durations_differ), (None, None));
    let quiet = plan(Vec::new());
    let row = difference(&quiet, &quiet, 1);
    assert_eq!((row.rate_p_value, row.ratio), (None, None));
}

#[test]
fn the_more_questions_the_surer_an_answer_must_be() {
    assert_eq!(
        statistics::holm(&[Some(0.004), None, Some(0.9), Some(0.003)], 0.01),
        [Some(true), None, Some(false), Some(true)]
    );
    assert_eq!(
        statistics::holm(&[Some(0.004), Some(0.9), Some(0.8)], 0.01),
        [Some(false), Some(false), Some(false)]
    );
}
