//! What a recording of `smilat iommu` says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::iommu::{IommuEvent, IommuSnapshot};

/// What a recording of `smilat iommu` says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IommuRecording {
    /// The file as it was named.
    pub name: String,
    /// When the first run in it began.
    pub began: Timestamp,
    /// When its last snapshot was taken, or its last event found.
    pub ended: Timestamp,
    /// Snapshots in it.
    pub snapshots: u64,
    /// The runs, oldest first.
    pub runs: Vec<IommuRun>,
    /// Older runs that are not among them.
    pub runs_left_out: u64,
    /// How often the limit of unmaps for each map was exceeded, in all runs.
    pub ratio_alarms: u64,
    /// How many events of each kind, by its name in NDJSON.
    pub event_counts: BTreeMap<String, u64>,
    /// The newest events, oldest first.
    pub events: Vec<IommuEvent>,
    /// Older events that are not among them.
    pub events_left_out: u64,
    /// Maps and unmaps over time.
    pub timeline: Vec<IommuSlot>,
    /// What to know before trusting it.
    pub remarks: Vec<String>,
}

impl IommuRecording {
    /// The timeline in no more than `most` pieces.
    pub fn merged(&self, most: usize) -> Vec<IommuSlot> {
        let each = self.timeline.len().div_ceil(most.max(1)).max(1);
        self.timeline
            .chunks(each)
            .map(|slots| {
                let mut all = slots[0];
                slots[1..].iter().for_each(|next| all.extend(next));
                all
            })
            .collect()
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IommuRun {
    /// When it began.
    pub began: Timestamp,
    /// Its last snapshot that is in the recording, which has its totals.
    pub snapshot: IommuSnapshot,
}

/// What came in a piece of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IommuSlot {
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Time watched in it, in ns.
    pub length_ns: u64,
    /// Maps.
    pub maps: u64,
    /// Bytes of these.
    pub map_bytes: u64,
    /// Unmaps.
    pub unmaps: u64,
    /// Bytes that the kernel said were unmapped.
    pub unmap_bytes: u64,
    /// Intervals in which a domain exceeded the limit of unmaps for each map.
    pub ratio_alarms: u64,
}

impl IommuSlot {
    /// Maps a second.
    pub fn map_rate(&self) -> f64 {
        self.rate(self.maps)
    }

    /// Unmaps a second.
    pub fn unmap_rate(&self) -> f64 {
        self.rate(self.unmaps)
    }

    fn rate(&self, count: u64) -> f64 {
        if self.length_ns == 0 {
            0.0
        } else {
            count as f64 * 1e9 / self.length_ns as f64
        }
    }

    /// Adds the piece that follows.
    pub fn extend(&mut self, next: &Self) {
        self.ended = next.ended;
        self.length_ns += next.length_ns;
        self.maps += next.maps;
        self.map_bytes += next.map_bytes;
        self.unmaps += next.unmaps;
        self.unmap_bytes += next.unmap_bytes;
        self.ratio_alarms += next.ratio_alarms;
    }
}
