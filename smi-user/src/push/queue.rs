//! Snapshots that wait to be pushed, at most [`WAITING`].

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{model::Snapshot, report::otlp::PushCounts, units::ns};

/// Snapshots that wait for a receiver that is away; when a further one comes, the oldest is given up.
pub(super) const WAITING: usize = 5;

/// A snapshot to be pushed.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Tells it from others.
    pub(super) number: u64,
    pub(super) snapshot: Arc<Snapshot>,
    /// Each CPU's longest gap since the job before, and of jobs between that were given up.
    pub(super) interval_max_ns: BTreeMap<u32, u64>,
}

/// See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

/// When snapshots are due.
#[derive(Clone, Copy, Debug, Default)]
struct Schedule {
    interval_ns: u64,
    /// A snapshot is due this much early, too: they do not come to the nanosecond.
    slack_ns: u64,
}

impl Schedule {
    /// One every `interval` of those that come every `report_interval`.
    fn new(interval: Duration, report_interval: Duration) -> Self {
        Self {
            interval_ns: ns(interval),
            slack_ns: if interval <= report_interval {
                // All are due, however late one before was.
                u64::MAX
            } else {
                ns(report_interval) / 2
            },
        }
    }
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// When the newest that was offered was taken, since the start of the run.
    offered_ns: u64,
    waiting: VecDeque<Job>,
    /// The first that waits is being sent.
    in_flight: bool,
    next_number: u64,
    next_due_ns: u64,
    interval_max_ns: BTreeMap<u32, u64>,
    counts: PushCounts,
    newest_missing: bool,
    end: Option<End>,
}

#[derive(Clone, Copy)]
struct End {
    announced: Instant,
    until: Instant,
}

/// For how long nothing is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) from: Instant,
    pub(super) until: Instant,
    /// The receiver asked for it; otherwise the end of the run cuts it short.
    pub(super) asked: bool,
}

/// What became of all jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) counts: PushCounts,
    /// The newest snapshot is among those lost.
    pub(super) newest_missing: bool,
}

