//! Families as OTLP's metrics, and their samples as its data points.

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
        NumberDataPoint, Sum,
        exponential_histogram_data_point::Buckets,
        metric::Data,
        number_data_point::Value::{AsDouble, AsInt},
    },
};
use smi_common::buckets::{FIRST_INDEX, PER_OCTAVE, SCHEMA};

use crate::{
    model::Interval,
    report::metrics::{Family, Kind, Sample, Sizes, Value},
};

/// OTLP's index of a bucket is one below Prometheus's: that of index *i* holds (2^(i/8) s, 2^((i+1)/8) s]
/// (`ExponentialHistogramDataPoint` in `opentelemetry/proto/metrics/v1/metrics.proto`).
const BELOW_PROMETHEUS: i32 = 1;

/// Makes points that all say the same of their time.
pub(super) struct Points {
    start_ns: u64,
    time_ns: u64,
}

/// An attribute that is a text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Nanoseconds since 1970, as far as an unsigned number can have them.
fn unix_ns(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond().max(0)).unwrap_or(u64::MAX)
}

impl Points {
    /// Points of what came from `start` to `time`.
    pub(super) fn new(start: Timestamp, time: Timestamp) -> Self {
        Self {
            start_ns: unix_ns(start.min(time)),
            time_ns: unix_ns(time),
        }
    }

    /// `family` as it is sent.
    pub(super) fn metric(&self, family: Family) -> Metric {
        let (mut data_points, mut histograms) = (Vec::new(), Vec::new());
        for Sample { cpu, labels, value } in family.samples {
            let cpu = cpu.map(|cpu| attribute("cpu", any_value::Value::IntValue(cpu.into())));
            let others = labels.iter().map(|(key, value)| text(key, value));
            let attributes = cpu.into_iter().chain(others).collect();
            let number = match value {
                Value::Count(count) => AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
                Value::Ns(ns) => AsDouble(seconds(ns)),
                Value::Time(time) => AsDouble(time.as_nanosecond() as f64 / 1e9),
                Value::Gaps(gaps) => {
                    histograms.push(self.histogram(attributes, &gaps));
                    continue;
                }
                Value::Bytes(sizes) => {
                    histograms.push(self.sizes(attributes, &sizes));
                    continue;
                }
            };
            data_points.push(NumberDataPoint {
                attributes,
                start_time_unix_nano: self.start_ns,
                time_unix_nano: self.time_ns,
                value: Some(number),
                ..NumberDataPoint::default()
            });
        }
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let data = match family.kind {
            Kind::Counter => Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic: true,
            }),
            Kind::Gauge | Kind::Info => Data::Gauge(Gauge { data_points }),
            Kind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
                data_points: histograms,
                aggregation_temporality,
            }),
        };
        Metric {
            name: family.name.to_owned(),
            unit: family.unit.to_owned(),
            description: family.help.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    /// Sizes in our buckets as they are: each that is not above the lowest bound is in the lowest bucket.
    fn sizes(&self, attributes: Vec<KeyValue>, sizes: &Sizes) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano: self.start_ns,
            time_unix_nano: self.time_ns,
            count: sizes.total(),
            sum: Some(sizes.sum() as f64),
            scale: Sizes::SCHEMA,
            positive: Some(buckets(sizes.all())),
            ..ExponentialHistogramDataPoint::default()
        }
    }

    /// Durations in our buckets as they are.
    ///
    /// The lowest bucket, of all durations up to 2^-24 s, is OTLP's zero bucket with that threshold. The highest, of all
    /// above 16 s, is the bucket that begins there, since OTLP has none without an end; `max` tells how long they were.
    fn histogram(
        &self,
        attributes: Vec<KeyValue>,
        interval: &Interval,
    ) -> ExponentialHistogramDataPoint {
        let counts = interval.histogram.counts();
        let (zero, positive) = counts.split_first().unwrap_or((&0, &[]));
        ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano: self.start_ns,
            time_unix_nano: self.time_ns,
            count: interval.histogram.total(),
            sum: Some(seconds(interval.sum_ns)),
            scale: SCHEMA,
            zero_count: *zero,
            zero_threshold: (f64::from(FIRST_INDEX) / PER_OCTAVE as f64).exp2(),
            // The second of our buckets, the first here, is that of the index above `FIRST_INDEX`.
            positive: Some(buckets((FIRST_INDEX + 1..).zip(positive.iter().copied()))),
            min: interval.min_ns.map(seconds),
            max: interval.max_ns.map(seconds),
            ..ExponentialHistogramDataPoint::default()
        }
    }
}

/// The buckets from the first that is filled to the last, by Prometheus's indices.
fn buckets(counts: impl Iterator<Item = (i32, u64)>) -> Buckets {
    let mut filled = counts.skip_while(|(_, count)| *count == 0).peekable();
    let offset = filled
        .peek()
        .map_or(0, |(index, _)| *index - BELOW_PROMETHEUS);
    let mut bucket_counts: Vec<u64> = filled.map(|(_, count)| count).collect();
    bucket_counts.truncate(
        bucket_counts
            .iter()
            .rposition(|count| *count > 0)
            .map_or(0, |last| last + 1),
    );
    Buckets {
        offset,
        bucket_counts,
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
