//! Several runs in one recording.

use super::*;
use crate::model::GapKind;

#[test]
fn runs_add_up_and_parts_of_one_run_do_not() {
    let first: Vec<Snapshot> = plan(10).snapshots(1).collect();
    let mut second: Vec<Snapshot> = plan(20).snapshots(2).collect();
    for snapshot in &mut second {
        snapshot.time = timeline::after(snapshot.time, 100_000_000_000);
    }
    let sum = first[9].total().count + second[19].total().count;
    let mut all = vec![header(1, 1)];
    all.extend(lines(first));
    all.push(header(2, 1));
    all.extend(lines(second[..10].to_vec()));
    all.push(header(2, 2));
    all.extend(lines(second[10..].to_vec()));
    let summary = summary(all);
    assert_eq!((summary.runs, summary.total.count), (2, sum));
    assert_eq!(on_time_line(&summary).count, sum);
    assert_eq!(summary.timeline.len(), 120);
    assert_eq!(summary.remarks, [""; 0]);
}

#[test]
fn a_run_that_was_killed_and_started_again_without_a_header_is_two_runs() {
    let mut all = lines(plan(10).snapshots(1).take(6));
    all.extend(lines(plan(10).snapshots(2)));
    let summary = summary(all);
    assert_eq!(summary.runs, 2);
    assert!(
        summary.remarks[0].contains("no last snapshot"),
        "{:?}",
        summary.remarks
    );
}

/// [`header`] with another limit, and a machine with this firmware.
fn header_with(started: i64, hardlimit_ns: Option<u64>, firmware: &str) -> Line {
    let Line::Header(mut header) = header(started, 1) else {
        unreachable!("a header");
    };
    header.hardlimit_ns = hardlimit_ns;
    header.machine.firmware = Some(firmware.to_owned());
    Line::Header(header)
}

#[test]
fn what_is_given_twice_counts_once() {
    let first: Vec<Snapshot> = plan(10).snapshots(1).collect();
    let second = later(plan(10).snapshots(2), 100);
    let run = |started, part, of: &[Snapshot]| {
        let mut all = vec![header(started, part)];
        all.extend(lines(of.to_vec()));
        all
    };
    let once = summary([run(1, 1, &first), run(2, 1, &second)].concat());
    let twice = summary(
        [
            run(1, 1, &first[..5]),
            run(1, 1, &first[..5]),
            run(1, 2, &first[5..]),
            run(1, 2, &first[5..]),
            run(2, 1, &second[..7]),
            run(1, 1, &first),
            run(2, 1, &second[..7]),
        ]
        .concat(),
    );
    let cut = summary([run(1, 1, &first), run(2, 1, &second[..7])].concat());
    assert_eq!(once.snapshots, 20);
    assert_eq!((twice.snapshots, twice.runs), (17, 2));
    assert_eq!(
        (&twice.total, &twice.gaps, &twice.timeline),
        (&cut.total, &cut.gaps, &cut.timeline)
    );
    told(&twice, "27 snapshots were given twice");
    // What goes on after another run has begun cannot be added to its totals.
    let odd = summary(
        [
            run(1, 1, &first[..5]),
            run(2, 1, &second),
            run(1, 2, &first[5..]),
        ]
        .concat(),
    );
    assert_eq!(odd.snapshots, 15);
    told(&odd, "5 snapshots are not counted");
}

#[test]
fn a_last_snapshot_that_repeats_the_one_before_is_of_its_run() {
    let mut all: Vec<Snapshot> = plan(10).snapshots(1).collect();
    all[9].last = false;
    let mut end = all[9].clone();
    end.last = true;
    end.gaps.clear();
    all.push(end);
    let count = all[9].total().count;
    let summary = summary(lines(all));
    assert_eq!((summary.runs, summary.total.count), (1, count));
    assert_eq!(on_time_line(&summary).count, count);
    assert_eq!(summary.remarks, [""; 0]);
}

