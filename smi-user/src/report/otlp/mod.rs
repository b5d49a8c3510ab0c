//! OTLP: a snapshot as the request that OpenTelemetry's protocol for metrics sends.
//!
//! The messages are those of the crate `opentelemetry-proto`, filled here. OpenTelemetry's SDK cannot do it: its
//! instruments want every single gap handed to them, while ours arrive counted by the kernel, and the types in which it
//! keeps histograms can be read outside the crate but not made (`opentelemetry_sdk::metrics::data`, 0.33).
//!
//! `metrics/` says what is sent, and `docs/otlp.md` lists it.

mod points;

use std::collections::BTreeMap;

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
};
use prost::Message as _;

use super::metrics::{Way, families};
use crate::model::Snapshot;
use points::{Points, text};

/// Who sends: what is the same in all requests of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// What tells this smilat from others (`service.instance.id`; Prometheus's `instance`).
    pub instance: String,
    /// The machine's name in the network.
    pub hostname: Option<String>,
    /// Release of its kernel.
    pub kernel: String,
    /// When the run began.
    pub started: Timestamp,
    /// The limit that gaps are held against, if one was given.
    pub hardlimit_ns: Option<u64>,
}

/// How the pushes before went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushCounts {
    /// Snapshots that the receiver took.
    pub sent: u64,
    /// Snapshots given up.
    pub lost: u64,
    /// Data points that the receiver rejected from snapshots it took.
    pub rejected_points: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// `snapshot` as the body of a request, in protobuf.
///
/// `interval_max_ns` has each CPU's longest gap since the snapshot that was pushed before; CPUs without any are not in it.
pub fn request(
    sender: &Sender,
    snapshot: &Snapshot,
    interval_max_ns: &BTreeMap<u32, u64>,
    counts: PushCounts,
) -> Vec<u8> {
    message(sender, snapshot, interval_max_ns, counts).encode_to_vec()
}

fn message(
    sender: &Sender,
    snapshot: &Snapshot,
    interval_max_ns: &BTreeMap<u32, u64>,
    counts: PushCounts,
) -> ExportMetricsServiceRequest {
    let points = Points::new(sender.started, snapshot.time);
    let way = Way::Push {
        sender,
        interval_max_ns,
        counts,
    };
    let metrics = families(snapshot, &way)
        .into_iter()
        .map(|family| points.metric(family))
        .collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(sender)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "smilat".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

/// By OpenTelemetry's semantic conventions for services, hosts and operating systems.
fn resource(sender: &Sender) -> Resource {
    let mut attributes = vec![
        text("service.name", "smilat"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &sender.instance),
        text("os.type", "linux"),
        text("os.version", &sender.kernel),
    ];
    if let Some(hostname) = &sender.hostname {
        attributes.push(text("host.name", hostname));
    }
    Resource {
        attributes,
        ..Resource::default()
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
