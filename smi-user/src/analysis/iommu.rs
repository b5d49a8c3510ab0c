//! From the lines of `smilat iommu`'s NDJSON to an [`IommuRecording`], one line after the other.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::notes::Notes;
use crate::{
    model::{
        iommu::{DomainCounts, IommuEvent, IommuSnapshot, What},
        iommu_recording::{IommuRecording, IommuRun, IommuSlot},
    },
    recording::IommuLine,
};

/// Pieces of time that are told apart at the most.
const SLOTS: usize = 480;
/// Events that are kept.
const EVENTS: usize = 500;
/// Runs that are kept.
const RUNS: usize = 32;

/// Why there is nothing to report.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IommuError {
    /// No totals were recorded.
    #[error(
        "{0} holds no snapshot, so there is nothing to report; record for longer than one --interval"
    )]
    Empty(String),
}

/// Takes lines and adds them up.
pub struct IommuSummariser {
    name: String,
    snapshots: u64,
    runs: VecDeque<IommuRun>,
    runs_left_out: u64,
    ratio_alarms: u64,
    /// The snapshot before, of the run that goes on.
    last: Option<Box<IommuSnapshot>>,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    event_counts: BTreeMap<String, u64>,
    events: VecDeque<IommuEvent>,
    events_left_out: u64,
    timeline: Timeline,
    torn: Notes,
    cut: Notes,
    /// Snapshots that are missing between two.
    missing: u64,
}

impl IommuSummariser {
    /// Nothing read yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            snapshots: 0,
            runs: VecDeque::new(),
            runs_left_out: 0,
            ratio_alarms: 0,
            last: None,
            began: None,
            ended: None,
            event_counts: BTreeMap::new(),
            events: VecDeque::new(),
            events_left_out: 0,
            timeline: Timeline::default(),
            torn: Notes::default(),
            cut: Notes::default(),
            missing: 0,
        }
    }

    /// Takes the next line.
    pub fn add(&mut self, line: IommuLine) {
        match line {
            IommuLine::Event(event) => self.event(*event),
            IommuLine::Snapshot(snapshot) => self.snapshot(snapshot),
            IommuLine::Torn { number, bytes } => {
                let name = &self.name;
                self.torn.add(|| {
                    format!(
                        "line {number} of {name} ({bytes} bytes) is torn or none of smilat iommu's and is left out: smilat was \
                         killed, or the disk full"
                    )
                });
            }
        }
    }

    fn event(&mut self, event: IommuEvent) {
        self.ended = self.ended.max(Some(event.time));
        *self
            .event_counts
            .entry(name(&event.what).to_owned())
            .or_default() += 1;
        if self.events.len() == EVENTS {
            self.events.pop_front();
            self.events_left_out += 1;
        }
        self.events.push_back(event);
    }

    fn snapshot(&mut self, snapshot: Box<IommuSnapshot>) {
        let goes_on = self.last.as_ref().is_some_and(|last| {
            !last.last
                && snapshot.interval > last.interval
                && snapshot.elapsed_ns >= last.elapsed_ns
        });
        if !goes_on {
            self.end_run();
        }
        self.snapshots += 1;
        let began = before(snapshot.time, snapshot.elapsed_ns);
        self.began = Some(self.began.map_or(began, |first| first.min(began)));
        self.ended = self.ended.max(Some(snapshot.time));
        let after = self.last.as_ref().map_or(0, |last| last.interval);
        self.missing += snapshot.interval.saturating_sub(after + 1);
        self.timeline.push(slot(self.last.as_deref(), &snapshot));
        self.last = Some(snapshot);
    }

    fn end_run(&mut self) {
        let Some(last) = self.last.take() else { return };
        if !last.last {
            self.cut.add(|| {
                format!(
                    "the run that was recorded until {:.0} has no last snapshot: it was killed, or still goes on",
                    last.time
                )
            });
        }
        self.ratio_alarms += last.ratio_alarms;
        if self.runs.len() == RUNS {
            self.runs.pop_front();
            self.runs_left_out += 1;
        }
        self.runs.push_back(IommuRun {
            began: before(last.time, last.elapsed_ns),
            snapshot: *last,
        });
    }

    /// What all lines say together.
    ///
    /// # Errors
    /// When there was no snapshot.
    pub fn finish(mut self) -> Result<IommuRecording, IommuError> {
        self.end_run();
        let (Some(began), Some(ended)) = (self.began, self.ended) else {
            return Err(IommuError::Empty(self.name));
        };
        let mut remarks = Vec::new();
        self.torn.finish("lines are torn", &mut remarks);
        self.cut.finish("runs have no last snapshot", &mut remarks);
        if self.missing > 0 {
            remarks.push(format!(
                "snapshots missing: {}; totals include what they held, rates are those over the whole time between two",
                self.missing
            ));
        }
        if self.snapshots == 0 || self.runs.is_empty() {
            return Err(IommuError::Empty(self.name));
        }
        Ok(IommuRecording {
            name: self.name,
            began,
            ended,
            snapshots: self.snapshots,
            runs: self.runs.into(),
            runs_left_out: self.runs_left_out,
            ratio_alarms: self.ratio_alarms,
            event_counts: self.event_counts,
            events: self.events.into(),
            events_left_out: self.events_left_out,
            timeline: self.timeline.slots,
            remarks,
        })
    }
}

