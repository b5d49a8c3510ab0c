//! Numbers and times. Each stands in the page with its exact value and its place in what was rendered, so that a program
//! can compare the page with the recording.

use std::fmt;

use jiff::Timestamp;
use maud::{Markup, html};

use crate::units::{show_bytes, show_ns};

/// Where a value stands: a JSON pointer (RFC 6901) into `{"summaries": [...], "comparisons": [...]}`. What follows from
/// the object there by arithmetic is named behind a `#`.
#[derive(Clone, Debug)]
pub(super) struct Place(String);

impl Place {
    /// The summary number `index`.
    pub(super) fn summary(index: usize) -> Self {
        Self(format!("/summaries/{index}"))
    }

    /// The comparison number `index`.
    pub(super) fn comparison(index: usize) -> Self {
        Self(format!("/comparisons/{index}"))
    }

    /// The recording of `smilat iommu` number `index`, in `{"iommu": [...]}`.
    pub(super) fn iommu(index: usize) -> Self {
        Self(format!("/iommu/{index}"))
    }

    /// As it stands in the page.
    pub(super) fn path(&self) -> &str {
        &self.0
    }

    /// What stands below.
    pub(super) fn at(&self, below: impl fmt::Display) -> Self {
        Self(format!("{}/{below}", self.0))
    }

    /// What follows from what stands here.
    pub(super) fn figure(&self, name: impl fmt::Display) -> Self {
        Self(format!("{}#{name}", self.0))
    }
}

fn data(place: &Place, unit: &str, value: &str, shown: &str) -> Markup {
    html! { data value=(value) data-at=(place.0) data-unit=(unit) { (shown) } }
}

/// What stands for a value that is not there.
pub(super) fn none() -> Markup {
    html! { span.none { "–" } }
}

/// A number that may not be there.
pub(super) fn or_none<T>(value: Option<T>, show: impl Fn(T) -> Markup) -> Markup {
    value.map_or_else(none, show)
}

/// A duration in whole ns.
pub(super) fn ns(place: &Place, ns: u64) -> Markup {
    data(place, "ns", &ns.to_string(), &show_ns(ns as f64))
}

/// A duration in ns that was calculated.
pub(super) fn about_ns(place: &Place, ns: f64) -> Markup {
    data(place, "ns", &ns.to_string(), &show_ns(ns))
}

/// A length of time, as people say it.
pub(super) fn span(place: &Place, ns: u64) -> Markup {
    data(place, "span", &ns.to_string(), &show_span(ns))
}

/// How many.
pub(super) fn count(place: &Place, count: u64) -> Markup {
    data(place, "count", &count.to_string(), &show_count(count))
}

/// A size.
pub(super) fn bytes(place: &Place, bytes: u64) -> Markup {
    data(place, "bytes", &bytes.to_string(), &show_bytes(bytes))
}

/// How many a second.
pub(super) fn rate(place: &Place, rate: f64) -> Markup {
    data(place, "rate", &rate.to_string(), &show_rate(rate))
}

/// A share of 1, in percent.
pub(super) fn share(place: &Place, share: f64) -> Markup {
    data(place, "share", &share.to_string(), &show_share(share))
}

/// A number without a unit, in three digits.
pub(super) fn plain(place: &Place, value: f64) -> Markup {
    data(place, "plain", &value.to_string(), &show_rate(value))
}

/// A probability.
pub(super) fn probability(place: &Place, p: f64) -> Markup {
    data(place, "p", &p.to_string(), &show_probability(p))
}

/// A moment.
pub(super) fn time(place: &Place, time: Timestamp) -> Markup {
    html! { time datetime=(time) data-at=(place.0) { (show_time(time)) } }
}

/// A moment in UTC, to the millisecond.
pub(super) fn show_time(time: Timestamp) -> String {
    time.strftime("%F %T%.3f").to_string()
}

/// Digits in groups of three.
pub(super) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            // Narrow, and no place for a line to break.
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

/// Three digits that count, more where the whole part has more.
pub(super) fn show_rate(rate: f64) -> String {
    if !rate.is_finite() {
        // The upper end of a range may be open.
        return if rate > 0.0 { "∞" } else { "–" }.to_owned();
    }
    if rate == 0.0 {
        return "0".to_owned();
    }
    if rate >= 100.0 {
        return show_count(rate.round() as u64);
    }
    if rate < 0.001 {
        return format!("{rate:.2e}");
    }
    let decimals = (2.0 - rate.log10().floor()).max(0.0) as usize;
    format!("{rate:.decimals$}")
}

/// In percent, with the digits that count.
fn show_share(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        p if p >= 99.95 || p >= 10.0 && (p - p.round()).abs() < 0.05 => format!("{p:.0} %"),
        p if p >= 1.0 => format!("{p:.1} %"),
        p if p >= 0.1 => format!("{p:.2} %"),
        p if p >= 0.001 => format!("{p:.3} %"),
        _ => "< 0.001 %".to_owned(),
    }
}

fn show_probability(p: f64) -> String {
    if p < 0.0001 {
        "p < 0.0001".to_owned()
    } else if p < 0.1 {
        format!("p = {p:.4}")
    } else {
        format!("p = {p:.2}")
    }
}

/// Days, hours, minutes and seconds from two minutes on.
pub(super) fn show_span(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if ns < 120 * SECOND {
        return show_ns(ns as f64);
    }
    let seconds = (ns + SECOND / 2) / SECOND;
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(value, _)| *value == 0)
        .take(3)
        .filter(|(value, _)| *value > 0)
        .map(|(value, unit)| format!("{value} {unit}"))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        for (count, shown) in [(0, "0"), (9_999, "9999"), (12_345, "12\u{202f}345")] {
            assert_eq!(show_count(count), shown);
        }
        for (rate, shown) in [
            (0.0, "0"),
            (0.000_12, "1.20e-4"),
            (0.0167, "0.0167"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (12_345.6, "12\u{202f}346"),
            (f64::INFINITY, "∞"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(show_rate(rate), shown);
        }
        for (share, shown) in [
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.5, "50 %"),
            (0.123_4, "12.3 %"),
            (0.000_05, "0.005 %"),
            (1e-9, "< 0.001 %"),
        ] {
            assert_eq!(show_share(share), shown);
        }
        assert_eq!(show_probability(1e-9), "p < 0.0001");
        assert_eq!(show_probability(0.004), "p = 0.0040");
        assert_eq!(show_probability(0.5), "p = 0.50");
    }

    #[test]
    fn lengths_of_time_are_said_in_days_hours_minutes_and_seconds() {
        let second = 1_000_000_000;
        for (ns, shown) in [
            (500, "500 ns"),
            (10 * second, "10.0 s"),
            (864 * second, "14 min 24 s"),
            (86_400 * second, "1 d"),
            (90_061 * second, "1 d 1 h 1 min"),
            (3_600 * second, "1 h"),
        ] {
            assert_eq!(show_span(ns), shown);
        }
    }

    #[test]
    fn a_number_carries_its_exact_value_and_its_place() {
        let place = Place::summary(1).at("total").at("sum_ns");
        assert_eq!(
            ns(&place, 12_345).into_string(),
            r#"<data value="12345" data-at="/summaries/1/total/sum_ns" data-unit="ns">12.3 us</data>"#
        );
    }
}
