//! What Prometheus reads: a snapshot as families of metrics, in the three forms its servers ask for.
//!
//! `metrics/` says what they are; the forms follow from it. `docs/metrics.md` explains every family.

mod encoding;
mod histogram;
mod text;

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use super::metrics::{Family, Way, families, iommu, irqsoff};
use crate::model::{Snapshot, iommu::IommuSnapshot, irqsoff::IrqsoffSnapshot};

/// A form in which metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Prometheus's protobuf, the only one that carries native histograms.
    Protobuf,
    /// `OpenMetrics` text 1.0.0.
    OpenMetrics,
    /// Prometheus's text 0.0.4, which everything reads.
    Text,
}

impl Form {
    /// All of them, richest first.
    pub const ALL: [Self; 3] = [Self::Protobuf, Self::OpenMetrics, Self::Text];

    /// Its name in HTTP's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What is exported beside snapshots.
#[derive(Clone, Debug)]
pub struct About {
    /// Since when the counts run: a server that knows it can tell a restart from a gap in its data.
    pub started: Timestamp,
    /// The limit that gaps are held against, if there is one.
    pub hardlimit: Option<Duration>,
    /// Whether each CPU has a histogram of its own, instead of one for the machine.
    pub per_cpu_histograms: bool,
}

/// What the server adds to a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Each CPU's longest gap of late, in ns; CPUs without any are not in it.
    pub recent_max_ns: BTreeMap<u32, u64>,
    /// Connections that were closed to make room for others.
    pub connections_displaced: u64,
}

/// Metrics could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be written as {form:?}: {why}")]
pub struct EncodeError {
    form: Form,
    why: String,
}

/// `snapshot` as `form`.
///
/// # Errors
/// When the library that writes `form` refuses a value.
pub fn encode(
    form: Form,
    snapshot: &Snapshot,
    about: &About,
    served: &Served,
) -> Result<Bytes, EncodeError> {
    let families = families(snapshot, &Way::Scrape { about, served });
    write(form, families, about.started)
}

/// What `smilat irqsoff` counted since it `started`, as `form`.
///
/// # Errors
/// As [`encode`].
pub fn encode_irqsoff(
    form: Form,
    snapshot: &IrqsoffSnapshot,
    started: Timestamp,
    connections_displaced: u64,
) -> Result<Bytes, EncodeError> {
    let families = irqsoff::families(snapshot, connections_displaced);
    write(form, families, started)
}

/// What `smilat iommu` counted since it `started`, as `form`.
///
/// # Errors
/// As [`encode`].
pub fn encode_iommu(
    form: Form,
    snapshot: &IommuSnapshot,
    started: Timestamp,
    connections_displaced: u64,
) -> Result<Bytes, EncodeError> {
    let families = iommu::families(snapshot, connections_displaced);
    write(form, families, started)
}

fn write(form: Form, families: Vec<Family>, started: Timestamp) -> Result<Bytes, EncodeError> {
    let registry = encoding::registry(families, started);
    let failed = |error: &dyn fmt::Display| EncodeError {
        form,
        why: error.to_string(),
    };
    match form {
        Form::OpenMetrics => encoding::open_metrics(&registry).map_err(|error| failed(&error)),
        Form::Protobuf => {
            let families =
                encoding::families(&registry, started).map_err(|error| failed(&error))?;
            encoding::delimited(&families).map_err(|error| failed(&error))
        }
        Form::Text => {
            let families =
                encoding::families(&registry, started).map_err(|error| failed(&error))?;
            text::text(&families).map_err(|error| failed(&error))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
