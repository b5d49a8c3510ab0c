use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogramDataPoint, Metric, metric::Data,
        number_data_point::Value,
    },
};
use smi_common::buckets::{self, BUCKETS};

use super::*;
use crate::model::Histogram;

fn sender() -> Sender {
    Sender {
        instance: "rack7".to_owned(),
        hostname: Some("rack7.example".to_owned()),
        kernel: "6.1.0".to_owned(),
        started: "2026-11-22T08:00:00Z".parse().expect("a time"),
        hardlimit_ns: Some(50_000),
    }
}

/// A snapshot of a run that is recorded, too.
fn snapshot() -> Snapshot {
    Snapshot {
        recording_lost: Some(9),
        ..testing::snapshot()
    }
}

/// What a receiver decodes.
fn decoded(snapshot: &Snapshot) -> ResourceMetrics {
    let longest = BTreeMap::from([(3, 1_500_000)]);
    let counts = PushCounts {
        sent: 8,
        lost: 2,
        rejected_points: 4,
        failures: 3,
    };
    let body = request(&sender(), snapshot, &longest, counts);
    let mut request = ExportMetricsServiceRequest::decode(body.as_slice()).expect("a request");
    assert_eq!(request.resource_metrics.len(), 1);
    request.resource_metrics.remove(0)
}

fn metrics(snapshot: &Snapshot) -> Vec<Metric> {
    let mut decoded = decoded(snapshot);
    assert_eq!(decoded.scope_metrics.len(), 1);
    decoded.scope_metrics.remove(0).metrics
}

fn labels(attributes: &[KeyValue]) -> String {
    let one = |attribute: &KeyValue| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let value = match value {
            Some(any_value::Value::StringValue(text)) => text,
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        format!("{}={value}", attribute.key)
    };
    attributes.iter().map(one).collect::<Vec<_>>().join(",")
}

/// What the metric says, a line for each point, and whether it is a gauge.
fn said(metrics: &[Metric], name: &str) -> (bool, String, Vec<String>) {
    let metric = metrics
        .iter()
        .find(|metric| metric.name == name)
        .unwrap_or_else(|| panic!("no {name}"));
    let (gauge, points) = match metric.data.clone().expect("data") {
        Data::Gauge(gauge) => (true, gauge.data_points),
        Data::Sum(sum) => {
            assert!(sum.is_monotonic, "{name}");
            assert_eq!(
                sum.aggregation_temporality(),
                AggregationTemporality::Cumulative
            );
            (false, sum.data_points)
        }
        other => panic!("{name}: {other:?}"),
    };
    let lines = points.iter().map(|point| {
        assert_eq!(
            point.start_time_unix_nano, 1_795_334_400_000_000_000,
            "{name}"
        );
        assert_eq!(point.time_unix_nano, 1_795_334_410_500_000_000, "{name}");
        let value = match point.value.expect("a value") {
            Value::AsInt(number) => number.to_string(),
            Value::AsDouble(number) => number.to_string(),
        };
        format!("{} {value}", labels(&point.attributes))
            .trim_start()
            .to_owned()
    });
    (gauge, metric.unit.clone(), lines.collect())
}

type Said = (&'static str, &'static str, &'static [&'static str]);

