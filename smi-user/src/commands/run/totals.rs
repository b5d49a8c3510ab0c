//! Totals of a run whose detectors come and go, and what is known should one fail to tell its last.

use std::sync::Arc;

use crate::model::Snapshot;

/// See the module.
#[derive(Default)]
pub(super) struct Totals {
    before: Option<Before>,
    newest: Option<Newest>,
    /// Single gaps that were neither reported nor recorded, of all detectors.
    given_up: u64,
}

/// What came before the detector that runs now.
struct Before {
    /// Without single gaps, and without those that were given up.
    last: Snapshot,
    /// From the start of the first detector to that of this one.
    started_ns: u64,
}

/// The last that is known.
struct Newest {
    snapshot: Arc<Snapshot>,
    /// How many of the gaps given up it tells.
    given_up: u64,
}

impl Totals {
    /// Has `snapshot`, of the detector that runs now, tell of all.
    pub(super) fn tell_all(&mut self, mut snapshot: Snapshot) -> Arc<Snapshot> {
        self.go_on(&mut snapshot);
        snapshot.gaps_dropped += self.given_up;
        let snapshot = Arc::new(snapshot);
        self.newest = Some(Newest {
            snapshot: Arc::clone(&snapshot),
            given_up: self.given_up,
        });
        snapshot
    }

    /// As [`Self::tell_all`], of a detector's last snapshot, after which another one takes its place, `started_ns` after
    /// the first one started.
    pub(super) fn another_begins(
        &mut self,
        mut snapshot: Snapshot,
        started_ns: u64,
    ) -> Arc<Snapshot> {
        snapshot.last = false;
        let gaps = std::mem::take(&mut snapshot.gaps);
        let mut last = snapshot.clone();
        self.go_on(&mut last);
        snapshot.gaps = gaps;
        let told = self.tell_all(snapshot);
        self.before = Some(Before { last, started_ns });
        told
    }

    /// Counts single gaps of a snapshot that were neither reported nor recorded.
    pub(super) fn give_up(&mut self, gaps: u64) {
        self.given_up += gaps;
    }

    /// The newest snapshot as the last one, for a detector that cannot tell its own any more; `None` before the first.
    pub(super) fn last_known(self) -> Option<Arc<Snapshot>> {
        let newest = self.newest?;
        let mut snapshot = Snapshot::clone(&newest.snapshot);
        snapshot.last = true;
        // Reported already, with the interval they belong to.
        snapshot.gaps.clear();
        snapshot.gaps_dropped += self.given_up - newest.given_up;
        Some(Arc::new(snapshot))
    }

    fn go_on(&self, snapshot: &mut Snapshot) {
        if let Some(before) = &self.before {
            snapshot.go_on_from(&before.last, before.started_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        made_up,
        model::{Cause, Gap},
    };

    /// The snapshot of a detector's own `interval`, with as many single gaps.
    fn snapshot(interval: u64, gaps: usize) -> Snapshot {
        Snapshot {
            elapsed_ns: interval * 10,
            gaps: vec![Gap::new(0, made_up::BEGAN, 1, Cause::UNKNOWN); gaps],
            ..made_up::snapshot(interval)
        }
    }

    #[test]
    fn a_detector_that_cannot_tell_its_last_ends_with_the_newest_there_is() {
        let mut totals = Totals::default();
        totals.another_begins(snapshot(3, 0), 100);
        totals.tell_all(snapshot(1, 0));
        let newest = totals.tell_all(snapshot(2, 7));
        totals.give_up(newest.gaps.len() as u64);
        let last = totals.last_known().expect("a snapshot");
        assert_eq!((last.interval, last.elapsed_ns, last.last), (5, 120, true));
        assert!(last.gaps.is_empty());
        assert_eq!(last.gaps_dropped, 7);
        assert!(Totals::default().last_known().is_none());
    }

    #[test]
    fn gaps_given_up_are_told_once_whichever_detector_found_them() {
        let mut totals = Totals::default();
        let first = totals.tell_all(snapshot(1, 2));
        totals.give_up(first.gaps.len() as u64);
        let dropped = Snapshot {
            gaps_dropped: 5,
            ..snapshot(2, 3)
        };
        let ended = totals.another_begins(dropped, 100);
        assert_eq!((ended.gaps_dropped, ended.gaps.len()), (2 + 5, 3));
        totals.give_up(ended.gaps.len() as u64);
        let next = totals.tell_all(snapshot(1, 1));
        assert_eq!((next.gaps_dropped, next.gaps.len()), (2 + 5 + 3, 1));
        let ended = totals.another_begins(snapshot(2, 0), 200);
        assert_eq!(ended.gaps_dropped, 10);
        assert_eq!(totals.tell_all(snapshot(1, 0)).gaps_dropped, 10);
        assert_eq!(totals.last_known().map(|last| last.gaps_dropped), Some(10));
    }

    #[test]
    fn what_came_before_keeps_no_single_gaps() {
        let mut totals = Totals::default();
        totals.another_begins(snapshot(1, 9), 100);
        assert!(
            totals
                .before
                .is_some_and(|before| before.last.gaps.is_empty())
        );
    }
}
