//! Where values lie in a chart, and the marks and words along its edges.

use jiff::Timestamp;
use maud::{Markup, html};

use super::figures::show_count;
use crate::units::show_ns;

/// The room of a chart, in units of about one pixel. Each chart is drawn twice, for wide and narrow windows, and the
/// style sheet shows the one that fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Class of what is drawn in it.
    pub(super) name: &'static str,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) top: f64,
    left: f64,
    right: f64,
    bottom: f64,
    /// Width that a label on the time axis takes.
    label: f64,
}

impl Frame {
    /// Both rooms: as high as given, and four fifths of it.
    pub(super) fn both(height: f64, top: f64) -> [Self; 2] {
        let wide = Self {
            name: "wide",
            width: 1040.0,
            height,
            left: 58.0,
            right: 14.0,
            top,
            bottom: 38.0,
            label: 76.0,
        };
        let narrow = Self {
            name: "narrow",
            width: 400.0,
            height: (height * 0.8).round(),
            left: 54.0,
            right: 8.0,
            label: 70.0,
            ..wide
        };
        [wide, narrow]
    }

    pub(super) fn is_narrow(&self) -> bool {
        self.name == "narrow"
    }

    /// Keeps `room` free at the right, for words that begin at the last mark.
    pub(super) fn keep_right(&mut self, room: f64) {
        self.right = room;
    }

    pub(super) fn left(&self) -> f64 {
        self.left
    }

    pub(super) fn right(&self) -> f64 {
        self.width - self.right
    }

    pub(super) fn bottom(&self) -> f64 {
        self.height - self.bottom
    }
}

/// A coordinate to a tenth, as short as can be.
pub(super) fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0" } else { text }.to_owned()
}

/// A logarithmic scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub(super) low: f64,
    pub(super) high: f64,
    from: f64,
    to: f64,
}

/// A line across a chart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    /// Empty for lines without words.
    pub(super) label: String,
}

impl Log {
    /// Has `low` (above 0) at the coordinate `from` and `high` at `to`.
    pub(super) fn new(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { low * 2.0 };
        Self {
            low,
            high,
            from,
            to,
        }
    }

    /// The coordinate of a value; one beyond the ends is put there.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        self.from + (value / self.low).ln() / (self.high / self.low).ln() * (self.to - self.from)
    }

    /// Powers of ten, and 2 and 5 times those where there is room, with words.
    fn ticks(&self, room: f64, show: impl Fn(f64) -> String) -> Vec<Tick> {
        let decade = (self.to - self.from).abs() / (self.high / self.low).log10();
        let mut ticks = Vec::new();
        let mut power = 10f64.powf(self.low.log10().floor());
        while power <= self.high {
            for step in 1..10u32 {
                let value = power * f64::from(step);
                if value < self.low * 0.999 || value > self.high * 1.001 {
                    continue;
                }
                let words = match step {
                    1 => true,
                    2 | 5 => decade * 0.3 >= room,
                    _ => false,
                };
                if words || decade >= room {
                    ticks.push(Tick {
                        at: self.at(value),
                        label: if words { show(value) } else { String::new() },
                    });
                }
            }
            power *= 10.0;
        }
        ticks
    }

    /// Along a scale of ns.
    pub(super) fn ns_ticks(&self, room: f64) -> Vec<Tick> {
        self.ticks(room, show_round_ns)
    }

    /// Along a scale of counts a second.
    pub(super) fn rate_ticks(&self, room: f64) -> Vec<Tick> {
        self.ticks(room, show_round)
            .into_iter()
            .filter(|tick| !tick.label.is_empty())
            .collect()
    }

    /// Along a scale of counts.
    pub(super) fn count_ticks(&self, room: f64) -> Vec<Tick> {
        self.ticks(room, |count| show_count(count.round() as u64))
            .into_iter()
            .filter(|tick| !tick.label.is_empty())
            .collect()
    }
}

/// A round duration without the decimals it does not need.
fn show_round_ns(ns: f64) -> String {
    let ns = ns.round();
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    if value.fract().abs() < 1e-6 {
        format!("{value:.0} {unit}")
    } else {
        show_ns(ns)
    }
}

/// A round number without the decimals it does not need.
fn show_round(value: f64) -> String {
    if value >= 1.0 {
        return show_count(value.round() as u64);
    }
    let decimals = (-value.log10()).ceil().max(0.0) as usize;
    if decimals > 4 {
        format!("{value:.0e}")
    } else {
        format!("{value:.decimals$}")
    }
}

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

/// Lines and words of a logarithmic axis at the left.
pub(super) fn left_axis(frame: &Frame, ticks: &[Tick], title: &str) -> Markup {
    html! {
        g.axis {
            @for tick in ticks {
                line.minor[tick.label.is_empty()] x1=(frame.left()) x2=(frame.right()) y1=(short(tick.at)) y2=(short(tick.at)) {}
                @if !tick.label.is_empty() {
                    text.end x=(frame.left() - 6.0) y=(short(tick.at)) dy=".35em" { (tick.label) }
                }
            }
            text.axis-title x=(4) y=(frame.top - 9.0) { (title) }
        }
    }
}

/// Lines and words of a logarithmic axis at the bottom.
pub(super) fn bottom_axis(frame: &Frame, ticks: &[Tick], title: &str) -> Markup {
    html! {
        g.axis {
            @for tick in ticks {
                line.minor[tick.label.is_empty()] x1=(short(tick.at)) x2=(short(tick.at)) y1=(frame.top) y2=(frame.bottom()) {}
                @if !tick.label.is_empty() {
                    text.middle x=(short(tick.at)) y=(frame.bottom() + 15.0) { (tick.label) }
                }
            }
            text.axis-title.end x=(frame.right()) y=(frame.bottom() + 31.0) { (title) }
        }
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

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks
            .iter()
            .map(|tick| tick.label.as_str())
            .filter(|label| !label.is_empty())
            .collect()
    }

    #[test]
    fn coordinates_are_short() {
        for (value, text) in [(1.0, "1"), (1.25, "1.2"), (-0.01, "0"), (12.34, "12.3")] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_logarithmic_scale_puts_factors_at_equal_distances() {
        let log = Log::new(10.0, 1_000.0, 0.0, 200.0);
        for (value, at) in [(10.0, 0.0), (100.0, 100.0), (1_000.0, 200.0), (1e9, 200.0)] {
            assert!((log.at(value) - at).abs() < 1e-9);
        }
        assert_eq!(labels(&log.ns_ticks(90.0)), ["10 ns", "100 ns", "1 us"]);
        assert_eq!(
            labels(&log.ns_ticks(20.0)),
            [
                "10 ns", "20 ns", "50 ns", "100 ns", "200 ns", "500 ns", "1 us"
            ]
        );
    }

    #[test]
    fn a_scale_without_extent_does_not_divide_by_zero() {
        assert!(Log::new(5.0, 5.0, 0.0, 10.0).at(5.0).is_finite());
        assert!(Log::new(0.0, 0.0, 0.0, 10.0).at(0.0).is_finite());
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