/// Name, unit and points of the counters.
const COUNTERS: &[Said] = &[
    (
        "smilat.gaps",
        "{gap}",
        &[
            "cpu=0,cause=unknown 1",
            "cpu=0,cause=smi 2",
            "cpu=0,cause=nmi+steal 0",
            "cpu=3,cause=unknown 1",
            "cpu=3,cause=smi 0",
            "cpu=3,cause=nmi+steal 1",
        ],
    ),
    (
        "smilat.gap",
        "s",
        &[
            "cpu=0,cause=unknown 0.000012",
            "cpu=0,cause=smi 0.000163",
            "cpu=0,cause=nmi+steal 0",
            "cpu=3,cause=unknown 0.00002",
            "cpu=3,cause=smi 0",
            "cpu=3,cause=nmi+steal 0.002",
        ],
    ),
    (
        "smilat.exposure",
        "s",
        &["cpu=0 0.100000001", "cpu=3 0.400000004"],
    ),
    (
        "smilat.smis",
        "{smi}",
        &["cpu=0,counter=msr-pmu 40", "cpu=3,counter=msr-pmu 40"],
    ),
    ("smilat.smis.sampled", "{smi}", &["cpu=0 20", "cpu=3 20"]),
    ("smilat.smis.in_gaps", "{smi}", &["cpu=0 10", "cpu=3 10"]),
    (
        "smilat.smi.readings.failed",
        "{reading}",
        &["cpu=0 1", "cpu=3 4"],
    ),
    ("smilat.steal.sampled", "s", &["cpu=0 0.001", "cpu=3 0.004"]),
    (
        "smilat.steal.in_gaps",
        "s",
        &["cpu=0 0.0006", "cpu=3 0.0024"],
    ),
    (
        "smilat.windows",
        "{window}",
        &[
            "cpu=0,outcome=run 10",
            "cpu=0,outcome=skipped 3",
            "cpu=3,outcome=run 40",
            "cpu=3,outcome=skipped 3",
        ],
    ),
    (
        "smilat.gap.records",
        "{record}",
        &[
            "cpu=0,outcome=sent 100",
            "cpu=0,outcome=limited 7",
            "cpu=0,outcome=lost 5",
            "cpu=3,outcome=sent 400",
            "cpu=3,outcome=limited 28",
            "cpu=3,outcome=lost 20",
        ],
    ),
    ("smilat.gap.records.dropped", "{record}", &["6"]),
    ("smilat.cpu", "s", &["0.105"]),
    ("smilat.bpf.runs", "{run}", &["777"]),
    ("smilat.bpf.run", "s", &["0.088"]),
    ("smilat.snapshots", "{snapshot}", &["2"]),
    ("smilat.recording.snapshots.lost", "{snapshot}", &["9"]),
    (
        "smilat.push.snapshots",
        "{snapshot}",
        &["outcome=sent 8", "outcome=lost 2"],
    ),
    ("smilat.push.points.rejected", "{point}", &["4"]),
    ("smilat.push.failures", "{attempt}", &["3"]),
];

/// Name, unit and points of the gauges.
const GAUGES: &[Said] = &[
    ("smilat.gap.max", "s", &["cpu=0 0.00015", "cpu=3 0.002"]),
    ("smilat.gap.interval_max", "s", &["cpu=0 0", "cpu=3 0.0015"]),
    ("smilat.resident_memory", "By", &["12345678"]),
    ("smilat.snapshot.timestamp", "s", &["1795334410.5"]),
    ("smilat.threshold", "s", &["0.00001"]),
    ("smilat.width", "s", &["0.01"]),
    ("smilat.window", "s", &["1"]),
    ("smilat.irqs_off_max", "s", &["0.001"]),
    ("smilat.noise_floor", "s", &["0.00000018"]),
    ("smilat.hardlimit", "s", &["0.00005"]),
    (
        "smilat.build_info",
        "",
        &[concat!("version=", env!("CARGO_PKG_VERSION"), " 1")],
    ),
    (
        "smilat.detector_info",
        "",
        &["detector=spin,gap_kind=gap,mode=round-robin,cpus=0,3 1"],
    ),
];

#[test]
fn every_number_is_where_it_belongs() {
    let metrics = metrics(&snapshot());
    for (all, gauge) in [(COUNTERS, false), (GAUGES, true)] {
        for (name, unit, points) in all {
            let lines = points.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(
                said(&metrics, name),
                (gauge, (*unit).to_owned(), lines),
                "{name}"
            );
        }
    }
    // And the histogram: no metric is left out above.
    assert_eq!(metrics.len(), COUNTERS.len() + GAUGES.len() + 1);
}

