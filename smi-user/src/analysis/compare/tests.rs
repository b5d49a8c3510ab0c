//! Differences that are there are found; those that chance makes are called chance, as often as they should be.

use super::super::{
    synthetic::{Plan, Source, When, noise, summary_of},
    timeline,
};
use super::*;
use crate::model::Snapshot;

/// Pairs of recordings compared to see how often chance is called a difference. `SMILAT_TRIALS` has more made, to measure it.
fn pairs() -> u64 {
    std::env::var("SMILAT_TRIALS").map_or(100, |trials| trials.parse().expect("a number"))
}

fn plan(sources: Vec<Source>) -> Plan {
    // These tests need no single gaps.
    let mut plan = Plan::new(200, 50, 100, sources);
    plan.records_per_s = 0;
    plan
}

fn summary(plan: &Plan, seed: u64) -> Summary {
    summary_of(&format!("made up with {seed}"), plan.snapshots(seed))
}

fn difference(before: &Plan, after: &Plan, seed: u64) -> Difference {
    compare(&summary(before, 2 * seed), &summary(after, 2 * seed + 1)).rows[0].clone()
}

/// Of `pairs()` without a difference, the shares with a probability below 0.01, for rates and for durations.
fn called_different(plan: &Plan) -> (u64, u64) {
    let mut called = (0, 0);
    for seed in 0..pairs() {
        let row = difference(plan, plan, seed);
        called.0 += u64::from(row.rate_p_value.is_some_and(|p| p < 0.01));
        called.1 += u64::from(row.duration_p_value.is_some_and(|p| p < 0.01));
    }
    called
}

#[test]
fn chance_is_rarely_called_a_difference() {
    // By chance 1 of 100 is expected; 6 or more have a probability below 0.001.
    let pairs = pairs();
    // Of the durations, in long bursts, up to three times as many (docs/report.md).
    let most = 3 * pairs / 100 + 2;
    for (name, sources) in [
        ("random", vec![noise(When::Random(2.0))]),
        ("few", vec![noise(When::Random(0.1))]),
        ("bursts", vec![noise(When::Bursts(0.3, 20.0, 2.0))]),
        ("few bursts", vec![noise(When::Bursts(0.015, 20.0, 0.5))]),
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
        println!("{name}: rates {rates}, durations {durations} of {pairs}");
        assert!(rates <= most, "{name}: {rates} of {pairs} rates");
        assert!(
            durations <= most,
            "{name}: {durations} of {pairs} durations"
        );
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
        let comparison = compare(&summary(&before, 1), &summary(&after, 2));
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
    let before = summary(&plan(sources.clone()), 1);
    let mut after = summary(&plan(sources[1..].to_vec()), 2);
    after.threshold_range_ns = (50_000, 50_000);
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
    let before = summary(&other, 1);
    other.detector.gap_kind = GapKind::WindowMax;
    let row = compare(&before, &summary(&other, 2)).rows[0].clone();
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

/// A rate of gaps that came as `much` says, a second each.
fn counted(much: &[f64]) -> statistics::Ratio {
    let blocks: Vec<Block> = much
        .iter()
        .map(|much| Block {
            much: *much,
            of: 1.0,
        })
        .collect();
    Ratio::of(&blocks, much.iter().sum()).expect("enough blocks")
}

#[test]
fn a_few_bursts_are_a_few_and_not_many_gaps() {
    let (mut one, mut bursts) = ([0.0; 200], [0.0; 200]);
    one[77] = 1.0;
    for at in [20, 90, 150] {
        bursts[at] = 20.0;
    }
    for (before, after) in [(one, bursts), (bursts, one), ([0.0; 200], bursts)] {
        let rates = statistics::rates(&counted(&before), &counted(&after)).expect("gaps");
        assert!(rates.p > 0.05, "{rates:?}");
    }
    // Many bursts are a difference, though the other has a single gap.
    for burst in bursts.chunks_mut(10) {
        burst[5] = 20.0;
    }
    let rates = statistics::rates(&counted(&one), &counted(&bursts)).expect("gaps");
    assert!(rates.p < 0.001, "{rates:?}");
}

/// The first lines of a recording are gone: half of its gaps, and its busy half.
#[test]
fn what_came_before_the_first_line_left_is_not_compared() {
    let quiet = plan(vec![noise(When::Random(2.0))]);
    let busy = plan(vec![noise(When::Random(20.0))]);
    let begun: Vec<Snapshot> = busy.snapshots(1).collect();
    let mut went_on: Vec<Snapshot> = quiet.snapshots(2).collect();
    let last = begun.last().expect("a snapshot");
    for snapshot in &mut went_on {
        snapshot.time = timeline::after(snapshot.time, last.elapsed_ns);
        snapshot.go_on_from(last, last.elapsed_ns);
    }
    let cut = summary_of("cut", went_on);
    let other = summary(&plan(vec![noise(When::Random(4.0))]), 3);
    let comparison = compare(&cut, &other);
    let row = &comparison.rows[0];
    let (low, high) = row.ratio_range.expect("a range");
    let ratio = row.ratio.expect("a ratio");
    assert!(low < ratio && ratio < high, "{row:?}");
    assert!((1.6..2.5).contains(&ratio), "{row:?}");
    assert_eq!(row.rate_differs, Some(true), "{row:?}");
    let remark = comparison
        .remarks
        .iter()
        .find(|remark| remark.contains("are not compared"))
        .expect("a remark");
    // Of the first line that is left, nothing is known but what it adds up to.
    let told = last.total().count;
    assert!(remark.contains("cut had counted"), "{remark}");
    assert!(
        remark
            .split(' ')
            .next()
            .and_then(|count| count.parse().ok())
            .is_some_and(|count: u64| (told..told + 50).contains(&count)),
        "{remark}, not {told}"
    );
    assert!(row.max_before <= cut.total.max_ns);
}

#[test]
fn settings_that_changed_within_a_recording_count() {
    let sources = vec![
        noise(When::Random(10.0)),
        Source {
            us: 100.0,
            ..noise(When::Random(4.0))
        },
    ];
    let whole = summary(&plan(sources.clone()), 1);
    let mut changed = summary(&plan(sources.clone()), 2);
    changed.threshold_range_ns = (10_000, 50_000);
    let comparison = compare(&whole, &changed);
    assert!(
        comparison.remarks[0].contains("10.0 us and 10.0 us to 50.0 us: only gaps above"),
        "{:?}",
        comparison.remarks
    );
    assert!(
        comparison.rows[0]
            .rate_before
            .is_some_and(|rate| rate < 6.0),
        "{:?}",
        comparison.rows[0]
    );
    let mut mixed = summary(&plan(sources), 2);
    mixed.gap_kinds_mixed = true;
    let comparison = compare(&whole, &mixed);
    assert_eq!(comparison.rows[0].rate_differs, None);
    assert!(
        comparison.remarks[0].contains("for a part of the time"),
        "{:?}",
        comparison.remarks
    );
}
