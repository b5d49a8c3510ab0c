//! Data points and the metrics they make up.

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
        NumberDataPoint, Sum, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point::Value,
    },
};
use smi_common::buckets::{FIRST_INDEX, PER_OCTAVE, SCHEMA};

use crate::model::Interval;

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

/// The attribute that says which CPU.
pub(super) fn cpu(number: u32) -> KeyValue {
    attribute("cpu", any_value::Value::IntValue(i64::from(number)))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Nanoseconds as seconds, the unit of all times here.
pub(super) fn seconds(ns: u64) -> Value {
    Value::AsDouble(ns as f64 / 1e9)
}

/// A number of things.
pub(super) fn count(count: u64) -> Value {
    Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX))
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

    /// A total since start, or a value of this moment.
    pub(super) fn point(&self, attributes: Vec<KeyValue>, value: Value) -> NumberDataPoint {
        NumberDataPoint {
            attributes,
            start_time_unix_nano: self.start_ns,
            time_unix_nano: self.time_ns,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }

    /// Durations in our buckets as they are.
    ///
    /// The lowest bucket, of all durations up to 2^-24 s, is OTLP's zero bucket with that threshold. The highest, of all
    /// above 16 s, is the bucket that begins there, since OTLP has none without an end; `max` tells how long they were.
    pub(super) fn histogram(&self, interval: &Interval) -> ExponentialHistogramDataPoint {
        let counts = interval.histogram.counts();
        let (zero, positive) = counts.split_first().unwrap_or((&0, &[]));
        // The second of our buckets, the first here, is that of the index above `FIRST_INDEX`.
        let mut filled = (FIRST_INDEX + 1 - BELOW_PROMETHEUS..)
            .zip(positive)
            .skip_while(|(_, count)| **count == 0)
            .peekable();
        let offset = filled.peek().map_or(0, |(index, _)| *index);
        let mut bucket_counts: Vec<u64> = filled.map(|(_, count)| *count).collect();
        bucket_counts.truncate(
            bucket_counts
                .iter()
                .rposition(|count| *count > 0)
                .map_or(0, |last| last + 1),
        );
        ExponentialHistogramDataPoint {
            start_time_unix_nano: self.start_ns,
            time_unix_nano: self.time_ns,
            count: interval.histogram.total(),
            sum: Some(interval.sum_ns as f64 / 1e9),
            scale: SCHEMA,
            zero_count: *zero,
            zero_threshold: (f64::from(FIRST_INDEX) / PER_OCTAVE as f64).exp2(),
            positive: Some(Buckets {
                offset,
                bucket_counts,
            }),
            min: interval.min_ns.map(|ns| ns as f64 / 1e9),
            max: interval.max_ns.map(|ns| ns as f64 / 1e9),
            ..ExponentialHistogramDataPoint::default()
        }
    }
}

/// A total that only grows; `None` without points.
pub(super) fn counter(
    name: &str,
    unit: &str,
    description: &str,
    points: impl IntoIterator<Item = NumberDataPoint>,
) -> Option<Metric> {
    let data_points: Vec<_> = points.into_iter().collect();
    let data = (!data_points.is_empty()).then_some(Data::Sum(Sum {
        data_points,
        aggregation_temporality: AggregationTemporality::Cumulative.into(),
        is_monotonic: true,
    }))?;
    Some(metric(name, unit, description, data))
}

/// A value of this moment; `None` without points.
pub(super) fn gauge(
    name: &str,
    unit: &str,
    description: &str,
    points: impl IntoIterator<Item = NumberDataPoint>,
) -> Option<Metric> {
    let data_points: Vec<_> = points.into_iter().collect();
    let data = (!data_points.is_empty()).then_some(Data::Gauge(Gauge { data_points }))?;
    Some(metric(name, unit, description, data))
}

/// Durations since start.
pub(super) fn histogram(
    name: &str,
    description: &str,
    point: ExponentialHistogramDataPoint,
) -> Metric {
    let data = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![point],
        aggregation_temporality: AggregationTemporality::Cumulative.into(),
    });
    metric(name, "s", description, data)
}

fn metric(name: &str, unit: &str, description: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: description.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}
