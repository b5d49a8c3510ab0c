//! Where moments lie on the time line, though the wall clock was set while smilat recorded.
//!
//! A clock is set while a machine boots, from 1970 to the time it is, or by a little whenever it has gone wrong. In the first
//! run the time that passed tells what lies where, and the newest clock when that was. Later runs lie where their clock says
//! that they were, but never before the end of what came before them.
//!
//! The time that passed is that of a clock which stands still while the machine sleeps. So where the wall clock goes ahead by
//! no more than a machine may have slept, it is believed, and nothing was sampled meanwhile.

use jiff::Timestamp;

use super::timeline::{after, before, ns_between};

/// Wall clock and time since start differ by more only when somebody set the clock.
pub(super) const SET_NS: u64 = 1_000_000_000;
/// The longest that a machine is taken to have slept: 30 days.
const SLEEP_NS: i128 = 30 * 86_400 * 1_000_000_000;

/// See the module. Positions are in ns from the beginning of the time line.
#[derive(Debug)]
pub(super) struct Clock {
    /// The time at position 0, by the newest clock of the first run.
    began: Timestamp,
    /// What the clock showed, or would have shown, at position 0.
    origin: i128,
    first_run: bool,
    /// Position of the newest snapshot.
    reached_ns: u64,
}

impl Clock {
    /// Of a recording whose first interval ended at `time`.
    pub(super) fn new(time: Timestamp, interval_ns: u64) -> Self {
        let began = before(time, interval_ns);
        Self {
            began,
            origin: began.as_nanosecond(),
            first_run: true,
            reached_ns: 0,
        }
    }

    /// Another run begins; its first interval ends at `time`. True where its clock has it begin before the one before ended.
    pub(super) fn run(&mut self, time: Timestamp, interval_ns: u64) -> bool {
        self.first_run = false;
        self.begin(before(time, interval_ns))
    }

    /// The clock was set between `was` and `is`, while `elapsed_ns` passed.
    pub(super) fn set(&mut self, was: Timestamp, is: Timestamp, elapsed_ns: u64) {
        if self.first_run {
            let shown = is.as_nanosecond() - was.as_nanosecond();
            let ahead = shown - i128::from(elapsed_ns);
            if (0..=SLEEP_NS).contains(&ahead) {
                return;
            }
            self.origin += ahead;
            self.began = Timestamp::from_nanosecond(self.origin).unwrap_or(self.began);
        } else {
            self.begin(before(is, elapsed_ns));
        }
    }

    /// What follows begins at `time`, or where the last ended if that is later. True in the second case.
    fn begin(&mut self, time: Timestamp) -> bool {
        let end = after(self.began, self.reached_ns);
        // Clocks are slewed, and times are taken a little after what they are the times of.
        if ns_between(time, end) <= SET_NS {
            self.origin = self.began.as_nanosecond();
            return false;
        }
        self.origin = time.as_nanosecond() - i128::from(self.reached_ns);
        true
    }

    /// Position of a snapshot that was taken at `time`.
    pub(super) fn snapshot(&mut self, time: Timestamp) -> u64 {
        let position = u64::try_from(self.position(time).max(0)).unwrap_or(u64::MAX);
        self.reached_ns = self.reached_ns.max(position);
        position
    }

    /// Position of any moment near the newest snapshot; below 0 for what came before the beginning.
    pub(super) fn position(&self, time: Timestamp) -> i128 {
        time.as_nanosecond() - self.origin
    }

    /// When it was that `position` was there.
    pub(super) fn time(&self, position: i128) -> Timestamp {
        let began = self.began.as_nanosecond();
        Timestamp::from_nanosecond(began.saturating_add(position)).unwrap_or(self.began)
    }

    /// When the first interval began.
    pub(super) fn began(&self) -> Timestamp {
        self.began
    }

    /// Position of the newest snapshot: how long it lasted.
    pub(super) fn reached_ns(&self) -> u64 {
        self.reached_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_clock_that_is_set_moves_what_came_before() {
        let mut clock = Clock::new(second(10), 10 * S);
        assert_eq!(clock.snapshot(second(10)), 10 * S);
        clock.set(second(10), second(1_800_000_000), 10 * S);
        assert_eq!(clock.snapshot(second(1_800_000_000)), 20 * S);
        assert_eq!(clock.began(), second(1_800_000_000 - 20));
        assert_eq!(clock.time(0), second(1_800_000_000 - 20));
        clock.set(second(1_800_000_000), second(1_799_990_000), 10 * S);
        assert_eq!(clock.snapshot(second(1_799_990_000)), 30 * S);
        assert_eq!(clock.began(), second(1_799_990_000 - 30));
    }

    #[test]
    fn a_machine_that_slept_has_nothing_sampled_meanwhile() {
        let mut clock = Clock::new(second(10), 10 * S);
        clock.snapshot(second(10));
        clock.set(second(10), second(7_210), 10 * S);
        assert_eq!(clock.snapshot(second(7_210)), 7_210 * S);
        assert_eq!(clock.began(), second(0));
    }

    #[test]
    fn a_later_run_lies_where_its_clock_says_but_after_the_one_before() {
        let mut clock = Clock::new(second(1_010), 10 * S);
        clock.snapshot(second(1_010));
        assert!(!clock.run(second(1_110), 10 * S));
        assert_eq!(clock.snapshot(second(1_110)), 110 * S);
        // The machine starts, in 1970 as far as it knows, and learns what time it is.
        assert!(clock.run(second(20), 10 * S));
        assert_eq!(clock.snapshot(second(20)), 120 * S);
        assert_eq!(clock.time(120_000_000_000), second(1_120));
        clock.set(second(20), second(2_000), 10 * S);
        assert_eq!(clock.snapshot(second(2_000)), 1_000 * S);
        assert_eq!(clock.began(), second(1_000));
    }
}
