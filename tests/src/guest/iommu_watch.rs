//! Runs `smilat iommu` while a test has something mapped.

use std::{
    process::ExitStatus,
    time::{Duration, Instant},
};

use serde_json::Value;
use smi_user::model::iommu::{DomainCounts, IommuEvent, IommuSnapshot, Moved, What};

use super::telling::Telling;
use crate::smilat;

/// How long something may take that is sure to be told.
const PATIENCE: Duration = Duration::from_mins(2);

/// A line of the report.
pub(super) enum Line {
    /// Something was found.
    Event(Box<IommuEvent>),
    /// All that was counted.
    Snapshot(Box<IommuSnapshot>),
}

impl Line {
    fn parse(text: &str) -> Self {
        let line: Value = serde_json::from_str(text).expect(text);
        match line.get("event") {
            Some(event) => Self::Event(serde_json::from_value(event.clone()).expect(text)),
            None => Self::Snapshot(serde_json::from_value(line["snapshot"].clone()).expect(text)),
        }
    }
}

/// A `smilat iommu` under way. Dropped, it ends.
pub(super) struct Watch {
    /// `None` once it was waited for.
    telling: Option<Telling<Line>>,
    told: Told,
}

/// What it told until now, or until its end.
#[derive(Default)]
pub(super) struct Told {
    /// How it ended; `None` as long as it has not.
    pub(super) status: Option<ExitStatus>,
    /// The first one first.
    pub(super) events: Vec<IommuEvent>,
    /// The first one first.
    pub(super) snapshots: Vec<IommuSnapshot>,
    /// Standard error.
    pub(super) words: String,
}

impl Watch {
    /// Starts it with a snapshot each second, and waits for the first: from then on, what happens is watched.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub(super) fn start(args: &[&str]) -> Self {
        let mut command = smilat();
        command.args(["iommu", "--format=ndjson"]);
        if !args.iter().any(|arg| arg.starts_with("--interval")) {
            command.arg("--interval=1s");
        }
        command.args(args);
        let mut watch = Self {
            telling: Some(Telling::start(command, Line::parse)),
            told: Told::default(),
        };
        watch.until("a first snapshot", |told| !told.snapshots.is_empty());
        watch
    }

    /// Its process number.
    ///
    /// # Panics
    /// When it has ended.
    pub(super) fn id(&self) -> u32 {
        self.telling.as_ref().expect("under way").id()
    }

    /// Waits until what was told is as asked for, and returns it.
    ///
    /// # Panics
    /// When that does not come, or smilat ends.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, is_so: impl Fn(&Told) -> bool) -> &Told {
        let began = Instant::now();
        while !is_so(&self.told) {
            let line = self.telling.as_ref().expect("under way").next();
            let line = line.ok().filter(|_| began.elapsed() < PATIENCE);
            match line {
                Some(line) => self.told.add(line),
                None => panic!("waited in vain for {what}; {}", self.ruins()),
            }
        }
        &self.told
    }

    /// Kills it; what it told and said.
    fn ruins(&mut self) -> String {
        let Some(telling) = self.telling.take() else {
            return String::new();
        };
        telling.signal(libc::SIGKILL);
        format!("{}; {:#?}", telling.ended().words, self.told.events)
    }

    /// Waits until an event was told that is as asked for, and returns the last of those.
    ///
    /// # Panics
    /// As [`Watch::until`].
    #[track_caller]
    pub(super) fn event(&mut self, what: &str, is_it: impl Fn(&What) -> bool) -> IommuEvent {
        let found = |told: &Told| {
            let events = told.events.iter().rev();
            events.into_iter().find(|event| is_it(&event.what)).cloned()
        };
        let told = self.until(what, |told| found(told).is_some());
        found(told).expect("was found")
    }

    /// Waits for the second snapshot from now on, which has all that happened before.
    ///
    /// # Panics
    /// As [`Watch::until`].
    #[track_caller]
    pub(super) fn settled(&mut self) -> &Told {
        while let Some(line) = self.telling.as_ref().and_then(Telling::waiting) {
            self.told.add(line);
        }
        let had = self.told.snapshots.len();
        self.until("two snapshots", |told| told.snapshots.len() >= had + 2)
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Panics
    /// When it does not end, or without a last snapshot.
    #[track_caller]
    pub(super) fn end(mut self) -> Told {
        let telling = self.telling.take().expect("under way");
        telling.signal(libc::SIGINT);
        let ended = telling.ended();
        let mut told = self.told;
        for line in ended.lines {
            told.add(line);
        }
        told.status = Some(ended.status);
        told.words = ended.words;
        assert!(told.last().last, "{}", told.words);
        told
    }
}

impl Told {
    fn add(&mut self, line: Line) {
        match line {
            Line::Event(event) => self.events.push(*event),
            Line::Snapshot(snapshot) => self.snapshots.push(*snapshot),
        }
    }

    /// The newest snapshot.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub(super) fn last(&self) -> &IommuSnapshot {
        self.snapshots.last().expect(&self.words)
    }

    /// Its exit status.
    ///
    /// # Panics
    /// When it has not ended by itself.
    #[track_caller]
    pub(super) fn code(&self) -> i32 {
        let status = self.status.expect("it has ended");
        status.code().expect(&self.words)
    }

    /// Checks that nothing was lost or put down to no domain.
    ///
    /// # Panics
    /// When something was.
    #[track_caller]
    pub(super) fn assert_whole(&self) {
        let last = self.last();
        assert_eq!((last.missed, last.records_lost, last.log_lost), (0, 0, 0));
        assert_eq!(last.following.refused, 0);
        let nobodys = last.domains.iter().find(|domain| domain.domain == 0);
        assert_eq!(nobodys, None, "put down to no domain; {}", self.words);
    }
}

/// What `snapshot` has of the domains that the device of that name uses or used, one after the other, in their order.
pub(super) fn domains_of<'a>(snapshot: &'a IommuSnapshot, device: &str) -> Vec<&'a DomainCounts> {
    snapshot
        .domains
        .iter()
        .filter(|domain| domain.devices.iter().any(|name| name == device))
        .collect()
}

/// What was counted in the one domain that the device uses.
///
/// # Panics
/// When there is no such domain, or more than one.
#[track_caller]
pub(super) fn domain_of<'a>(snapshot: &'a IommuSnapshot, device: &str) -> &'a DomainCounts {
    let found = domains_of(snapshot, device);
    let [domain] = found[..] else {
        panic!("domains of {device}: {:#?}", snapshot.domains);
    };
    domain
}

/// Count and bytes.
pub(super) fn count_and_bytes(moved: &Moved) -> (u64, u64) {
    (moved.count, moved.bytes)
}
