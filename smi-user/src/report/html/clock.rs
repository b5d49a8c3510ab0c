//! A time axis.

use jiff::Timestamp;
use maud::{Markup, html};

use super::axes::{Frame, short};

/// A scale of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began_ns: i128,
    length_ns: i128,
    from: f64,
    to: f64,
}

const SECOND: i128 = 1_000_000_000;
/// What may lie between two marks on the time axis.
const STEPS: [i128; 29] = [
    SECOND / 1_000,
    SECOND / 500,
    SECOND / 200,
    SECOND / 100,
    SECOND / 50,
    SECOND / 20,
    SECOND / 10,
    SECOND / 5,
    SECOND / 2,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
    600 * SECOND,
    900 * SECOND,
    1_800 * SECOND,
    3_600 * SECOND,
    7_200 * SECOND,
    10_800 * SECOND,
    21_600 * SECOND,
    43_200 * SECOND,
    DAY,
    2 * DAY,
    7 * DAY,
];
const DAY: i128 = 86_400 * SECOND;

/// A moment on the time axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    pub(super) at: f64,
    /// The time, or the date where the marks are days apart.
    pub(super) label: String,
    /// The date, where it is not that of the mark before.
    pub(super) date: String,
}

impl Clock {
    /// Has `began` at the coordinate `from` and `ended` at `to`.
    pub(super) fn new(began: Timestamp, ended: Timestamp, from: f64, to: f64) -> Self {
        let began_ns = began.as_nanosecond();
        Self {
            began_ns,
            length_ns: (ended.as_nanosecond() - began_ns).max(1),
            from,
            to,
        }
    }

    /// The coordinate of a moment; one beyond the ends is put there.
    pub(super) fn at(&self, time: Timestamp) -> f64 {
        self.at_ns(time.as_nanosecond())
    }

    fn at_ns(&self, ns: i128) -> f64 {
        let part = (ns - self.began_ns) as f64 / self.length_ns as f64;
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round moments, so far apart that `room` is between them.
    pub(super) fn moments(&self, room: f64) -> Vec<Moment> {
        let least = self.length_ns as f64 * room / (self.to - self.from);
        let step = STEPS
            .into_iter()
            .find(|step| *step as f64 >= least)
            // Years: any number of weeks will do.
            .unwrap_or_else(|| (least / (7 * DAY) as f64).ceil() as i128 * 7 * DAY);
        let format = match step {
            step if step >= DAY => "%m-%d",
            step if step >= 60 * SECOND => "%H:%M",
            step if step >= SECOND => "%H:%M:%S",
            _ => "%H:%M:%S%.3f",
        };
        let mut moments = Vec::new();
        let mut day = String::new();
        let mut ns = (self.began_ns + step - 1).div_euclid(step) * step;
        while ns <= self.began_ns + self.length_ns {
            if let Ok(time) = Timestamp::from_nanosecond(ns) {
                let on = time
                    .strftime(if step >= DAY { "%Y" } else { "%F" })
                    .to_string();
                moments.push(Moment {
                    at: self.at_ns(ns),
                    label: time.strftime(format).to_string(),
                    date: if on == day { String::new() } else { on.clone() },
                });
                day = on;
            }
            ns += step;
        }
        moments
    }
}

/// Lines and words of a time axis at the bottom.
pub(super) fn time_axis(frame: &Frame, clock: &Clock) -> Markup {
    let moments = clock.moments(frame.label);
    // A word at the very edge would be cut off.
    let fits = |at: f64| at > frame.left() - 20.0 && at < frame.right() - 10.0;
    html! {
        g.axis {
            @for moment in &moments {
                line x1=(short(moment.at)) x2=(short(moment.at)) y1=(frame.top) y2=(frame.bottom()) {}
                @if fits(moment.at) {
                    text.middle x=(short(moment.at)) y=(frame.bottom() + 15.0) { (moment.label) }
                    @if !moment.date.is_empty() {
                        text.middle.date x=(short(moment.at)) y=(frame.bottom() + 30.0) { (moment.date) }
                    }
                }
            }
            text.axis-title.end x=(frame.right()) y=(frame.bottom() + 30.0) { "UTC" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_without_extent_does_not_divide_by_zero() {
        let now = Timestamp::UNIX_EPOCH;
        let clock = Clock::new(now, now, 0.0, 100.0);
        assert!(clock.at(now).is_finite());
        assert!(clock.moments(50.0).len() <= 2);
    }

    #[test]
    fn times_are_round_and_name_the_day_when_it_changes() {
        let began: Timestamp = "2026-11-21T22:10:00Z".parse().expect("a time");
        let ended: Timestamp = "2026-11-22T02:10:00Z".parse().expect("a time");
        let moments = Clock::new(began, ended, 0.0, 400.0).moments(90.0);
        let shown: Vec<_> = moments
            .iter()
            .map(|moment| (moment.label.as_str(), moment.date.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("23:00", "2026-11-21"),
                ("00:00", "2026-11-22"),
                ("01:00", ""),
                ("02:00", "")
            ]
        );
    }

    #[test]
    fn marks_stay_few_however_long_the_time() {
        let began = Timestamp::UNIX_EPOCH;
        for seconds in [0, 1, 59, 3_600, 86_400, 400_000, 30_000_000, 3_000_000_000] {
            let ended = Timestamp::from_second(seconds).expect("a time");
            let count = Clock::new(began, ended, 0.0, 900.0).moments(80.0).len();
            assert!(count <= 12, "{seconds} s: {count}");
            assert!(count >= 2 || seconds == 0, "{seconds} s: {count}");
        }
    }
}
