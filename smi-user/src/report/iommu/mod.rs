//! What `smilat iommu` finds: entries and tables that an operator can read, and one JSON object a line.

pub mod boot;
pub mod tree;

use serde::Serialize;

use crate::model::iommu::{IommuEvent, IommuSnapshot};

/// A line of the NDJSON.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<'a> {
    /// Something that was found.
    Event(&'a IommuEvent),
    /// All that was counted.
    Snapshot(&'a IommuSnapshot),
}
