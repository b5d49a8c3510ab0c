use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    self as data_model, MetricFamily, MetricType,
};
use prost::Message as _;
use serde_json::json;
use smi_common::buckets::{BUCKETS, FIRST_INDEX};

use super::*;
use crate::model::{Attribution, BpfCost, CpuSnapshot, Histogram, Proof, SmiCounts, StealCounts};

/// A snapshot of two CPUs: one with gaps of two causes, one without any.
pub(crate) fn snapshot() -> Snapshot {
    let quiet = json!({
        "cpu": 3, "exposure_ns": 250_000_000,
        "windows": {"scheduled": 5, "run": 5, "skipped": 0},
        "stretches": {"scheduled": 5, "run": 5, "skipped": 0, "steps": 9, "clock_went_back": 0},
        "gaps": {"count": 0, "sum_ns": 0, "min_ns": null, "max_ns": null, "interval_min_ns": null,
                 "interval_max_ns": null, "last_ns": null, "last_time": null},
        "tracer": {"steps_over": 0, "nmi_count": 0, "nmi_ns": 0},
        "records": {"sent": 0, "limited": 0, "lost": 0},
        "histogram": [], "causes": [],
        "smis": {"counted": 7, "sampled": 0, "in_gaps": 0, "unread": 0},
        "steal": null
    });
    let mut busy = quiet.clone();
    busy["cpu"] = 0.into();
    busy["windows"] = json!({"scheduled": 6, "run": 4, "skipped": 2});
    busy["gaps"] = json!({"count": 3, "sum_ns": 5_120_000, "min_ns": 20_000, "max_ns": 5_000_000,
        "interval_min_ns": 20_000, "interval_max_ns": 100_000, "last_ns": 20_000,
        "last_time": "2026-11-22T12:00:00Z"});
    busy["records"] = json!({"sent": 1, "limited": 1, "lost": 1});
    let buckets = |durations: &[u64]| {
        let mut histogram = Histogram::default();
        for ns in durations {
            histogram.record(*ns);
        }
        histogram
    };
    busy["histogram"] = json!(buckets(&[20_000, 100_000, 5_000_000]));
    busy["causes"] = json!([
        {"cause": "unknown", "count": 2, "sum_ns": 120_000, "max_ns": 100_000, "histogram": buckets(&[20_000, 100_000])},
        {"cause": "smi+nmi", "count": 1, "sum_ns": 5_000_000, "max_ns": 5_000_000, "histogram": buckets(&[5_000_000])}
    ]);
    serde_json::from_value(json!({
        "schema_version": 1, "time": "2026-11-22T12:00:00.25Z", "elapsed_ns": 10_000_000_000_u64,
        "interval": 2, "last": false,
        "detector": {"name": "spin", "gap_kind": "gap", "threshold_ns": 10_000, "width_ns": 1_000_000,
            "window_ns": 100_000_000, "irqs_off_max_ns": 1_000_000, "mode": "round-robin", "cpus": "0,3",
            "step_ns": 25.0, "noise_floor_ns": 168},
        "attribution": {"smi": "gap", "nmi": "gap", "steal": "none",
            "counter": {"name": "msr/smi", "source": "MSR 0x34", "exact": true, "caveats": []}},
        "own_cost": {"cpu_ns": 1_500_000_000_u64, "resident_bytes": 8_388_608},
        "cpus": [busy, quiet], "gaps": [], "gaps_dropped": 4
    }))
    .expect("a snapshot")
}

fn about() -> About {
    About {
        started: "2026-11-22T11:59:50Z".parse().expect("a time"),
        hardlimit: Some(Duration::from_micros(50)),
        per_cpu_histograms: false,
    }
}

fn served() -> Served {
    Served {
        recent_max_ns: BTreeMap::from([(0, 3_000_000)]),
        connections_displaced: 2,
    }
}

fn text(form: Form, snapshot: &Snapshot, about: &About) -> String {
    let bytes = encode(form, snapshot, about, &served()).expect("encodes");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// What a server would decode.
fn protobuf(snapshot: &Snapshot, about: &About) -> BTreeMap<String, MetricFamily> {
    decoded(encode(Form::Protobuf, snapshot, about, &served()).expect("encodes"))
}

fn decoded(mut bytes: Bytes) -> BTreeMap<String, MetricFamily> {
    let mut families = BTreeMap::new();
    while !bytes.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut bytes).expect("decodes");
        assert!(!family.metric.is_empty(), "{family:?}");
        families.insert(family.name.clone(), family);
    }
    families
}

/// The counts of a native histogram by index, as servers read spans and deltas.
fn native_counts(histogram: &data_model::Histogram) -> BTreeMap<i32, u64> {
    let mut counts = BTreeMap::new();
    let mut deltas = histogram.positive_delta.iter();
    let (mut index, mut count) = (0, 0);
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().expect("a delta for each bucket");
            counts.insert(index, u64::try_from(count).expect("no negative count"));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None, "more deltas than buckets");
    counts
}

