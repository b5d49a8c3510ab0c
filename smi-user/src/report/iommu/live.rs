//! The live view: from snapshots, events and the user's wishes to frames. Nothing here knows a terminal or a clock.

mod draw;
mod rows;

#[cfg(test)]
mod frames;

use std::collections::VecDeque;

use jiff::tz::TimeZone;

use super::words::per_second;
use crate::{
    model::iommu::{IommuEvent, IommuSnapshot, Lately},
    report::tui::Theme,
};

pub use draw::draw;
pub use rows::Column;

/// Events kept; a terminal has no more lines.
const EVENTS: usize = 200;
/// Intervals kept for the trend; a terminal has no more columns.
const HISTORY: usize = 500;

/// What a key asks of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The display stands still, or goes on.
    Pause,
    /// Count from now on.
    Reset,
    /// Sort by the column so many places to the right; to the left when negative.
    Sort(isize),
    /// So many rows down; up when negative.
    Scroll(isize),
    /// So many screens of the table down; up when negative.
    Page(isize),
    /// To the first row.
    First,
    /// To the last row.
    Last,
}

/// What is known of what is watched.
#[derive(Clone, Debug, Default)]
struct Data {
    newest: Option<IommuSnapshot>,
    /// When the user began to count anew.
    baseline: Option<IommuSnapshot>,
    /// Maps and unmaps a second of each interval, the newest last.
    history: VecDeque<u64>,
    /// The newest last.
    events: VecDeque<IommuEvent>,
}

/// All that a frame shows, and what keys make of it.
#[derive(Debug)]
pub struct State {
    theme: Theme,
    zone: TimeZone,
    data: Data,
    /// What is shown instead while the display stands still.
    frozen: Option<Data>,
    sort: Column,
    /// The first row of the table that is shown.
    first: usize,
    /// Rows of the table that are shown, and its columns, as last drawn.
    page: usize,
    columns: Vec<Column>,
    message: Option<String>,
    changes: u64,
}

impl State {
    /// Before the first snapshot.
    pub fn new(theme: Theme, zone: TimeZone) -> Self {
        Self {
            theme,
            zone,
            data: Data::default(),
            frozen: None,
            sort: Column::UnmapRate,
            first: 0,
            page: 1,
            columns: Column::ALL.to_vec(),
            message: None,
            changes: 0,
        }
    }

    /// A number that moves with every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes the next snapshot.
    pub fn snapshot(&mut self, snapshot: IommuSnapshot) {
        self.changes += 1;
        let all = lately(&snapshot);
        let rate = per_second(all.maps + all.unmaps, snapshot.interval_ns);
        if self.data.history.len() == HISTORY {
            self.data.history.pop_front();
        }
        self.data.history.push_back(rate.round() as u64);
        self.data.newest = Some(snapshot);
    }

    /// Takes what was found.
    pub fn events(&mut self, events: impl IntoIterator<Item = IommuEvent>) {
        for event in events {
            self.changes += 1;
            if self.data.events.len() == EVENTS {
                self.data.events.pop_front();
            }
            self.data.events.push_back(event);
        }
    }

    /// Shows a message until the next key.
    pub fn message(&mut self, message: String) {
        self.changes += 1;
        self.message = Some(message);
    }

    /// Does what a key asks.
    pub fn act(&mut self, action: Action) {
        self.changes += 1;
        self.message = None;
        let page = self.page.max(1).cast_signed();
        match action {
            Action::Pause => {
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some(self.data.clone()),
                };
            }
            Action::Reset => {
                self.frozen = None;
                self.data.baseline.clone_from(&self.data.newest);
                self.data.history.clear();
                self.data.events.clear();
                self.message =
                    Some("counting from here on; the kernel's totals go on beside".to_owned());
            }
            Action::Sort(by) => {
                self.sort = self.sort.moved(by, &self.columns);
                self.first = 0;
            }
            Action::Scroll(by) => self.first = self.first.saturating_add_signed(by),
            Action::Page(by) => self.first = self.first.saturating_add_signed(by * page),
            Action::First => self.first = 0,
            // How far it can go is known when it is drawn.
            Action::Last => self.first = usize::MAX / 2,
        }
    }

    /// What is shown.
    fn shown(&self) -> &Data {
        self.frozen.as_ref().unwrap_or(&self.data)
    }
}

/// What came in the last interval, of all domains.
fn lately(snapshot: &IommuSnapshot) -> Lately {
    let mut all = Lately::default();
    for domain in &snapshot.domains {
        all.maps += domain.lately.maps;
        all.map_bytes += domain.lately.map_bytes;
        all.unmaps += domain.lately.unmaps;
        all.unmap_bytes += domain.lately.unmap_bytes;
    }
    all
}
