//! All that a frame shows, and what keys make of it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Replay, Theme,
    data::{Carried, Data},
    rows::{Column, Row, rows},
};
use crate::{model::Snapshot, units::show_ns};

/// Messages kept; of more, the oldest give way and are counted.
const MESSAGES: usize = 100;

/// What is looked at, as far as it does not change.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The recording; `None` of the machine itself.
    pub recording: Option<String>,
    /// Name of the machine.
    pub host: Option<String>,
    /// Release of its kernel.
    pub kernel: Option<String>,
    /// What is done and what it costs, for people.
    pub plan: String,
}

/// What the trend shows of each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trend {
    /// Gaps.
    Counts,
    /// The longest gap.
    Longest,
}

/// What covers the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popup {
    /// The keys and the plan.
    Help,
    /// All messages.
    Messages,
}

/// What a key asks of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The cursor so many rows down; up when negative.
    Cursor(isize),
    /// The cursor so many screens of the table down; up when negative.
    Page(isize),
    /// The cursor to the first row.
    First,
    /// The cursor to the last row.
    Last,
    /// Sort by the column so many places to the right; to the left when negative.
    Sort(isize),
    /// The other order.
    Invert,
    /// Charts and gaps of the CPU under the cursor, or of all again.
    OneCpu,
    /// Charts and gaps of all CPUs.
    AllCpus,
    /// The trend shows counts, or the longest gaps.
    Trend,
    /// The display stands still, or goes on.
    Pause,
    /// Count from now on.
    Reset,
    /// Show or hide this.
    Popup(Popup),
    /// Hide whatever covers the rest.
    Close,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    pub(super) subject: Subject,
    pub(super) theme: Theme,
    pub(super) zone: TimeZone,
    pub(super) data: Data,
    /// What is shown instead while the display stands still.
    pub(super) frozen: Option<Data>,
    /// Of a recording.
    pub(super) replay: Option<Replay>,
    /// In force now, in ns, where it is not yet in a snapshot.
    pub(super) threshold_ns: Option<u64>,
    pub(super) sort: Column,
    pub(super) descending: bool,
    /// The CPU under the cursor; `None`: the first row's.
    pub(super) cursor: Option<u32>,
    /// Charts and gaps are those of the CPU under the cursor.
    pub(super) one_cpu: bool,
    /// What the trend shows.
    pub(super) trend: Trend,
    pub(super) popup: Option<Popup>,
    /// Lines of the popup that went by.
    pub(super) scroll: u16,
    /// Lines of it that are shown, as last drawn.
    pub(super) popup_page: u16,
    /// What came of the last key, until the next.
    pub(super) notice: Option<String>,
    pub(super) messages: VecDeque<String>,
    pub(super) messages_dropped: u64,
    pub(super) messages_unread: bool,
    /// The beginnings of runs that were told.
    runs_told: BTreeSet<Timestamp>,
    /// Rows of the table, and its columns, as last drawn.
    pub(super) page: usize,
    pub(super) columns: Vec<Column>,
    changes: u64,
}

impl State {
    /// Before the first snapshot.
    pub fn new(subject: Subject, theme: Theme, zone: TimeZone) -> Self {
        Self {
            subject,
            theme,
            zone,
            data: Data::default(),
            frozen: None,
            replay: None,
            threshold_ns: None,
            sort: Column::Max,
            descending: true,
            cursor: None,
            one_cpu: false,
            trend: Trend::Counts,
            popup: None,
            scroll: 0,
            popup_page: 1,
            notice: None,
            messages: VecDeque::new(),
            messages_dropped: 0,
            messages_unread: false,
            runs_told: BTreeSet::new(),
            page: 1,
            columns: Column::ALL.to_vec(),
            changes: 0,
        }
    }