#[test]
fn what_nothing_tells_is_left_out_rather_than_zero() {
    let mut quiet = snapshot();
    quiet.attribution = crate::model::Attribution::default();
    quiet.own_cost.bpf = None;
    quiet.detector.noise_floor_ns = 0;
    quiet.recording_lost = None;
    // Counts of a counter that was there before a reload stand still from then on.
    let frozen: Vec<String> = metrics(&quiet).into_iter().map(|one| one.name).collect();
    assert!(
        !frozen.iter().any(|name| name.starts_with("smilat.smi")),
        "{frozen:?}"
    );
    for cpu in &mut quiet.cpus {
        cpu.smis = None;
        cpu.steal = None;
        cpu.causes.clear();
        cpu.gaps = crate::model::GapStats::default();
    }
    let names: Vec<String> = metrics(&quiet).into_iter().map(|one| one.name).collect();
    for gone in [
        "smilat.smis",
        "smilat.smis.sampled",
        "smilat.steal.sampled",
        "smilat.noise_floor",
        "smilat.bpf.runs",
        "smilat.recording.snapshots.lost",
    ] {
        assert!(
            !names.iter().any(|name| name == gone),
            "{gone} in {names:?}"
        );
    }
    // But that there was no gap is known.
    let points = vec![
        "cpu=0,cause=unknown 0".to_owned(),
        "cpu=3,cause=unknown 0".to_owned(),
    ];
    assert_eq!(said(&metrics(&quiet), "smilat.gaps").2, points);
    let points = vec!["cpu=0 0".to_owned(), "cpu=3 0".to_owned()];
    assert_eq!(said(&metrics(&quiet), "smilat.gap.max").2, points);
}

#[test]
fn the_sender_is_described_by_the_semantic_conventions() {
    let decoded = decoded(&snapshot());
    let resource = decoded.resource.expect("a resource");
    assert_eq!(
        labels(&resource.attributes),
        concat!(
            "service.name=smilat,service.version=",
            env!("CARGO_PKG_VERSION"),
            ",service.instance.id=rack7,os.type=linux,os.version=6.1.0,host.name=rack7.example"
        )
    );
    let scope = decoded.scope_metrics[0].scope.clone().expect("a scope");
    assert_eq!(scope.name, "smilat");
}

fn point(of: &Snapshot) -> ExponentialHistogramDataPoint {
    let metric = metrics(of)
        .into_iter()
        .find(|metric| metric.name == "smilat.gap.duration")
        .expect("the histogram");
    assert_eq!(metric.unit, "s");
    let Some(Data::ExponentialHistogram(mut histogram)) = metric.data else {
        panic!("{metric:?}");
    };
    assert_eq!(
        histogram.aggregation_temporality(),
        AggregationTemporality::Cumulative
    );
    assert_eq!(histogram.data_points.len(), 1);
    histogram.data_points.remove(0)
}

/// A snapshot with these counts on its only CPU.
fn counted(counts: &[u64; BUCKETS]) -> Snapshot {
    let mut one = snapshot();
    one.cpus.truncate(1);
    one.cpus[0].histogram = Histogram::from(*counts);
    one
}

#[test]
fn the_histogram_is_that_of_all_cpus() {
    let snapshot = snapshot();
    let point = point(&snapshot);
    let durations = [12_000, 13_000, 150_000, 20_000, 2_000_000];
    assert_eq!(point.count, 5);
    assert_eq!(point.sum, Some(durations.iter().sum::<u64>() as f64 / 1e9));
    assert_eq!((point.min, point.max), (Some(0.000_012), Some(0.002)));
    let buckets = point.positive.expect("buckets");
    assert_eq!(buckets.bucket_counts.iter().sum::<u64>(), 5);
    for ns in durations {
        let seconds = f64::from(ns as u32) / 1e9;
        let index = (buckets.offset..)
            .zip(&buckets.bucket_counts)
            // By the specification: bucket i holds (base^i, base^(i+1)], and base is 2^(2^-scale).
            .find(|(index, _)| {
                let bound = |index: i32| (f64::from(index) * (-3f64).exp2()).exp2();
                bound(*index) < seconds && seconds <= bound(index + 1)
            });
        assert!(
            index.is_some_and(|(_, count)| *count > 0),
            "{ns} ns: {buckets:?}"
        );
    }
}