fn label<'a>(metric: &'a data_model::Metric, name: &str) -> &'a str {
    let pair = metric.label.iter().find(|pair| pair.name == name);
    &pair.expect(name).value
}

#[test]
fn text_is_what_prometheus_s_libraries_write() {
    let text = text(Form::Text, &snapshot(), &about());
    for line in [
        "# TYPE smilat_gaps_total counter",
        "smilat_gaps_total{cpu=\"0\",cause=\"unknown\"} 2",
        "smilat_gaps_total{cpu=\"0\",cause=\"smi\"} 0",
        "smilat_gaps_total{cpu=\"0\",cause=\"smi+nmi\"} 1",
        "smilat_gaps_total{cpu=\"3\",cause=\"nmi\"} 0",
        "smilat_gap_seconds_total{cpu=\"0\",cause=\"smi+nmi\"} 0.005",
        "smilat_exposure_seconds_total{cpu=\"3\"} 0.25",
        "# TYPE smilat_gap_duration_seconds histogram",
        "smilat_gap_duration_seconds_bucket{le=\"9.5367431640625e-7\"} 0",
        "smilat_gap_duration_seconds_bucket{le=\"0.0009765625\"} 2",
        "smilat_gap_duration_seconds_bucket{le=\"16.0\"} 3",
        "smilat_gap_duration_seconds_bucket{le=\"+Inf\"} 3",
        "smilat_gap_duration_seconds_sum 0.00512",
        "smilat_gap_duration_seconds_count 3",
        "smilat_gap_max_seconds{cpu=\"0\"} 0.005",
        "smilat_gap_interval_max_seconds{cpu=\"0\"} 0.0001",
        "smilat_gap_interval_max_seconds{cpu=\"3\"} 0",
        "smilat_gap_recent_max_seconds{cpu=\"0\"} 0.003",
        "smilat_gap_recent_max_seconds{cpu=\"3\"} 0",
        "smilat_smis_total{cpu=\"3\",counter=\"msr/smi\"} 7",
        "smilat_windows_total{cpu=\"0\",outcome=\"skipped\"} 2",
        "smilat_gap_records_total{cpu=\"0\",outcome=\"limited\"} 1",
        "smilat_gap_records_dropped_total 4",
        "# TYPE smilat_build_info gauge",
        "smilat_detector_info{detector=\"spin\",gap_kind=\"gap\",mode=\"round-robin\",cpus=\"0,3\"} 1",
        "smilat_threshold_seconds 0.00001",
        "smilat_hardlimit_seconds 0.00005",
        "smilat_noise_floor_seconds 0.000000168",
        "smilat_cpu_seconds_total 1.5",
        "smilat_resident_memory_bytes 8388608",
        "smilat_snapshot_timestamp_seconds 1795348800.25",
        "smilat_snapshots_total 2",
        "smilat_http_connections_displaced_total 2",
    ] {
        assert!(text.lines().any(|had| had == line), "no {line} in\n{text}");
    }
    for absent in ["steal", "bpf_runs", "recording"] {
        assert!(!text.contains(absent), "{absent} in\n{text}");
    }
}

#[test]
fn open_metrics_names_units_and_ends_with_eof() {
    let text = text(Form::OpenMetrics, &snapshot(), &about());
    for line in [
        "# TYPE smilat_gap_seconds counter",
        "# UNIT smilat_gap_seconds seconds",
        "smilat_gap_seconds_total{cpu=\"0\",cause=\"unknown\"} 0.00012",
        "# TYPE smilat_build info",
        "smilat_gap_duration_seconds_bucket{le=\"0.0009765625\"} 2",
        "smilat_gap_duration_seconds_count 3",
        "smilat_snapshots_total 2.0",
    ] {
        assert!(text.lines().any(|had| had == line), "no {line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn all_forms_have_the_same_samples() {
    let sorted = |form| {
        let text = text(form, &snapshot(), &about());
        let mut samples: Vec<(String, f64)> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                // The two put `le` at different ends.
                let mut parts: Vec<&str> = name.split(['{', ',', '}']).collect();
                parts.sort_unstable();
                (parts.join(","), value.parse().expect("a number"))
            })
            .collect();
        samples.sort_by(|one, other| one.0.cmp(&other.0));
        samples
    };
    let (text, open) = (sorted(Form::Text), sorted(Form::OpenMetrics));
    assert_eq!(text.len(), open.len());
    for (one, other) in text.iter().zip(&open) {
        assert!((one.1 - other.1).abs() < f64::EPSILON, "{one:?} {other:?}");
        assert_eq!(one.0, other.0);
    }
}