/// The moment so long before.
fn before(time: Timestamp, ns: u64) -> Timestamp {
    let ns = i64::try_from(ns).unwrap_or(i64::MAX);
    time.checked_sub(SignedDuration::from_nanos(ns))
        .unwrap_or(Timestamp::MIN)
}

/// What was counted between two snapshots; of a run's first, all of it where none is missing before.
fn slot(earlier: Option<&IommuSnapshot>, snapshot: &IommuSnapshot) -> IommuSlot {
    let sum = |of: fn(&DomainCounts) -> u64| {
        let now: u64 = snapshot.domains.iter().map(of).sum();
        let then: u64 = earlier.map_or(0, |earlier| earlier.domains.iter().map(of).sum());
        now.saturating_sub(then)
    };
    let lately = |of: fn(&DomainCounts) -> u64| snapshot.domains.iter().map(of).sum();
    let alarms_before = earlier.map_or(0, |earlier| earlier.ratio_alarms);
    let slot = |length_ns| IommuSlot {
        began: before(snapshot.time, length_ns),
        ended: snapshot.time,
        length_ns,
        maps: sum(|domain| domain.maps.count),
        map_bytes: sum(|domain| domain.maps.bytes),
        unmaps: sum(|domain| domain.unmaps.count),
        unmap_bytes: sum(|domain| domain.unmaps.bytes),
        ratio_alarms: snapshot.ratio_alarms.saturating_sub(alarms_before),
    };
    match earlier {
        Some(earlier) => slot(snapshot.elapsed_ns.saturating_sub(earlier.elapsed_ns)),
        None if snapshot.interval <= 1 => slot(snapshot.elapsed_ns),
        // What came before it is in the totals, but at no known time.
        None => IommuSlot {
            maps: lately(|domain| domain.lately.maps),
            map_bytes: lately(|domain| domain.lately.map_bytes),
            unmaps: lately(|domain| domain.lately.unmaps),
            unmap_bytes: lately(|domain| domain.lately.unmap_bytes),
            ratio_alarms: 0,
            ..slot(snapshot.interval_ns)
        },
    }
}

/// Pieces of time, each of as many snapshots as it takes to keep them few.
struct Timeline {
    slots: Vec<IommuSlot>,
    /// Snapshots in each piece but the last.
    each: u64,
    /// Snapshots in the last.
    in_last: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            each: 1,
            in_last: 0,
        }
    }
}

impl Timeline {
    fn push(&mut self, slot: IommuSlot) {
        match self.slots.last_mut() {
            Some(last) if self.in_last < self.each => {
                last.extend(&slot);
                self.in_last += 1;
                return;
            }
            _ => {}
        }
        if self.slots.len() == SLOTS {
            self.slots = self
                .slots
                .chunks(2)
                .map(|pair| {
                    let mut both = pair[0];
                    pair[1..].iter().for_each(|next| both.extend(next));
                    both
                })
                .collect();
            self.each *= 2;
        }
        self.slots.push(slot);
        self.in_last = 1;
    }
}