#[test]
fn every_bucket_has_the_bounds_of_ours() {
    for position in 0..BUCKETS {
        let mut counts = [0; BUCKETS];
        counts[position] = 7;
        let point = point(&counted(&counts));
        assert_eq!((point.count, point.scale), (7, 3));
        let buckets = point.positive.expect("buckets");
        if position == 0 {
            assert_eq!(point.zero_count, 7);
            assert!(buckets.bucket_counts.is_empty());
            assert_eq!((point.zero_threshold * 1e9).floor() as u64, 59);
            continue;
        }
        assert_eq!(point.zero_count, 0, "{position}");
        assert_eq!(buckets.bucket_counts, [7], "{position}");
        let bound_ns = |index: i32| ((f64::from(index) / 8.0).exp2() * 1e9).floor() as u64;
        assert_eq!(
            bound_ns(buckets.offset),
            buckets::lower_ns(position),
            "{position}"
        );
        if let Some(upper) = buckets::upper_ns(position) {
            assert_eq!(bound_ns(buckets.offset + 1), upper, "{position}");
        }
    }
}

#[test]
fn buckets_between_keep_their_places() {
    let mut counts = [0; BUCKETS];
    for (position, count) in counts.iter_mut().enumerate() {
        *count = position as u64 * 3;
    }
    let all = point(&counted(&counts));
    let buckets = all.positive.expect("buckets");
    assert_eq!((all.zero_count, buckets.offset), (0, -192));
    assert_eq!(buckets.bucket_counts, counts[1..]);
    assert_eq!(all.count, counts.iter().sum::<u64>());

    let mut counts = [0; BUCKETS];
    (counts[50], counts[53]) = (4, 6);
    let buckets = point(&counted(&counts)).positive.expect("buckets");
    assert_eq!(
        (buckets.offset, buckets.bucket_counts),
        (-143, vec![4, 0, 0, 6])
    );
}

#[test]
fn without_gaps_the_histogram_is_empty_and_there() {
    let mut none = counted(&[0; BUCKETS]);
    none.cpus[0].gaps = crate::model::GapStats::default();
    let point = point(&none);
    assert_eq!((point.count, point.sum, point.min), (0, Some(0.0), None));
    assert_eq!(point.positive.expect("buckets").bucket_counts, [0u64; 0]);
}

#[test]
fn what_is_documented_is_pushed_and_nothing_else() {
    let said = |metric: Metric| {
        let (points, total) = match metric.data.expect("data") {
            Data::Gauge(gauge) => (gauge.data_points, ""),
            Data::Sum(sum) => (sum.data_points, "_total"),
            _ => (Vec::new(), ""),
        };
        let keys = points.first().map(|point| {
            let keys = point.attributes.iter().map(|one| one.key.as_str());
            keys.collect::<Vec<_>>().join(", ")
        });
        let unit = match metric.unit.as_str() {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        // The rule by which Prometheus names what it is pushed.
        let name = metric.name.replace('.', "_");
        [
            format!("`{}`", metric.name),
            metric.unit,
            format!("`{name}{unit}{total}`"),
            keys.unwrap_or_default(),
        ]
    };
    let pushed: Vec<_> = metrics(&snapshot()).into_iter().map(said).collect();
    let documented: Vec<[String; 4]> = include_str!("../../../../docs/otlp.md")
        .lines()
        .filter(|line| line.starts_with("| `smilat."))
        .map(|row| {
            let mut cells = row.split('|').skip(1).map(|cell| cell.trim().to_owned());
            [(); 4].map(|()| cells.next().expect("a cell"))
        })
        .collect();
    assert_eq!(documented, pushed);
}