#[test]
fn protobuf_carries_the_kernels_buckets_unchanged() {
    let mut snapshot = snapshot();
    let mut counts = [0; BUCKETS];
    for (position, count) in counts.iter_mut().enumerate() {
        // No two alike, and some empty.
        *count = if position % 11 < 3 {
            0
        } else {
            1 + (position as u64 * 37) % 101
        };
    }
    for filled in [
        snapshot.cpus[0].histogram.clone(),
        counts.into(),
        [3; BUCKETS].into(),
        Histogram::default(),
    ] {
        snapshot.cpus[0].histogram = filled.clone();
        let families = protobuf(&snapshot, &about());
        let family = &families["smilat_gap_duration_seconds"];
        assert_eq!(family.r#type(), MetricType::Histogram);
        let histogram = family.metric[0].histogram.as_ref().expect("a histogram");
        assert_eq!(histogram.schema, 3);
        assert_eq!(histogram.sample_count, filled.total());
        assert!((histogram.sample_sum - 0.005_12).abs() < 1e-12);
        assert_eq!(histogram.zero_count, 0);
        assert!(histogram.zero_threshold > 0.0, "taken for a classic one");
        assert!(histogram.negative_span.is_empty());
        let started = histogram.start_timestamp.as_ref().expect("a start");
        assert_eq!(started.seconds, about().started.as_second());

        let native = native_counts(histogram);
        for (count, index) in filled.counts().iter().zip(FIRST_INDEX..) {
            assert_eq!(native.get(&index).unwrap_or(&0), count, "index {index}");
        }
        assert!(
            native
                .keys()
                .all(|index| (FIRST_INDEX..=33).contains(index))
        );

        let last = histogram.bucket.last().expect("classic buckets");
        assert_eq!(
            (last.upper_bound, last.cumulative_count),
            (f64::INFINITY, filled.total())
        );
        assert_eq!(histogram.bucket.len(), 26);
        for bucket in &histogram.bucket {
            let below = smi_common::buckets::position((bucket.upper_bound * 1e9) as u64);
            let exact: u64 = filled.counts()[..=below].iter().sum();
            assert_eq!(bucket.cumulative_count, exact, "le {}", bucket.upper_bound);
        }
    }
}

#[test]
fn protobuf_says_since_when_counters_count() {
    let families = protobuf(&snapshot(), &about());
    let gaps = &families["smilat_gaps_total"];
    assert_eq!(gaps.r#type(), MetricType::Counter);
    let total: f64 = gaps
        .metric
        .iter()
        .map(|metric| {
            let counter = metric.counter.as_ref().expect("a counter");
            let started = counter.start_timestamp.as_ref().expect("a start");
            assert_eq!(started.seconds, about().started.as_second());
            counter.value
        })
        .sum();
    assert!((total - 3.0).abs() < 1e-12, "{total}");
}

#[test]
fn on_request_each_cpu_has_a_histogram_of_its_own() {
    let about = About {
        per_cpu_histograms: true,
        ..about()
    };
    let families = protobuf(&snapshot(), &about);
    let of_cpus: Vec<(&str, u64)> = families["smilat_gap_duration_seconds"]
        .metric
        .iter()
        .map(|metric| {
            let histogram = metric.histogram.as_ref().expect("a histogram");
            (label(metric, "cpu"), histogram.sample_count)
        })
        .collect();
    assert_eq!(of_cpus, [("0", 3), ("3", 0)]);

    // What the help text says it costs.
    let text = text(Form::Text, &snapshot(), &about);
    let series = text
        .lines()
        .filter(|line| {
            line.starts_with("smilat_gap_duration_seconds") && line.contains("cpu=\"3\"")
        })
        .count();
    assert_eq!(series, 28);
}

#[test]
fn where_nothing_counts_smis_they_are_absent() {
    // With counts of a counter that was there before a reload (the first), and without any.
    let mut snapshot = snapshot();
    snapshot.attribution = Attribution::default();
    assert!(snapshot.cpus.iter().all(|cpu| cpu.smis.is_some()));
    let frozen = text(Form::Text, &snapshot, &about());
    assert!(!frozen.contains("smilat_smi"), "{frozen}");
    for cpu in &mut snapshot.cpus {
        cpu.smis = None;
        cpu.causes.clear();
    }
    let text = text(Form::Text, &snapshot, &about());
    assert!(!text.contains("smilat_smi"), "{text}");
    let causes = text
        .lines()
        .filter(|line| line.starts_with("smilat_gaps_total{"));
    let causes: Vec<&str> = causes.collect();
    assert_eq!(
        causes,
        [
            "smilat_gaps_total{cpu=\"0\",cause=\"unknown\"} 0",
            "smilat_gaps_total{cpu=\"3\",cause=\"unknown\"} 0"
        ]
    );
}

#[test]
fn labels_are_escaped() {
    let mut snapshot = snapshot();
    snapshot.detector.name = "a\"b\\c\nd".to_owned();
    let text = text(Form::Text, &snapshot, &about());
    assert!(text.contains(r#"{detector="a\"b\\c\nd","#), "{text}");
}

const DOCUMENT: &str = include_str!("../../../../docs/metrics.md");

/// A snapshot of `cpus` CPUs with everything that a machine can tell, and no gap of several causes.
fn all_told(cpus: u32) -> Snapshot {
    let mut all = snapshot();
    all.attribution.steal = Proof::Gap;
    all.own_cost.bpf = Some(BpfCost::default());
    all.recording_lost = Some(0);
    let mut one = all.cpus[1].clone();
    one.smis = Some(SmiCounts {
        sampled: Some(0),
        in_gaps: Some(0),
        ..SmiCounts::default()
    });
    one.steal = Some(StealCounts::default());
    all.cpus = (0..cpus)
        .map(|cpu| CpuSnapshot { cpu, ..one.clone() })
        .collect();
    all
}

#[test]
fn what_is_documented_is_exported_and_nothing_else() {
    let about = About {
        per_cpu_histograms: true,
        ..about()
    };
    assert_eq!(
        documented(DOCUMENT),
        explained(protobuf(&all_told(2), &about))
    );
}

#[test]
fn what_irqsoff_exports_is_documented_and_nothing_else() {
    let text = include_str!("../../../../docs/irqsoff.md");
    let snapshot = crate::irqsoff::made_up::snapshot();
    let page = encode_irqsoff(Form::Protobuf, &snapshot, Timestamp::UNIX_EPOCH, 0);
    assert_eq!(documented(text), explained(decoded(page.expect("encodes"))));
}

#[test]
fn what_iommu_exports_is_documented_and_nothing_else() {
    let text = include_str!("../../../../docs/iommu.md");
    let snapshot = crate::iommu::made_up::snapshot();
    let page = encode_iommu(Form::Protobuf, &snapshot, Timestamp::UNIX_EPOCH, 0);
    assert_eq!(documented(text), explained(decoded(page.expect("encodes"))));
}

/// Type and labels of each family.
type Explained = BTreeMap<String, (String, BTreeSet<String>)>;

fn explained(families: BTreeMap<String, MetricFamily>) -> Explained {
    families
        .into_iter()
        .map(|(name, family)| {
            let labels = family.metric.iter().flat_map(|metric| &metric.label);
            let labels = labels.map(|label| label.name.clone()).collect();
            // Which the protobuf has as gauges.
            let kind = if name.ends_with("_info") {
                "info".to_owned()
            } else {
                family.r#type().as_str_name().to_lowercase()
            };
            (name, (kind, labels))
        })
        .collect()
}

/// As the table in `text` has them.
fn documented(text: &str) -> Explained {
    let quoted = |cell: &str| -> Vec<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let mut documented = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `smilat_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels: BTreeSet<String> = quoted(cells[3]).into_iter().collect();
        for name in quoted(cells[1]) {
            let earlier = documented.insert(name, (cells[2].to_owned(), labels.clone()));
            assert!(earlier.is_none(), "twice: {row}");
        }
    }
    documented
}

#[test]
fn there_are_as_many_series_as_documented() {
    let series = |cpus: u32, per_cpu_histograms: bool| {
        let about = About {
            per_cpu_histograms,
            ..about()
        };
        let text = text(Form::Text, &all_told(cpus), &about);
        let all: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let of_histograms = all
            .iter()
            .filter(|line| line.starts_with("smilat_gap_duration_seconds"))
            .count();
        (all.len() - of_histograms, of_histograms)
    };
    let (of_2, histogram) = series(2, false);
    let (of_64, _) = series(64, false);
    let per_cpu = (of_64 - of_2) / 62;
    let formula = format!("{per_cpu} *n* + {}", of_2 - 2 * per_cpu);
    let (_, histograms) = series(64, true);
    assert_eq!(histograms, 64 * histogram);
    for told in [
        formula,
        format!(
            "| together with 2 CPUs | {} | {} |",
            of_2 + 1,
            of_2 + histogram
        ),
        format!(
            "| together with 64 CPUs | {} | {} |",
            of_64 + 1,
            of_64 + histogram
        ),
        format!(
            "| with 64 CPUs and `--per-cpu-histograms` | {} | {} |",
            of_64 + 64,
            of_64 + histograms
        ),
        format!("| one for all CPUs | 1 | {histogram} |"),
    ] {
        assert!(
            DOCUMENT.contains(&told),
            "docs/metrics.md does not say: {told}"
        );
    }
}
