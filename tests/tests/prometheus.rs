//! What a real Prometheus makes of a running smilat: the same numbers as its NDJSON of the same moment.

use std::{collections::BTreeMap, fs, io::Write as _, process::Stdio};

use smi_common::buckets::FIRST_INDEX;
use smi_user::model::{Histogram, Snapshot};
use tests::{
    prometheus::{Prometheus, number, promtool},
    serving::Serving,
    wait_until,
};

/// Enough gaps for percentiles, on any machine: 2 us is little more than a step of the loop.
const WATCH: [&str; 5] = [
    "--threshold=2us",
    "--width=20ms",
    "--window=100ms",
    "--mode=per-cpu",
    "--interval=1s",
];

/// Runs smilat with `extra` until a Prometheus has scraped several of its intervals and `enough` of its gaps. Returns the
/// Prometheus, when it scraped, and the snapshot it scraped then.
fn scraped(
    native: bool,
    extra: &[&str],
    enough: impl Fn(&Prometheus) -> bool,
) -> (Prometheus, Vec<(String, Snapshot)>) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("snapshots");
    let serving = Serving::start(
        &[
            &WATCH,
            extra,
            &["--format=ndjson", "--output", file.to_str().expect("UTF-8")],
        ]
        .concat(),
    );
    serving.ready();
    let prometheus = Prometheus::start(serving.address, native);
    wait_until("scrapes", || {
        prometheus.scrapes().len() >= 4 && enough(&prometheus)
    });
    let scrapes = prometheus.scrapes();
    assert!(serving.stop().success());

    let snapshots: BTreeMap<u64, Snapshot> = fs::read_to_string(file)
        .expect("the snapshots")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a snapshot"))
        .map(|snapshot: Snapshot| (snapshot.interval, snapshot))
        .collect();
    let pairs: Vec<(String, Snapshot)> = scrapes
        .into_iter()
        .map(|(time, interval)| {
            let snapshot = snapshots[&interval].clone();
            let told = prometheus.number("smilat_snapshot_timestamp_seconds", &time);
            let taken = snapshot.time.as_microsecond() as f64 / 1e6;
            assert!(
                (told - taken).abs() < 1e-6,
                "interval {interval}: {told} {taken}"
            );
            (time, snapshot)
        })
        .collect();
    (prometheus, pairs)
}

/// `q` of `histogram` as Prometheus's `histogram_quantile` has it for native histograms, in seconds: at the same place in
/// the same bucket as [`Histogram::quantile`], without the exact extremes that ours is kept between. Up to 2.x it takes
/// the durations in a bucket to be spread evenly (`linear`), from 3.0 on evenly on a logarithmic scale, as ours.
fn quantile(histogram: &Histogram, q: f64, linear: bool) -> f64 {
    let rank = q * histogram.total() as f64;
    let mut below = 0.0;
    for (index, count) in (FIRST_INDEX..).zip(histogram.counts()) {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            let bound = |index: i32| (f64::from(index) / 8.0).exp2();
            let (lower, upper) = (bound(index - 1), bound(index));
            let part = (rank - below) / count;
            return if linear {
                lower + (upper - lower) * part
            } else {
                lower * (upper / lower).powf(part)
            };
        }
        below += count;
    }
    panic!("no gaps");
}

#[track_caller]
fn same(told: f64, exact: f64, what: &str) {
    assert!(
        (told - exact).abs() <= exact.abs() * 1e-9,
        "{what}: {told} told, {exact} counted"
    );
}

