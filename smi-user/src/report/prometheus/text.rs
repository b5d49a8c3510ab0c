//! Prometheus's text format 0.0.4, written from the protobuf's data model: the two name and type everything alike.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>, "Text-based format".

use std::fmt::{self, Write as _};

use bytes::Bytes;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{
    LabelPair, Metric, MetricFamily, MetricType,
};

/// All of `families`.
pub(super) fn text(families: &[MetricFamily]) -> Result<Bytes, fmt::Error> {
    let mut lines = Lines(String::new());
    for family in families {
        lines.family(family)?;
    }
    Ok(lines.0.into())
}

struct Lines(String);

impl Lines {
    fn family(&mut self, family: &MetricFamily) -> fmt::Result {
        let kind = match family.r#type() {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram | MetricType::GaugeHistogram => "histogram",
            MetricType::Summary => "summary",
            MetricType::Untyped => "untyped",
        };
        let name = &family.name;
        let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for metric in &family.metric {
            self.metric(name, metric)?;
        }
        Ok(())
    }

    fn metric(&mut self, name: &str, metric: &Metric) -> fmt::Result {
        let labels = &metric.label;
        if let Some(counter) = &metric.counter {
            self.sample(name, "", labels, None, counter.value)?;
        }
        if let Some(gauge) = &metric.gauge {
            self.sample(name, "", labels, None, gauge.value)?;
        }
        if let Some(histogram) = &metric.histogram {
            for bucket in &histogram.bucket {
                let le = Some(bucket.upper_bound);
                let count = bucket.cumulative_count as f64;
                self.sample(name, "_bucket", labels, le, count)?;
            }
            self.sample(name, "_sum", labels, None, histogram.sample_sum)?;
            self.sample(name, "_count", labels, None, histogram.sample_count as f64)?;
        }
        Ok(())
    }

    fn sample(
        &mut self,
        name: &str,
        ending: &str,
        labels: &[LabelPair],
        le: Option<f64>,
        value: f64,
    ) -> fmt::Result {
        write!(self.0, "{name}{ending}")?;
        let labels: Vec<String> = labels
            .iter()
            .map(|label| format!("{}=\"{}\"", label.name, escaped(&label.value)))
            .chain(le.map(|le| format!("le=\"{}\"", bound(le))))
            .collect();
        if !labels.is_empty() {
            write!(self.0, "{{{}}}", labels.join(","))?;
        }
        writeln!(self.0, " {}", number(value))
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else {
        value.to_string()
    }
}

/// A bucket's bound as prometheus-client writes it in `OpenMetrics`: servers compare it as text, and a bound must be the
/// same series in both.
fn bound(le: f64) -> String {
    if le.is_finite() {
        dtoa::Buffer::new().format_finite(le).to_owned()
    } else {
        number(le)
    }
}