impl Queue {
    /// Takes a snapshot every `interval` of those that come every `report_interval`.
    pub(super) fn new(interval: Duration, report_interval: Duration) -> Self {
        let schedule = Schedule::new(interval, report_interval);
        let state = State {
            schedule,
            next_due_ns: schedule.interval_ns,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// From now on, takes one every `interval` of those that come every `report_interval`.
    pub(super) fn set_interval(&self, interval: Duration, report_interval: Duration) {
        let mut state = self.lock();
        state.schedule = Schedule::new(interval, report_interval);
        let at_latest = state.offered_ns.saturating_add(state.schedule.interval_ns);
        state.next_due_ns = state.next_due_ns.min(at_latest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `snapshot` if it is due or the last one. Never waits for the receiver.
    pub(super) fn offer(&self, snapshot: &Arc<Snapshot>) {
        let mut state = self.lock();
        let maxima = snapshot.cpus.iter();
        let maxima = maxima.filter_map(|cpu| Some((cpu.cpu, cpu.gaps.interval_max_ns?)));
        fold(&mut state.interval_max_ns, maxima);
        let (elapsed, due) = (snapshot.elapsed_ns, state.next_due_ns);
        state.offered_ns = elapsed;
        let Schedule {
            interval_ns,
            slack_ns,
        } = state.schedule;
        if elapsed.saturating_add(slack_ns) < due && !snapshot.last {
            return;
        }
        state.next_due_ns = if elapsed < due {
            due.saturating_add(interval_ns)
        } else {
            (elapsed / interval_ns + 1).saturating_mul(interval_ns)
        };
        if state.waiting.len() == WAITING {
            // What is being sent may still arrive.
            let oldest = usize::from(state.in_flight);
            if let Some(lost) = state.waiting.remove(oldest) {
                state.pass_on(lost, oldest);
            }
            state.counts.lost += 1;
        }
        let job = Job {
            number: state.next_number,
            snapshot: Arc::clone(snapshot),
            interval_max_ns: std::mem::take(&mut state.interval_max_ns),
        };
        state.next_number += 1;
        state.waiting.push_back(job);
        self.changed.notify_all();
    }

    /// Waits for the next job and for `pause` to be over; `None` when no more is to be sent.
    pub(super) fn next(&self, pause: Option<Pause>) -> Option<(Job, PushCounts)> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let resume = pause.map_or(now, |pause| state.resume(pause));
            if let Some(end) = state.end
                && (state.waiting.is_empty() || now >= end.until || resume >= end.until)
            {
                return None;
            }
            let wait = resume.saturating_duration_since(now);
            if wait.is_zero()
                && let Some(job) = state.waiting.front().cloned()
            {
                state.in_flight = true;
                return Some((job, state.counts));
            }
            state = if state.waiting.is_empty() {
                let woken = self.changed.wait(state);
                woken.unwrap_or_else(PoisonError::into_inner)
            } else {
                let woken = self.changed.wait_timeout(state, wait);
                woken.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// How long an attempt may take, `at_most` unless the run is at its end.
    pub(super) fn patience(&self, at_most: Duration) -> Duration {
        let left = |end: End| end.until.saturating_duration_since(Instant::now());
        self.lock()
            .end
            .map_or(at_most, |end| at_most.min(left(end)))
    }

    /// The attempt failed, and the job waits on.
    pub(super) fn retry(&self) {
        let mut state = self.lock();
        state.in_flight = false;
        state.counts.failures += 1;
    }

    /// The receiver took the job but for `rejected_points`.
    pub(super) fn delivered(&self, job: &Job, rejected_points: u64) {
        let mut state = self.lock();
        if state.settle(job).is_some() {
            state.counts.sent += 1;
            state.counts.rejected_points += rejected_points;
            state.newest_missing = false;
        }
    }

    /// The receiver will not have the job, however often it is asked.
    pub(super) fn refused(&self, job: &Job) {
        let mut state = self.lock();
        if let Some(lost) = state.settle(job) {
            state.pass_on(lost, 0);
            state.counts.failures += 1;
            state.counts.lost += 1;
            state.newest_missing = true;
        }
    }

    /// No more jobs will come, and nothing is to be sent after `until`.
    pub(super) fn end(&self, until: Instant) {
        self.lock().end = Some(End {
            announced: Instant::now(),
            until,
        });
        self.changed.notify_all();
    }

    /// Nothing is to be sent from now on; what still waits is lost.
    pub(super) fn abandon(&self) -> Account {
        let now = Instant::now();
        self.end(now);
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            state.counts.lost += state.waiting.len() as u64;
            state.waiting.clear();
            state.newest_missing = true;
        }
        Account {
            counts: state.counts,
            newest_missing: state.newest_missing,
        }
    }

    /// Counts so far.
    pub(super) fn counts(&self) -> PushCounts {
        self.lock().counts
    }
}

impl State {
    /// When to go on after `pause`: the end of the run is no time to be patient with a receiver that did not ask for it.
    fn resume(&self, pause: Pause) -> Instant {
        match self.end {
            Some(end) if !pause.asked && pause.from < end.announced => end.announced,
            _ => pause.until,
        }
    }

    /// Takes `job` out; `None` when it was given up meanwhile, and counted.
    fn settle(&mut self, job: &Job) -> Option<Job> {
        self.in_flight = false;
        let same = |front: &Job| front.number == job.number;
        self.waiting.pop_front_if(|front| same(front))
    }

    /// Has the longest gaps of a job that is given up told by the next one, which is or will be at `position`: unlike
    /// counts, they are in no later snapshot. That one was not sent yet, so no two requests for it can differ.
    fn pass_on(&mut self, lost: Job, position: usize) {
        let next = match self.waiting.get_mut(position) {
            Some(next) => &mut next.interval_max_ns,
            None => &mut self.interval_max_ns,
        };
        fold(next, lost.interval_max_ns);
    }
}

/// Raises each CPU's longest gap to that in `more`.
fn fold(maxima: &mut BTreeMap<u32, u64>, more: impl IntoIterator<Item = (u32, u64)>) {
    for (cpu, max) in more {
        let so_far = maxima.entry(cpu).or_default();
        *so_far = max.max(*so_far);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::otlp::testing::snapshot;

    fn offered(queue: &Queue, elapsed_ms: u64, max_ns: Option<u64>) {
        let mut one = snapshot();
        one.elapsed_ns = elapsed_ms * 1_000_000;
        one.cpus.truncate(1);
        one.cpus[0].gaps.interval_max_ns = max_ns;
        queue.offer(&Arc::new(one));
    }

    fn times(queue: &Queue) -> Vec<u64> {
        let state = queue.lock();
        let elapsed = state.waiting.iter().map(|job| job.snapshot.elapsed_ns);
        elapsed.map(|ns| ns / 1_000_000).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_snapshot_in_an_interval_is_taken_with_the_longest_gap_of_all() {
        let queue = Queue::new(SECOND, SECOND / 4);
        for (ms, max) in [
            (251, 3),
            (502, 9),
            (749, 4),
            (998, 5),
            (1_252, 1),
            (1_999, 2),
        ] {
            offered(&queue, ms, Some(max));
        }
        offered(&queue, 2_250, None);
        assert_eq!(times(&queue), [998, 1_999]);
        let cpu = snapshot().cpus[0].cpu;
        let maxima: Vec<_> = queue
            .lock()
            .waiting
            .iter()
            .map(|job| job.interval_max_ns.get(&cpu).copied())
            .collect();
        assert_eq!(maxima, [Some(9), Some(2)]);
    }

    #[test]
    fn a_late_snapshot_does_not_cost_the_one_after() {
        let queue = Queue::new(SECOND, SECOND);
        for ms in [1_000, 2_900, 3_000, 4_300, 4_301] {
            offered(&queue, ms, None);
        }
        assert_eq!(times(&queue), [1_000, 2_900, 3_000, 4_300, 4_301]);
    }

    #[test]
    fn the_last_snapshot_is_always_taken() {
        let queue = Queue::new(Duration::from_mins(1), SECOND);
        let mut last = snapshot();
        last.elapsed_ns = 1_000_000;
        last.last = true;
        queue.offer(&Arc::new(last));
        assert_eq!(times(&queue), [1]);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_is_being_sent_is_kept() {
        let queue = Queue::new(SECOND, SECOND);
        let in_flight = |queue: &Queue| queue.next(None).expect("a job").0;
        offered(&queue, 1_000, None);
        let first = in_flight(&queue);
        for second in 2..=7 {
            offered(&queue, second * 1_000, None);
        }
        assert_eq!(times(&queue), [1_000, 4_000, 5_000, 6_000, 7_000]);
        assert_eq!(queue.counts().lost, 2);
        queue.retry();
        offered(&queue, 8_000, None);
        assert_eq!(times(&queue), [4_000, 5_000, 6_000, 7_000, 8_000]);
        // It arrived after all, too late to be counted twice.
        queue.delivered(&first, 0);
        assert_eq!((queue.counts().lost, queue.counts().sent), (3, 0));
        let second = in_flight(&queue);
        queue.delivered(&second, 4);
        let counts = queue.counts();
        assert_eq!((counts.sent, counts.rejected_points), (1, 4));
        let account = queue.abandon();
        assert_eq!(account.counts.lost, 7);
        assert!(account.newest_missing);
        assert!(queue.next(None).is_none());
    }

    fn maxima(queue: &Queue) -> Vec<Option<u64>> {
        let cpu = snapshot().cpus[0].cpu;
        let state = queue.lock();
        let of = |job: &Job| job.interval_max_ns.get(&cpu).copied();
        state.waiting.iter().map(of).collect()
    }

    #[test]
    fn the_longest_gap_of_what_is_given_up_is_told_by_the_next() {
        let queue = Queue::new(SECOND, SECOND);
        for (second, max) in [(1, 900), (2, 20), (3, 10), (4, 40), (5, 50)] {
            offered(&queue, second * 1_000, Some(max));
        }
        // The first is being sent, so it is the second that goes.
        let (first, _) = queue.next(None).expect("a job");
        offered(&queue, 6_000, Some(60));
        assert_eq!(
            maxima(&queue),
            [Some(900), Some(20), Some(40), Some(50), Some(60)]
        );
        queue.refused(&first);
        assert_eq!(maxima(&queue), [Some(900), Some(40), Some(50), Some(60)]);
        // It failed, and goes when there is no room.
        queue.next(None).expect("a job");
        queue.retry();
        offered(&queue, 7_000, None);
        offered(&queue, 8_000, None);
        assert_eq!(maxima(&queue), [Some(900), Some(50), Some(60), None, None]);
    }

    #[test]
    fn the_longest_gap_of_one_refused_is_told_by_one_that_is_yet_to_come() {
        let queue = Queue::new(SECOND, SECOND);
        offered(&queue, 1_000, Some(900));
        let (job, _) = queue.next(None).expect("a job");
        queue.refused(&job);
        offered(&queue, 2_000, Some(20));
        assert_eq!(maxima(&queue), [Some(900)]);
        let (job, _) = queue.next(None).expect("a job");
        queue.delivered(&job, 0);
        offered(&queue, 3_000, Some(30));
        assert_eq!(maxima(&queue), [Some(30)], "it was told once");
    }

    #[test]
    fn reports_that_come_at_another_interval_are_pushed_as_often_as_asked() {
        let from = |queue: &Queue, ms: &[u64]| {
            for ms in ms {
                offered(queue, *ms, None);
            }
            times(queue)
        };
        // Reports each second become four a second: one push a second as before, not each of them.
        let queue = Queue::new(SECOND, SECOND);
        from(&queue, &[1_000]);
        queue.set_interval(SECOND, SECOND / 4);
        let four_a_second = [1_250, 1_500, 1_750, 2_000, 2_250, 2_500, 2_750, 3_000];
        assert_eq!(from(&queue, &four_a_second), [1_000, 2_000, 3_000]);

        // And back: all of them, however late one is.
        queue.set_interval(SECOND, SECOND);
        assert_eq!(
            from(&queue, &[4_300, 5_000]),
            [1_000, 2_000, 3_000, 4_300, 5_000]
        );

        // Pushes that were an hour apart do not wait for the end of that hour.
        let hour = Duration::from_hours(1);
        let queue = Queue::new(hour, hour);
        queue.set_interval(SECOND * 60, SECOND * 5);
        let every_five: Vec<u64> = (1..=25).map(|number| number * 5_000).collect();
        assert_eq!(from(&queue, &every_five), [60_000, 120_000]);
    }

    #[test]
    fn the_end_cuts_short_a_pause_that_nobody_asked_for() {
        let now = Instant::now();
        let pause = |asked| Pause {
            from: now,
            until: now + Duration::from_hours(1),
            asked,
        };
        for asked in [false, true] {
            let queue = Queue::new(SECOND, SECOND);
            offered(&queue, 1_000, None);
            queue.end(Instant::now() + Duration::from_mins(1));
            // Asked for an hour, the minute that is left is not worth waiting.
            assert_eq!(queue.next(Some(pause(asked))).is_none(), asked);
        }
    }

    #[test]
    fn a_snapshot_refused_is_made_up_for_by_a_newer_one() {
        let queue = Queue::new(SECOND, SECOND);
        offered(&queue, 1_000, None);
        let (job, _) = queue.next(None).expect("a job");
        queue.refused(&job);
        assert!(queue.abandon().newest_missing);
        offered(&queue, 2_000, None);
        queue.end(Instant::now() + Duration::from_mins(1));
        let (job, counts) = queue.next(None).expect("a job");
        assert_eq!((counts.lost, counts.failures), (1, 1));
        queue.delivered(&job, 0);
        let account = queue.abandon();
        assert!(!account.newest_missing);
        assert_eq!((account.counts.sent, account.counts.lost), (1, 1));
    }
}
