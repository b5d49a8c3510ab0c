//! Families as prometheus-client writes them: `OpenMetrics` text, and Prometheus's protobuf.

use std::{fmt, time::SystemTime};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet,
        prometheus_protobuf::{self, prometheus_data_model::MetricFamily},
        text,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};
use prost::Message as _;
use smi_common::buckets::SCHEMA;

use super::histogram::{Native, ZERO_THRESHOLD, classic, classic_sizes};
use crate::{
    model::Interval,
    report::metrics::{Family, Kind, Sample, Sizes, Value},
};

/// Families, to be written.
#[derive(Debug)]
struct Families {
    families: Vec<Family>,
    started: SystemTime,
}

/// `families` in the form that prometheus-client writes.
pub(super) fn registry(families: Vec<Family>, started: Timestamp) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families {
        families,
        started: started.into(),
    }));
    registry
}

/// `OpenMetrics` text.
pub(super) fn open_metrics(registry: &Registry) -> Result<Bytes, fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text.into())
}

/// Prometheus's data model.
pub(super) fn families(
    registry: &Registry,
    started: Timestamp,
) -> Result<Vec<MetricFamily>, fmt::Error> {
    let mut families = prometheus_protobuf::encode(registry)?;
    // prometheus-client gives the start to histograms only.
    let started = SystemTime::from(started);
    for metric in families.iter_mut().flat_map(|family| &mut family.metric) {
        if let Some(counter) = &mut metric.counter {
            counter.start_timestamp = Some(started.into());
        }
    }
    Ok(families)
}

/// Protobuf messages one after the other, each with its length before it.
pub(super) fn delimited(families: &[MetricFamily]) -> Result<Bytes, prost::EncodeError> {
    let mut bytes = BytesMut::new();
    for family in families {
        family.encode_length_delimited(&mut bytes)?;
    }
    Ok(bytes.freeze())
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in &self.families {
            let (name, unit) = (stem(family.name), unit(family.unit));
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut metric = encoder.encode_descriptor(&name, family.help, unit.as_ref(), kind)?;
            for Sample { cpu, labels, value } in &family.samples {
                let cpu = cpu.map(|cpu| ("cpu", cpu.to_string()));
                let labels: Vec<_> = cpu.into_iter().chain(labels.iter().cloned()).collect();
                if family.kind == Kind::Info {
                    metric.encode_info(&labels)?;
                } else if labels.is_empty() {
                    self.value(&mut metric, family.kind, value)?;
                } else {
                    let mut metric = metric.encode_family(&labels)?;
                    self.value(&mut metric, family.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Families {
    fn value(&self, metric: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
        let number = match value {
            Value::Count(count) => *count as f64,
            Value::Ns(ns) => seconds(*ns),
            // Microseconds fit a double exactly enough to find the snapshot again.
            Value::Time(time) => time.as_microsecond() as f64 / 1e6,
            Value::Gaps(gaps) => return self.durations(metric, gaps),
            Value::Bytes(sizes) => return self.sizes(metric, sizes),
        };
        if kind == Kind::Counter {
            metric.encode_counter::<NoLabelSet, f64, f64>(&number, None)
        } else {
            metric.encode_gauge(&number)
        }
    }

    fn durations(&self, metric: &mut MetricEncoder<'_>, gaps: &Interval) -> fmt::Result {
        let histogram = &gaps.histogram;
        let native = Native::of(histogram);
        let sum_and_total = (seconds(gaps.sum_ns), histogram.total());
        self.histogram(metric, sum_and_total, &classic(histogram), SCHEMA, &native)
    }

    fn sizes(&self, metric: &mut MetricEncoder<'_>, sizes: &Sizes) -> fmt::Result {
        let native = Native::new(sizes.filled());
        let sum_and_total = (sizes.sum() as f64, sizes.total());
        self.histogram(
            metric,
            sum_and_total,
            &classic_sizes(sizes),
            Sizes::SCHEMA,
            &native,
        )
    }

    fn histogram(
        &self,
        metric: &mut MetricEncoder<'_>,
        (sum, total): (f64, u64),
        classic: &[(f64, u64)],
        schema: i32,
        native: &Native,
    ) -> fmt::Result {
        metric.encode_histogram_with_native::<NoLabelSet>(
            sum,
            total,
            classic,
            None,
            NativeHistogram {
                schema,
                zero_threshold: ZERO_THRESHOLD,
                zero_count: 0,
                negative: NativeHistogramBuckets {
                    spans: &[],
                    deltas: &[],
                },
                positive: NativeHistogramBuckets {
                    spans: &native.spans,
                    deltas: &native.deltas,
                },
                created: Some(self.started),
            },
        )
    }
}

/// A name without the endings that tell unit and kind, which prometheus-client adds.
fn stem(name: &str) -> String {
    name.strip_suffix("_info").unwrap_or(name).replace('.', "_")
}

/// A unit that Prometheus has in names; things that are counted are none.
fn unit(ucum: &str) -> Option<Unit> {
    match ucum {
        "s" => Some(Unit::Seconds),
        "By" => Some(Unit::Bytes),
        _ => None,
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
