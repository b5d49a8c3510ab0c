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

use super::{
    family::{Family, Kind, Value},
    histogram::{Native, ZERO_THRESHOLD, classic},
};
use crate::model::Histogram;

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
            let (name, unit) = parts(family);
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut metric = encoder.encode_descriptor(name, family.help, unit.as_ref(), kind)?;
            for sample in &family.samples {
                if family.kind == Kind::Info {
                    metric.encode_info(&sample.labels)?;
                } else if sample.labels.is_empty() {
                    self.value(&mut metric, family.kind, &sample.value)?;
                } else {
                    let mut metric = metric.encode_family(&sample.labels)?;
                    self.value(&mut metric, family.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

impl Families {
    fn value(&self, metric: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
        match value {
            Value::Number(number) if kind == Kind::Counter => {
                metric.encode_counter::<NoLabelSet, f64, f64>(number, None)
            }
            Value::Number(number) => metric.encode_gauge(number),
            Value::Histogram { sum, histogram } => self.histogram(metric, *sum, histogram),
        }
    }

    fn histogram(
        &self,
        metric: &mut MetricEncoder<'_>,
        sum: f64,
        histogram: &Histogram,
    ) -> fmt::Result {
        let native = Native::of(histogram);
        metric.encode_histogram_with_native::<NoLabelSet>(
            sum,
            histogram.total(),
            &classic(histogram),
            None,
            NativeHistogram {
                schema: SCHEMA,
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

/// A family's name as prometheus-client wants it: without the endings that tell its unit and kind.
fn parts(family: &Family) -> (&'static str, Option<Unit>) {
    let ending = match family.kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge | Kind::Histogram => "",
    };
    let name = family.name.strip_suffix(ending).unwrap_or(family.name);
    for (ending, unit) in [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)] {
        if let Some(name) = name.strip_suffix(ending) {
            return (name, Some(unit));
        }
    }
    (name, None)
}