    /// A number that moves with every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes the next snapshot.
    pub fn snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.changes += 1;
        self.threshold_ns = None;
        let time = snapshot.time;
        if self.data.take(snapshot) && self.runs_told.insert(time) {
            self.message(
                "another run of smilat begins here: totals count from its start".to_owned(),
            );
        }
    }

    /// What is known of the time before the newest snapshot, for [`Self::rewind`].
    pub fn carried(&self) -> Carried {
        self.data.carried()
    }

    /// Forgets all snapshots, to be given others. `carried`: what was known after the first of them; `None` where nothing
    /// came before it.
    pub fn rewind(&mut self, carried: Option<Carried>) {
        if self.data.baseline.is_some() {
            self.tell("going back undoes the reset: totals count from the start again".to_owned());
        }
        self.changes += 1;
        self.data = Data::from(carried);
    }

    /// Where in the recording it is.
    pub fn set_replay(&mut self, replay: Replay) {
        self.changes += 1;
        self.replay = Some(replay);
    }

    /// Which machine was recorded.
    pub fn set_machine(&mut self, host: Option<String>, kernel: Option<String>) {
        self.changes += 1;
        self.subject.host = host;
        self.subject.kernel = kernel;
    }

    /// The detector follows another threshold from now on.
    pub fn set_threshold_ns(&mut self, threshold_ns: u64) {
        self.threshold_ns = Some(threshold_ns);
        self.tell(format!(
            "threshold {} from the next stretch on",
            show_ns(threshold_ns as f64)
        ));
    }

    /// The threshold in force; `None` before the first snapshot.
    pub fn threshold_ns(&self) -> Option<u64> {
        let newest = self.data.newest.as_ref();
        self.threshold_ns
            .or_else(|| newest.map(|newest| newest.detector.threshold_ns))
    }

    /// Says what came of a key; the next key takes it away.
    pub fn tell(&mut self, notice: String) {
        self.changes += 1;
        self.notice = Some(notice);
    }

    /// Keeps a message.
    pub fn message(&mut self, message: String) {
        self.changes += 1;
        if self.messages.len() == MESSAGES {
            self.messages.pop_front();
            self.messages_dropped += 1;
        }
        self.messages.push_back(message);
        // It would not be seen behind it.
        self.notice = None;
        self.messages_unread = self.popup != Some(Popup::Messages);
    }

    /// Whether a recording is shown.
    pub fn is_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// Whether something covers the rest.
    pub fn has_popup(&self) -> bool {
        self.popup.is_some()
    }

    /// Does what a key asks.
    pub fn act(&mut self, action: Action) {
        self.changes += 1;
        self.notice = None;
        if self.popup.is_some() && self.scroll(action) {
            return;
        }
        match action {
            Action::Cursor(by) => self.move_cursor(by),
            Action::Page(by) => self.move_cursor(by * self.page.max(1).cast_signed()),
            Action::First => self.move_cursor(isize::MIN / 2),
            Action::Last => self.move_cursor(isize::MAX / 2),
            Action::Sort(by) => {
                self.sort = self.sort.moved(by, &self.columns);
                self.descending = self.sort != Column::Cpu;
            }
            Action::Invert => self.descending = !self.descending,
            Action::OneCpu => {
                self.one_cpu = !self.one_cpu;
                // It stays that CPU when the order changes.
                self.cursor = self.under_cursor();
            }
            Action::AllCpus => self.one_cpu = false,
            Action::Trend => {
                self.trend = match self.trend {
                    Trend::Counts => Trend::Longest,
                    Trend::Longest => Trend::Counts,
                };
            }
            Action::Pause => {
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some(self.data.clone()),
                };
            }
            Action::Reset => {
                self.frozen = None;
                self.data.reset();
                self.tell("counting from here on; the kernel's totals go on beside".to_owned());
            }
            Action::Popup(popup) => {
                self.popup = (self.popup != Some(popup)).then_some(popup);
                self.scroll = match popup {
                    Popup::Help => 0,
                    // The newest are the last.
                    Popup::Messages => u16::MAX,
                };
                if popup == Popup::Messages {
                    self.messages_unread = false;
                }
            }
            Action::Close => self.popup = None,
        }
    }

    /// Has the popup go up or down, if that is what is asked for. How far it can go is known when it is drawn.
    fn scroll(&mut self, action: Action) -> bool {
        let by = match action {
            Action::Cursor(by) => by,
            Action::Page(by) => {
                by.saturating_mul(usize::from(self.popup_page.max(1)).cast_signed())
            }
            Action::First => isize::MIN,
            Action::Last => isize::MAX,
            _ => return false,
        };
        let by = by.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        self.scroll = self.scroll.saturating_add_signed(by);
        true
    }

    /// What is shown.
    pub(super) fn shown(&self) -> &Data {
        self.frozen.as_ref().unwrap_or(&self.data)
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        rows(self.shown(), self.sort, self.descending)
    }

    /// Place of the cursor in `rows`.
    pub(super) fn cursor_in(&self, rows: &[Row]) -> usize {
        self.cursor
            .and_then(|cpu| rows.iter().position(|row| row.cpu == cpu))
            .unwrap_or(0)
    }

    fn under_cursor(&self) -> Option<u32> {
        let rows = self.rows();
        rows.get(self.cursor_in(&rows)).map(|row| row.cpu)
    }

    /// The only CPU that charts and gaps are of; `None`: all.
    pub(super) fn only(&self) -> Option<u32> {
        self.one_cpu.then(|| self.under_cursor()).flatten()
    }

    fn move_cursor(&mut self, by: isize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1).cast_signed();
        let at = self.cursor_in(&rows).cast_signed();
        let to = at.saturating_add(by).clamp(0, last).cast_unsigned();
        self.cursor = rows.get(to).map(|row| row.cpu);
    }
}
