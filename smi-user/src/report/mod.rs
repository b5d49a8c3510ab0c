//! Renders snapshots and outcomes. Nothing here knows where a snapshot came from.

mod bars;
mod cost;
mod differences;
pub mod doctor;
mod fire;
mod html;
pub mod iommu;
pub mod irqsoff;
mod metrics;
mod ndjson;
pub mod otlp;
pub mod prometheus;
mod sparkline;
mod summary;
mod text;
pub mod tui;
mod verify;

use bytes::Bytes;

pub use fire::fire;
pub use html::{html, iommu as iommu_html};
pub use ndjson::Ndjson;
pub use summary::summaries;
pub use text::Text;
pub use verify::verify;

use crate::model::Snapshot;

/// A way to render what was found.
pub trait Report: Send {
    /// What is about to be done, before anything is.
    fn plan(&mut self, plan: &str) -> Bytes;

    /// The interval that ended with `snapshot`.
    fn interval(&mut self, snapshot: &Snapshot) -> Bytes;

    /// The whole run, at its end.
    fn end(&mut self, snapshot: &Snapshot) -> Bytes;
}
