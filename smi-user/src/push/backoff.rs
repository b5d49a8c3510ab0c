//! How long to wait before the next attempt.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// However many there were.
const LONGEST: Duration = Duration::from_secs(30);
/// A receiver may ask for no longer silence than this: it may be wrong about its clock.
const ASKED_AT_MOST: Duration = Duration::from_hours(1);

/// Grows with each failure.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The time to wait after one more failure: doubled each time, and at random between half of it and all of it, so
    /// that many senders do not all come back at once.
    pub(super) fn next(&mut self) -> Duration {
        let longest = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Something worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// What a header `Retry-After` asks for, seconds or a date (RFC 9110, section 10.2.3); `None` when it is neither.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
        // What is past is no time to wait.
        Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(asked.min(ASKED_AT_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_vary() {
        let mut backoff = Backoff::default();
        for seconds in [1, 2, 4, 8, 16, 30, 30, 30] {
            let longest = Duration::from_secs(seconds);
            let wait = backoff.next();
            assert!(
                wait <= longest && wait >= longest / 2,
                "{wait:?} of {longest:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
        let mut many = Backoff { failures: u32::MAX };
        assert!(many.next() <= LONGEST);
        let waits: Vec<_> = (0..8).map(|_| many.next()).collect();
        assert!(waits.windows(2).any(|two| two[0] != two[1]), "{waits:?}");
    }

    #[test]
    fn a_receiver_asks_by_seconds_or_by_date() {
        let now: Timestamp = "2026-11-22T08:00:00Z".parse().expect("a time");
        let asked = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked(" 0 "), Some(0));
        assert_eq!(asked("Sun, 22 Nov 2026 08:01:30 GMT"), Some(90));
        assert_eq!(asked("Sun, 22 Nov 2026 07:00:00 GMT"), Some(0));
        assert_eq!(asked("99999999"), Some(3_600));
        for neither in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(asked(neither), None, "{neither:?}");
        }
    }
}