/// The event's name in NDJSON.
fn name(what: &What) -> &'static str {
    match what {
        What::Added { .. } => "added",
        What::Removed { .. } => "removed",
        What::Attached { .. } => "attached",
        What::Detached { .. } => "detached",
        What::Bound { .. } => "bound",
        What::Unbound { .. } => "unbound",
        What::Fault(_) => "fault",
        What::NotRam { .. } => "not_ram",
        What::Late { .. } => "late",
        What::Ratio { .. } => "ratio",
        What::Growth { .. } => "growth",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up::{disk, events, ratio, snapshot, time};

    const SECOND: u64 = 1_000_000_000;

    /// The snapshot number `interval` of a run of one snapshot a second, in which `maps` were made so far.
    fn at(interval: u64, maps: u64, last: bool) -> IommuLine {
        let mut domain = disk();
        domain.maps.count = maps;
        domain.maps.bytes = maps * 4096;
        domain.lately.maps = 7;
        let time = time()
            .checked_add(SignedDuration::from_secs(interval.cast_signed()))
            .expect("a time");
        IommuLine::Snapshot(Box::new(IommuSnapshot {
            time,
            interval,
            elapsed_ns: interval * SECOND,
            interval_ns: SECOND,
            last,
            domains: vec![domain],
            ..snapshot()
        }))
    }

    fn all(lines: impl IntoIterator<Item = IommuLine>) -> IommuRecording {
        let mut summariser = IommuSummariser::new("watch.ndjson".to_owned());
        lines.into_iter().for_each(|line| summariser.add(line));
        summariser.finish().expect("a recording")
    }

    #[test]
    fn rates_are_differences_of_totals_and_totals_those_of_the_last_snapshot() {
        let recording = all([at(1, 10, false), at(2, 30, false), at(4, 50, true)]);
        let maps: Vec<_> = recording
            .timeline
            .iter()
            .map(|slot| (slot.maps, slot.length_ns / SECOND))
            .collect();
        assert_eq!(maps, [(10, 1), (20, 1), (20, 2)]);
        assert_eq!((recording.began, recording.snapshots), (time(), 3));
        assert_eq!(recording.runs.len(), 1);
        assert_eq!(recording.runs[0].snapshot.domains[0].maps.count, 50);
        assert!(recording.remarks[0].contains("snapshots missing: 1"));
    }

    #[test]
    fn each_run_has_totals_of_its_own() {
        let recording = all([
            at(1, 10, false),
            at(2, 30, true),
            at(1, 5, false),
            // Killed; the next one's beginning is not there.
            at(3, 50, false),
            at(2, 90, true),
        ]);
        let totals: Vec<u64> = recording
            .runs
            .iter()
            .map(|run| run.snapshot.domains[0].maps.count)
            .collect();
        assert_eq!(totals, [30, 50, 90]);
        let maps: Vec<u64> = recording.timeline.iter().map(|slot| slot.maps).collect();
        assert_eq!(maps, [10, 20, 5, 45, 7]);
        assert!(recording.remarks[0].contains("no last snapshot"));
        assert_eq!(recording.ratio_alarms, 6);
    }

    #[test]
    fn a_torn_line_is_told_and_the_rest_stands() {
        let recording = all([
            at(1, 10, false),
            IommuLine::Torn {
                number: 2,
                bytes: 99,
            },
        ]);
        assert!(
            recording.remarks[0].starts_with("line 2 of watch.ndjson (99 bytes) is torn"),
            "{:?}",
            recording.remarks
        );
        let nothing = IommuSummariser::new("empty".to_owned()).finish();
        assert_eq!(nothing, Err(IommuError::Empty("empty".to_owned())));
        let mut events_only = IommuSummariser::new("events".to_owned());
        events_only.add(IommuLine::Event(Box::new(ratio())));
        assert!(events_only.finish().is_err());
    }

    #[test]
    fn a_long_recording_keeps_few_slots_and_events_and_loses_no_count() {
        let long = 10_000;
        let lines = (1..=long).flat_map(|interval| {
            let event = IommuLine::Event(Box::new(ratio()));
            [event, at(interval, interval * 3, interval == long)]
        });
        let recording = all(lines);
        assert!(recording.timeline.len() <= SLOTS && recording.timeline.len() > SLOTS / 2);
        let maps: u64 = recording.timeline.iter().map(|slot| slot.maps).sum();
        assert_eq!(maps, long * 3);
        let joined = recording.timeline.windows(2);
        assert!(
            joined
                .into_iter()
                .all(|pair| pair[0].ended == pair[1].began)
        );
        assert_eq!(recording.events.len(), EVENTS);
        assert_eq!(recording.events_left_out, long - EVENTS as u64);
        assert_eq!(recording.event_counts["ratio"], long);
    }

    #[test]
    fn events_are_counted_under_their_names_in_ndjson() {
        for event in events() {
            let json = serde_json::to_value(&event).expect("JSON");
            assert_eq!(json["what"], name(&event.what));
        }
    }
}
