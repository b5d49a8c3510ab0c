//! What `smilat iommu` finds: entries and tables that an operator can read, and one JSON object a line.

pub mod boot;
pub mod live;
mod recorded;
mod text;
pub mod tree;
mod words;

use serde::Serialize;

pub use recorded::recorded;
#[cfg(test)]
pub(super) use recorded::tests as recorded_tests;
pub(super) use text::{by_size, losses};
pub use text::{entry, interval, summary};
pub(super) use words::{devices, groups, headline, kind, listed, number, show_net, size, source};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        iommu::made_up::{events, snapshot},
        report::Ndjson,
    };

    #[test]
    fn each_line_is_an_object_of_its_kind() {
        let read = |line: &Line<'_>| -> serde_json::Value {
            let bytes = Ndjson::line(line);
            assert_eq!(bytes.last(), Some(&b'\n'));
            serde_json::from_slice(&bytes).expect("JSON")
        };
        for event in events() {
            let one = read(&Line::Event(&event));
            let back: IommuEvent = serde_json::from_value(one["event"].clone()).expect("an event");
            assert_eq!(back, event);
        }
        let all = read(&Line::Snapshot(&snapshot()));
        let back: IommuSnapshot =
            serde_json::from_value(all["snapshot"].clone()).expect("a snapshot");
        assert_eq!(back, snapshot());
    }
}
