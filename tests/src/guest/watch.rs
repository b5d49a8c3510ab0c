//! Runs smilat while a test does something to the machine.

use std::process::{Command, ExitStatus};

use smi_user::model::Snapshot;

use super::telling::Telling;
use crate::smilat;

/// A `smilat run` under way. Dropped, it ends.
pub(super) struct Watch {
    telling: Telling<Snapshot>,
    first: Option<Snapshot>,
}

/// What smilat told, from its start to its end.
pub(super) struct Told {
    pub(super) status: ExitStatus,
    /// The first one first.
    pub(super) snapshots: Vec<Snapshot>,
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
        Self::start_by(smilat(), args)
    }

    /// The same by `command`, which is smilat.
    ///
    /// # Panics
    /// As [`Watch::start`].
    #[track_caller]
    pub(super) fn start_by(mut command: Command, args: &[&str]) -> Self {
        command
            .args(["run", "--format=ndjson", "--interval=1s"])
            .args(args);
        let telling = Telling::start(command, |line| {
            serde_json::from_str(line).expect("a snapshot")
        });
        let first = telling.next().ok();
        let watch = Self { telling, first };
        assert!(
            watch.first.is_some(),
            "no first snapshot; {}",
            watch.end().words
        );
        watch
    }

    /// Its process number.
    pub(super) fn id(&self) -> u32 {
        self.telling.id()
    }

    /// Sends it `signal`.
    #[track_caller]
    pub(super) fn signal(&self, signal: libc::c_int) {
        self.telling.signal(signal);
    }

    /// Ends it as Ctrl-C does; all snapshots, the first one first.
    ///
    /// # Panics
    /// When it fails, or a snapshot is missing.
    #[track_caller]
    pub(super) fn finish(self) -> Vec<Snapshot> {
        let told = self.end();
        assert!(told.status.success(), "{}: {}", told.status, told.words);
        told.snapshots
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Panics
    /// When it does not end, or a snapshot is missing.
    #[track_caller]
    pub(super) fn end(self) -> Told {
        self.signal(libc::SIGINT);
        self.ended()
    }

    /// Waits until it has ended for whatever reason.
    ///
    /// # Panics
    /// When a snapshot is missing.
    #[track_caller]
    pub(super) fn ended(self) -> Told {
        let ended = self.telling.ended();
        let told = Told {
            status: ended.status,
            snapshots: self.first.into_iter().chain(ended.lines).collect(),
            words: ended.words,
        };
        let last = told.snapshots.last();
        assert!(last.is_none_or(|last| last.last), "no last one");
        for (expected, snapshot) in (1..).zip(&told.snapshots) {
            assert_eq!(snapshot.interval, expected, "a snapshot is missing");
        }
        told
    }
}