#[test]
fn a_run_that_takes_longer_than_the_one_before_it_is_another() {
    // Killed after one interval of a second, started again with intervals of four.
    let first: Vec<Snapshot> = plan(8).snapshots(1).take(1).collect();
    let mut slow = plan(40);
    slow.interval_s = 4;
    let second = later(slow.snapshots(2), 10);
    let count = first[0].total().count + second[9].total().count;
    let mut all = first;
    all.extend(second);
    let summary = summary(lines(all));
    assert_eq!((summary.runs, summary.total.count), (2, count));
}

#[test]
fn each_run_is_held_against_its_own_limit() {
    // Gaps of both are about 300 us at the most.
    let runs = |limits: [Option<u64>; 2]| {
        let mut all = vec![header_with(1, limits[0], "1.0")];
        all.extend(lines(plan(60).snapshots(1)));
        all.push(header_with(2, limits[1], "1.1"));
        all.extend(lines(later(plan(60).snapshots(2), 100)));
        summary(all)
    };
    let both = runs([Some(10_000_000), Some(100_000)]);
    let verdict = both.verdict.as_ref().expect("a verdict");
    assert_eq!((verdict.hardlimit_ns, verdict.exceeded), (100_000, true));
    assert!(
        verdict
            .worst
            .is_some_and(|gap| gap.end_time > BEGAN + jiff::SignedDuration::from_secs(100))
    );
    let over = both
        .gaps
        .iter()
        .filter(|gap| gap.end_time > timeline::after(BEGAN, 99_000_000_000))
        .filter(|gap| gap.duration_ns > 100_000);
    assert_eq!(verdict.over, over.count() as u64);
    told(
        &both,
        "each is held against its own: 100 us exceeded, 10.0 ms kept",
    );
    told(&both, "the firmwares differ: 1.0 before, 1.1 after");
    let one = runs([Some(10_000_000), None]);
    assert!(
        one.verdict
            .as_ref()
            .is_some_and(|verdict| !verdict.exceeded)
    );
    told(&one, "1 of the runs were recorded without a hardlimit");
    let below = runs([Some(1_000), Some(10_000_000)]);
    told(&below, "hardlimit 1.00 us is below the threshold 10.0 us");
}

#[test]
fn settings_of_all_runs_are_kept() {
    let first: Vec<Snapshot> = plan(10).snapshots(1).collect();
    let mut other = plan(10);
    other.detector.threshold_ns = 50_000;
    other.detector.gap_kind = GapKind::WindowMax;
    let second = later(other.snapshots(2), 100);
    let mut all = lines(first);
    all.extend(lines(second));
    let summary = summary(all);
    assert_eq!(summary.threshold_range_ns, (10_000, 50_000));
    assert!(summary.gap_kinds_mixed);
    told(&summary, "settings changed");
}

#[test]
fn smis_of_cpus_that_were_watched_one_after_the_other_add_up() {
    let mut all: Vec<Snapshot> = plan(20).snapshots(1).collect();
    for (number, snapshot) in (1u64..).zip(&mut all) {
        // CPU 0 is watched for 10 intervals, with an SMI each, then CPU 1 for 10, with two each.
        snapshot.detector.cpus = if number <= 10 { "0" } else { "1" }.to_owned();
        for (cpu, counted) in snapshot
            .cpus
            .iter_mut()
            .zip([number.min(10), 2 * number.saturating_sub(10)])
        {
            cpu.smis = Some(crate::model::SmiCounts {
                counted,
                ..crate::model::SmiCounts::default()
            });
        }
    }
    let one = summary(lines(all.clone()));
    assert_eq!(one.smis, Some(30));
    let mut two = lines(all.clone());
    two.extend(lines(later(all.clone(), 100)));
    assert_eq!(summary(two).smis, Some(60));
    // In turn, the same SMI is in another interval for each CPU, and is one all the same.
    for (number, snapshot) in (0u64..).zip(&mut all) {
        snapshot.detector.cpus = "0-1".to_owned();
        for (cpu, behind) in snapshot.cpus.iter_mut().zip([number % 2, 1 - number % 2]) {
            cpu.smis = Some(crate::model::SmiCounts {
                counted: number + 1 - behind,
                ..crate::model::SmiCounts::default()
            });
        }
    }
    assert_eq!(summary(lines(all)).smis, Some(20));
}
