//! Maps and unmaps over time, as a chart.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::super::{
    axes::{Frame, Log, left_axis, short},
    chart::{Chart, heads, table},
    clock::{Clock, time_axis},
    figures::{Place, bytes, count, rate, show_rate, show_time, span, time},
};
use crate::model::iommu_recording::{IommuRecording, IommuSlot};

/// Pieces of time that are told apart in a narrow chart.
const NARROW: usize = 300;
/// Rows of the table at the most.
const ROWS: usize = 48;

/// What is drawn: a class, a name, and its rate in a piece of time.
type Series = (&'static str, &'static str, fn(&IommuSlot) -> f64);

const SERIES: [Series; 2] = [
    ("recorded r0", "maps/s", IommuSlot::map_rate),
    ("recorded r1", "unmaps/s", IommuSlot::unmap_rate),
];

/// The chart.
pub(super) fn course(of: &IommuRecording, place: &Place, id: &str) -> Markup {
    if of.timeline.is_empty() {
        return html! { p { "Nothing was recorded." } };
    }
    Chart {
        id: format!("{id}-course"),
        title: "Maps and unmaps over time",
        gist: gist(of),
        caption: html! {
            "Maps and unmaps a second, of all domains together, on a logarithmic scale; at the bottom: none. Where an interval exceeded the "
            "limit of unmaps for each map, a line goes from top to bottom. Times are UTC."
        },
        legend: legend(),
        table_title: "Maps and unmaps over time as a table",
        table: numbers(of, place),
    }
    .render(Frame::both(280.0, 24.0), |frame| draw(of, frame))
}

fn gist(of: &IommuRecording) -> String {
    let mut gist = format!(
        "From {} to {} UTC.",
        show_time(of.began),
        show_time(of.ended)
    );
    for (_, name, rate) in SERIES {
        let most = of.timeline.iter().map(rate).fold(0.0, f64::max);
        // Writing to a string cannot fail.
        let _written = write!(gist, " Up to {} {name}.", show_rate(most));
    }
    gist
}

fn legend() -> Markup {
    html! {
        ul.legend aria-label="Lines" {
            @for (class, name, _) in SERIES {
                li {
                    svg.swatch viewBox="0 0 30 12" width="30" height="12" aria-hidden="true" focusable="false" {
                        path class=(class) d="M0 6H30" {}
                    }
                    b { (name) }
                }
            }
        }
    }
}

fn draw(of: &IommuRecording, frame: &Frame) -> Markup {
    let most = if frame.is_narrow() {
        NARROW
    } else {
        usize::MAX
    };
    let slots = of.merged(most);
    let rates = || {
        let both = |slot: &IommuSlot| [slot.map_rate(), slot.unmap_rate()];
        slots.iter().flat_map(both).filter(|rate| *rate > 0.0)
    };
    let low = rates().fold(f64::INFINITY, f64::min);
    let scale = Log::new(
        if low.is_finite() { low * 0.7 } else { 0.1 },
        rates().fold(1.0, f64::max) * 1.3,
        frame.bottom(),
        frame.top,
    );
    let clock = Clock::new(of.began, of.ended, frame.left(), frame.right());
    html! {
        (left_axis(frame, &scale.rate_ticks(24.0), "a second"))
        (time_axis(frame, &clock))
        @for slot in slots.iter().filter(|slot| slot.ratio_alarms > 0) {
            @let x = short(f64::midpoint(clock.at(slot.began), clock.at(slot.ended)));
            line.limit.hardlimit x1=(x) x2=(x) y1=(frame.top) y2=(short(frame.bottom())) {
                title { (slot.ratio_alarms) " alarms until " (show_time(slot.ended)) " UTC" }
            }
        }
        @for (class, _, rate) in SERIES {
            path class=(class) d=(path(&slots, frame, &clock, &scale, rate)) {}
        }
    }
}

/// A level line in each piece of time; between pieces that do not touch there is none.
fn path(
    slots: &[IommuSlot],
    frame: &Frame,
    clock: &Clock,
    scale: &Log,
    rate: fn(&IommuSlot) -> f64,
) -> String {
    let mut path = String::new();
    let mut end = None;
    for slot in slots {
        let y = match rate(slot) {
            rate if rate > 0.0 => scale.at(rate),
            _ => frame.bottom(),
        };
        let x = clock.at(slot.began);
        // Clocks of two snapshots do not agree to the last.
        let joined = end.is_some_and(|end: f64| (x - end).abs() < 1.0);
        let from = if joined {
            format!("V{}", short(y))
        } else {
            format!("M{} {}", short(x), short(y))
        };
        let to = clock.at(slot.ended);
        let _written = write!(path, "{from}H{}", short(to));
        end = Some(to);
    }
    path
}

fn numbers(of: &IommuRecording, place: &Place) -> Markup {
    let place = place.at("timeline");
    let slots = of.merged(ROWS);
    let each = of.timeline.len().div_ceil(ROWS).max(1);
    let body = html! {
        @for (index, slot) in slots.iter().enumerate() {
            @let first = index * each;
            @let figure = |name: &str| place.figure(format!("{name}={first}..{}", (first + each).min(of.timeline.len())));
            tr {
                th scope="row" { (time(&place.at(first).at("began"), slot.began)) }
                td { (span(&figure("length"), slot.length_ns)) }
                td { (count(&figure("maps"), slot.maps)) }
                td { (rate(&figure("map_rate"), slot.map_rate())) }
                td { (bytes(&figure("map_bytes"), slot.map_bytes)) }
                td { (count(&figure("unmaps"), slot.unmaps)) }
                td { (rate(&figure("unmap_rate"), slot.unmap_rate())) }
                td { (bytes(&figure("unmap_bytes"), slot.unmap_bytes)) }
                td { (count(&figure("ratio_alarms"), slot.ratio_alarms)) }
            }
        }
    };
    let head = heads(&[
        "from (UTC)",
        "length",
        "maps",
        "maps/s",
        "mapped",
        "unmaps",
        "unmaps/s",
        "unmapped",
        "alarms",
    ]);
    table("Maps and unmaps over time", &head, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::iommu::recorded_tests::recording;

    #[test]
    fn lines_are_broken_where_nothing_was_watched() {
        let mut of = recording();
        let frame = Frame::both(280.0, 24.0)[0];
        let clock = Clock::new(of.began, of.ended, frame.left(), frame.right());
        let scale = Log::new(1.0, 1e4, frame.bottom(), frame.top);
        let path = |slots: &[IommuSlot]| path(slots, &frame, &clock, &scale, IommuSlot::map_rate);
        assert_eq!(path(&of.timeline).matches('M').count(), 1);
        of.timeline.remove(1);
        assert_eq!(path(&of.timeline).matches('M').count(), 2);
    }

    #[test]
    fn an_interval_above_the_limit_is_marked_in_both_frames() {
        let of = recording();
        let drawn = course(&of, &Place::iommu(0), "x").into_string();
        assert_eq!(drawn.matches("limit hardlimit").count(), 2);
        assert!(
            drawn.contains("Up to 1\u{202f}600 unmaps/s.")
                || drawn.contains("Up to 1600 unmaps/s."),
            "{drawn}"
        );
    }
}