#[test]
fn native_histograms_say_what_the_ndjson_of_that_moment_says() {
    let (prometheus, pairs) = scraped(true, &[], |prometheus| {
        let counts = prometheus.query("histogram_count(smilat_gap_duration_seconds)", None);
        counts.first().is_some_and(|count| number(count) >= 200.0)
    });
    for (time, snapshot) in &pairs {
        let total = snapshot.total();
        let ask = |query: &str| prometheus.number(query, time);
        let count = ask("histogram_count(smilat_gap_duration_seconds)");
        assert_eq!(count as u64, total.count, "interval {}", snapshot.interval);
        let sum = ask("histogram_sum(smilat_gap_duration_seconds)");
        same(sum, total.sum_ns as f64 / 1e9, "sum");
        for q in [0.5, 0.9, 0.99, 0.999] {
            let told = ask(&format!(
                "histogram_quantile({q}, smilat_gap_duration_seconds)"
            ));
            let exact = [true, false].map(|linear| quantile(&total.histogram, q, linear));
            assert!(
                exact
                    .iter()
                    .any(|exact| (told - exact).abs() <= exact * 1e-9),
                "p{q}: {told} told, {exact:?} counted"
            );
            // Ours differs by how it spreads the gaps within the bucket, and by keeping to the shortest and longest.
            let ours = total.quantile_ns(q).expect("gaps") / 1e9;
            println!("{count} gaps, {sum} s; quantile {q}: {told} s, within the extremes {ours} s");
            let bucket = 2f64.powf(1.0 / 8.0);
            assert!(
                told / ours < bucket && ours / told < bucket,
                "p{q}: {told}, ours {ours}"
            );
        }
        let by_cause = prometheus.query("sum by (cause) (smilat_gaps_total)", Some(time));
        let causes = snapshot.causes();
        for element in by_cause {
            let cause = element["metric"]["cause"]
                .as_str()
                .expect("a cause")
                .to_owned();
            let counted = causes.iter().find(|stats| stats.cause.to_string() == cause);
            assert_eq!(
                number(&element) as u64,
                counted.map_or(0, |stats| stats.count),
                "{cause}"
            );
        }
        let all = ask("sum(smilat_gaps_total)");
        assert_eq!(all as u64, total.count);
        let exposure = ask("sum(smilat_exposure_seconds_total)");
        same(exposure, total.exposure_ns as f64 / 1e9, "exposure");
    }
    // What has to hold of a histogram that lived through several scrapes: its increase is that of its counts.
    let (first, last) = (&pairs[0].1, &pairs[pairs.len() - 1].1);
    assert!(
        last.total().count >= first.total().count + 10,
        "hardly a gap came meanwhile"
    );
    let resets = prometheus.number(
        "resets(smilat_gap_duration_seconds[10m])",
        &pairs[pairs.len() - 1].0,
    );
    assert_eq!(resets as u64, 0, "Prometheus saw the histogram begin anew");
}

#[test]
fn classic_histograms_say_the_same_to_servers_without_native_ones() {
    let (prometheus, pairs) = scraped(false, &["--per-cpu-histograms"], |prometheus| {
        let counts = prometheus.query("sum(smilat_gap_duration_seconds_count)", None);
        counts.first().is_some_and(|count| number(count) >= 50.0)
    });
    for (time, snapshot) in &pairs {
        for cpu in &snapshot.cpus {
            let own = format!("{{cpu=\"{}\"}}", cpu.cpu);
            let family = |ending: &str| format!("smilat_gap_duration_seconds{ending}{own}");
            let count = prometheus.number(&family("_count"), time);
            assert_eq!(count as u64, cpu.gaps.count);
            let sum = prometheus.number(&family("_sum"), time);
            same(sum, cpu.gaps.sum_ns as f64 / 1e9, "sum");
            let buckets = prometheus.query(&family("_bucket"), Some(time));
            assert_eq!(buckets.len(), 26);
            for bucket in &buckets {
                let le = bucket["metric"]["le"].as_str().expect("a bound");
                let le: f64 = le.replace("+Inf", "inf").parse().expect("a number");
                let below: u64 = cpu
                    .histogram
                    .filled()
                    .filter(|bucket| bucket.le_ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9) <= le)
                    .map(|bucket| bucket.count)
                    .sum();
                assert_eq!(number(bucket) as u64, below, "CPU {}, le {le}", cpu.cpu);
            }
        }
        let cpus = prometheus.query("smilat_gap_duration_seconds_count", Some(time));
        assert_eq!(
            cpus.len(),
            snapshot.cpus.len(),
            "histograms beside those of the CPUs"
        );
    }
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    for extra in [
        &["--bpf-stats", "--hardlimit=1s"][..],
        &["--counter=none", "--per-cpu-histograms"],
    ] {
        let serving = Serving::start(&[&WATCH, extra, &["--output=/dev/null"]].concat());
        serving.ready();
        let metrics = serving.metrics();
        let mut check = promtool()
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool");
        check
            .stdin
            .take()
            .expect("standard input")
            .write_all(metrics.as_bytes())
            .expect("given");
        let output = check.wait_with_output().expect("promtool");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
