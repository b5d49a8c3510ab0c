//! A summary says what its lines say, neither more nor less.

use super::super::synthetic::{Plan, Source, When, noise};
use super::*;
use crate::{
    made_up::{self, BEGAN},
    model::{Cause, Gap},
};

fn plan(seconds: u64) -> Plan {
    let mut plan = Plan::new(
        seconds,
        50,
        100,
        vec![
            noise(When::Bursts(0.5, 5.0, 1.0)),
            Source {
                us: 300.0,
                cause: 1,
                cpu: None,
                when: When::Random(0.2),
            },
        ],
    );
    plan.cpus = 2;
    plan
}

fn header(started: i64, part: u64) -> Line {
    Line::Header(Box::new(Header {
        started: Timestamp::from_second(started).expect("a time"),
        part,
        hardlimit_ns: Some(100_000),
        ..made_up::header()
    }))
}

fn lines(snapshots: impl IntoIterator<Item = Snapshot>) -> Vec<Line> {
    snapshots
        .into_iter()
        .map(|snapshot| Line::Snapshot(Box::new(snapshot)))
        .collect()
}

fn summary(lines: Vec<Line>) -> Summary {
    let mut summariser = Summariser::new("x".to_owned(), None);
    for line in lines {
        summariser.add("x", line);
    }
    summariser.finish_quickly().expect("a summary")
}

/// All gaps of the time line.
fn on_time_line(summary: &Summary) -> Interval {
    let mut sum = Interval::default();
    for slot in &summary.timeline {
        sum.add(&slot.counts);
        assert_eq!(
            slot.causes.iter().map(|of| of.count).sum::<u64>(),
            slot.counts.count
        );
    }
    sum
}

#[test]
fn totals_and_time_line_are_those_of_the_last_line_however_many_lines() {
    for seconds in [1, 7, 480, 481, 2_000] {
        let all: Vec<Snapshot> = plan(seconds).snapshots(1).collect();
        let last = all.last().expect("a snapshot").clone();
        let single: usize = all.iter().map(|snapshot| snapshot.gaps.len()).sum();
        let summary = summary(lines(all));
        assert_eq!(summary.total, last.total());
        assert_eq!(summary.causes, last.causes());
        assert_eq!(summary.cpus, last.cpus);
        assert_eq!(on_time_line(&summary), last.total(), "{seconds}");
        assert_eq!((summary.snapshots, summary.runs), (seconds, 1));
        assert_eq!((summary.gaps.len(), summary.gaps_left_out), (single, 0));
        assert_eq!(summary.began, BEGAN);
        assert_eq!(summary.remarks, [""; 0]);
        let slots = summary.timeline.len() as u64;
        assert!(slots <= 480 && slots >= seconds.min(240), "{slots}");
        assert!(
            summary
                .timeline
                .iter()
                .all(|slot| slot.counts.exposure_ns > 0)
        );
    }
}

#[test]
fn what_is_missing_is_told_and_lost_from_nothing_but_single_gaps() {
    let all: Vec<Snapshot> = plan(30).snapshots(3).collect();
    let last = all[29].clone();
    let mut some = lines(all);
    some.drain(10..15);
    some.insert(
        10,
        Line::Torn {
            number: 11,
            bytes: 77,
        },
    );
    let summary = summary(some);
    assert_eq!(summary.total, last.total());
    assert_eq!(on_time_line(&summary), last.total());
    assert!(summary.remarks[0].contains("line 11 of x is torn after 77 bytes"));
    assert!(
        summary.remarks[1].contains("5 snapshots are missing"),
        "{:?}",
        summary.remarks
    );
}

#[test]
fn a_part_without_those_before_it_has_no_spike_at_its_beginning() {
    let all: Vec<Snapshot> = plan(30).snapshots(3).collect();
    let last = all[29].clone();
    let known = last.total().count - all[20].total().count;
    let summary = summary(lines(all.into_iter().skip(20)));
    assert_eq!(summary.total, last.total());
    assert_eq!(on_time_line(&summary).count, known);
    assert!(
        summary.remarks[0].contains("begins with interval 21"),
        "{:?}",
        summary.remarks
    );
}

#[test]
fn the_longest_gaps_stay_when_there_are_too_many() {
    let mut plan = Plan::new(600, 50, 100, vec![noise(When::Random(300.0))]);
    plan.sources.push(Source {
        us: 5_000.0,
        ..noise(When::Random(0.1))
    });
    let all: Vec<Snapshot> = plan.snapshots(5).collect();
    let mut single: Vec<u64> = all
        .iter()
        .flat_map(|snapshot| &snapshot.gaps)
        .map(|gap| gap.duration_ns)
        .collect();
    let summary = summary(lines(all));
    assert!(single.len() > 40_000, "{} gaps are no test", single.len());
    assert!(summary.gaps.len() <= 20_000 && summary.gaps.len() > 15_000);
    assert_eq!(
        summary.gaps.len() as u64 + summary.gaps_left_out,
        single.len() as u64
    );
    assert!(summary.gaps.is_sorted_by_key(|gap| gap.end_time));
    let mut kept: Vec<u64> = summary.gaps.iter().map(|gap| gap.duration_ns).collect();
    single.sort_unstable();
    kept.sort_unstable();
    assert!(single.iter().rev().take(20).eq(kept.iter().rev().take(20)));
}

