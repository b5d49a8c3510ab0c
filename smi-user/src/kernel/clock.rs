//! The clocks: `CLOCK_MONOTONIC`, which the BPF programs read too, and the wall clock.

use std::time::{Duration, SystemTime};

use crate::units;

/// Nanoseconds of `CLOCK_MONOTONIC`, on the same time line as `bpf_ktime_get_ns()`.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid place to write to. The call cannot fail for this clock (clock_gettime(2)).
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    // Neither is negative for this clock.
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Ties the two clocks together at one moment, to give monotonic times a date.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    wall: SystemTime,
    monotonic_ns: u64,
}

impl Epoch {
    /// Reads both clocks, so that nothing came between the two readings if that can be had in a few tries.
    pub fn now() -> Self {
        let read = || {
            let before_ns = monotonic_ns();
            let wall = SystemTime::now();
            let apart_ns = monotonic_ns() - before_ns;
            (apart_ns, wall, before_ns + apart_ns / 2)
        };
        let tries = [read(), read(), read()];
        let [first, rest @ ..] = tries;
        let (_, wall, monotonic_ns) =
            rest.into_iter().fold(
                first,
                |best, next| if next.0 < best.0 { next } else { best },
            );
        Self { wall, monotonic_ns }
    }

    /// The wall clock, in ns since 1970, less the monotonic clock.
    pub fn wall_less_monotonic_ns(&self) -> u64 {
        let wall = self.wall.duration_since(SystemTime::UNIX_EPOCH);
        units::ns(wall.unwrap_or_default()).wrapping_sub(self.monotonic_ns)
    }

    /// The date of a monotonic time, by the wall clock as it stood when `self` was made.
    pub fn date(&self, monotonic_ns: u64) -> SystemTime {
        if monotonic_ns >= self.monotonic_ns {
            self.wall + Duration::from_nanos(monotonic_ns - self.monotonic_ns)
        } else {
            self.wall - Duration::from_nanos(self.monotonic_ns - monotonic_ns)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_time_gets_the_date_it_had() {
        let epoch = Epoch {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
            monotonic_ns: 5_000_000_000,
        };
        let date = |ns| {
            epoch
                .date(ns)
                .duration_since(SystemTime::UNIX_EPOCH)
                .expect("after 1970")
        };
        assert_eq!(date(5_000_000_000), Duration::from_secs(100));
        assert_eq!(date(5_000_000_007), Duration::new(100, 7));
        assert_eq!(date(4_000_000_000), Duration::from_secs(99));
    }
}
