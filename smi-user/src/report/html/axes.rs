//! Where values lie in a chart, and the marks and words along its edges.

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
    pub(super) label: f64,
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
    }
}