#[test]
fn the_hardlimit_asked_for_goes_before_the_recorded_one() {
    for (asked, limit_ns, exceeded) in
        [(None, 100_000, true), (Some(10_000_000), 10_000_000, false)]
    {
        let mut summariser = Summariser::new("x".to_owned(), asked);
        summariser.add("x", header(1, 1));
        let mut over = 0;
        for snapshot in plan(60).snapshots(1) {
            over += snapshot
                .gaps
                .iter()
                .filter(|gap| gap.duration_ns > limit_ns)
                .count() as u64;
            summariser.add("x", Line::Snapshot(Box::new(snapshot)));
        }
        let summary = summariser.finish_quickly().expect("a summary");
        let verdict = summary.verdict.expect("a verdict");
        assert_eq!(
            (verdict.hardlimit_ns, verdict.exceeded, verdict.over),
            (limit_ns, exceeded, over)
        );
        assert_eq!(
            verdict.worst.map(|gap| gap.duration_ns),
            summary.total.max_ns.filter(|_| exceeded)
        );
    }
    let mut summariser = Summariser::new("x".to_owned(), Some(9_000));
    for line in lines(plan(2).snapshots(1)) {
        summariser.add("x", line);
    }
    let error = summariser
        .finish()
        .expect_err("below the threshold")
        .to_string();
    assert!(
        error.contains("--hardlimit 9.00 us is below the threshold 10.0 us of x"),
        "{error}"
    );
}

#[test]
fn settings_and_clocks_that_change_are_told() {
    let mut all: Vec<Snapshot> = plan(10).snapshots(1).collect();
    for snapshot in &mut all[5..] {
        snapshot.detector.threshold_ns = 20_000;
        snapshot.time = timeline::after(snapshot.time, 3_600_000_000_000);
    }
    let summary = summary(lines(all));
    assert!(
        summary.remarks[0].contains("threshold 10.0 us"),
        "{:?}",
        summary.remarks
    );
    assert!(
        summary.remarks[1].contains("wall clock was set"),
        "{:?}",
        summary.remarks
    );
}

#[test]
fn nothing_recorded_is_no_summary() {
    let mut summariser = Summariser::new("x".to_owned(), None);
    summariser.add("x", header(1, 1));
    assert_eq!(
        summariser.finish().expect_err("empty"),
        SummaryError::Empty("x".to_owned())
    );
}

#[test]
fn slots_are_as_long_as_the_longest_interval() {
    // A second each, then a minute each, as after a change of the configuration.
    let mut slow = plan(600);
    slow.interval_s = 60;
    let first: Vec<Snapshot> = plan(10).snapshots(1).collect();
    let mut second = later(slow.snapshots(2), 10);
    for snapshot in &mut second {
        snapshot.go_on_from(&first[9], 10_000_000_000);
    }
    let mut all = first;
    all[9].last = false;
    let last = second[9].total();
    all.extend(second);
    let summary = summary(lines(all));
    assert_eq!(on_time_line(&summary), last);
    assert!(
        summary
            .timeline
            .iter()
            .all(|slot| slot.counts.exposure_ns > 0),
        "{:?}",
        summary
            .timeline
            .iter()
            .map(|slot| slot.counts.exposure_ns)
            .collect::<Vec<_>>()
    );
    assert!(summary.timeline.len() >= 9, "{}", summary.timeline.len());
}

#[test]
fn a_clock_that_is_set_does_not_stretch_the_time_line() {
    let mut all: Vec<Snapshot> = plan(30).snapshots(1).collect();
    let right = summary(lines(all.clone()));
    // Until interval 5, the machine knew no time.
    for snapshot in &mut all[..5] {
        let wrong = |time: Timestamp| timeline::before(time, 1_799_999_000_000_000_000);
        snapshot.time = wrong(snapshot.time);
        for gap in &mut snapshot.gaps {
            gap.end_time = wrong(gap.end_time);
        }
    }
    let set = summary(lines(all));
    assert_eq!(
        (set.began, set.ended, &set.timeline, &set.gaps),
        (right.began, right.ended, &right.timeline, &right.gaps)
    );
    told(&set, "wall clock was set");
}

#[test]
fn the_longest_gap_of_missing_lines_is_not_that_of_the_last_interval() {
    let mut all: Vec<Snapshot> = Plan::new(30, 50, 100, vec![noise(When::Random(4.0))])
        .snapshots(1)
        .collect();
    let long = |snapshot: &mut Snapshot, ns: u64, newest: bool| {
        let cpu = &mut snapshot.cpus[0];
        let newest_max = cpu.gaps.interval_max_ns;
        cpu.count(&Gap::new(0, snapshot.time, ns, Cause::UNKNOWN));
        if !newest {
            cpu.gaps.interval_max_ns = newest_max;
        }
    };
    // One of 5 ms at the beginning, one of 1 ms in a line that is missing.
    for (at, snapshot) in all.iter_mut().enumerate() {
        long(snapshot, 5_000_000, at == 0);
        if at >= 12 {
            long(snapshot, 1_000_000, at == 12);
        }
    }
    all.drain(10..15);
    let summary = summary(lines(all));
    let max_ns = summary.timeline[15].counts.max_ns.expect("gaps");
    assert!((1_000_000..1_100_000).contains(&max_ns), "{max_ns}");
    assert_eq!(summary.timeline[0].counts.max_ns, Some(5_000_000));
}

/// `snapshots` so many seconds later.
fn later(snapshots: impl IntoIterator<Item = Snapshot>, seconds: u64) -> Vec<Snapshot> {
    let move_on = |time| timeline::after(time, seconds * 1_000_000_000);
    snapshots
        .into_iter()
        .map(|mut snapshot| {
            snapshot.time = move_on(snapshot.time);
            for gap in &mut snapshot.gaps {
                gap.end_time = move_on(gap.end_time);
            }
            snapshot
        })
        .collect()
}

#[track_caller]
fn told(summary: &Summary, what: &str) {
    assert!(
        summary.remarks.iter().any(|remark| remark.contains(what)),
        "no \"{what}\" in {:?}",
        summary.remarks
    );
}

mod runs;
