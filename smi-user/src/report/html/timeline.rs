//! Gaps over time: one mark for each.

use std::{cmp::Reverse, fmt::Write as _};

use maud::{Markup, html};

use super::{
    axes::{Frame, Log, left_axis, short},
    chart::{Chart, heads, table},
    clock::{Clock, time_axis},
    figures::{Place, count, or_none, rate, show_count, show_time, span, time},
    look::{look, order, symbol},
    octaves::{Column, columns, durations},
};
use crate::{
    model::{Gap, Summary},
    units::show_ns,
};

/// Marks that say what they are when they are pointed at: the longest gaps.
const TOLD: usize = 250;

/// Pieces of time that are told apart in a narrow chart: about one for each pixel. A wide one has room for every slot.
const NARROW: usize = 300;

/// Rows of the table at the most.
const ROWS: usize = 48;

/// The chart.
pub(super) fn timeline(summary: &Summary, place: &Place, id: &str) -> Markup {
    Chart {
        id: format!("{id}-timeline"),
        title: "Gaps over time",
        gist: gist(summary),
        caption: caption(summary, place),
        legend: legend(summary, place),
        table_title: "Gaps over time as a table",
        table: numbers(summary, place),
    }
    .render(Frame::both(330.0, 24.0), |frame| draw(summary, frame))
}

/// Whether some gaps were counted without being recorded singly.
pub(super) fn is_partial(summary: &Summary) -> bool {
    summary.total.count > summary.gaps.len() as u64
}

fn gist(summary: &Summary) -> String {
    let Some(max) = summary.total.max_ns else {
        return format!(
            "No gap from {} to {} UTC.",
            show_time(summary.began),
            show_time(summary.ended)
        );
    };
    let mut gist = format!(
        "{} gaps from {} to {} UTC, {} of them drawn one by one; the longest took {}",
        show_count(summary.total.count),
        show_time(summary.began),
        show_time(summary.ended),
        show_count(summary.gaps.len() as u64),
        show_ns(max as f64)
    );
    if let Some(worst) = summary.gaps.iter().max_by_key(|gap| gap.duration_ns)
        && worst.duration_ns == max
    {
        let _written = write!(
            gist,
            " on CPU {} at {} UTC, cause {}",
            worst.cpu,
            show_time(worst.end_time),
            worst.cause
        );
    }
    let causes: Vec<String> = summary
        .causes
        .iter()
        .map(|of| format!("{} {}", show_count(of.count), of.cause))
        .collect();
    let _written = write!(gist, ". By cause: {}.", causes.join(", "));
    if let Some(verdict) = &summary.verdict {
        let _written = write!(
            gist,
            " The hardlimit of {} was {}.",
            show_ns(verdict.hardlimit_ns as f64),
            if verdict.exceeded { "exceeded" } else { "kept" }
        );
    }
    gist
}

fn caption(summary: &Summary, place: &Place) -> Markup {
    html! {
        "Each mark is one gap, at the time it ended. "
        @if is_partial(summary) {
            (show_count(summary.gaps.len() as u64)) " of " (count(&place.at("total/count"), summary.total.count))
            " gaps are drawn; the shaded area reaches up to the longest of each piece of time, drawn or not. "
        }
        "Times are UTC, durations on a logarithmic scale."
    }
}

fn legend(summary: &Summary, place: &Place) -> Markup {
    html! {
        ul.legend aria-label="Causes" {
            @for (index, of) in summary.causes.iter().enumerate() {
                li {
                    (symbol(of.cause)) b { (of.cause) } " "
                    (count(&place.at("causes").at(index).at("count"), of.count))
                    span.quiet { ": " (look(of.cause).words) }
                }
            }
            @if summary.timeline.iter().any(|slot| slot.counts.exposure_ns == 0) {
                li { svg.swatch viewBox="0 0 20 12" width="20" height="12" aria-hidden="true" focusable="false" {
                    rect width="20" height="12" fill="url(#p-unwatched)" {}
                } span.quiet { "nothing was sampled" } }
            }
        }
    }
}

fn draw(summary: &Summary, frame: &Frame) -> Markup {
    let scale = durations(summary, frame);
    let clock = Clock::new(summary.began, summary.ended, frame.left(), frame.right());
    html! {
        (left_axis(frame, &scale.ns_ticks(26.0), "duration"))
        (time_axis(frame, &clock))
        (unwatched(summary, frame, &clock))
        @if is_partial(summary) {
            path.envelope d=(envelope(summary, frame, &clock, &scale)) {}
        }
        @for cause in order() {
            @let gaps = summary.gaps.iter().filter(|gap| gap.cause == cause);
            @let look = look(cause);
            @let path = gaps.fold(String::new(), |mut path, gap| {
                look.shape.draw(&mut path, clock.at(gap.end_time), scale.at(gap.duration_ns as f64));
                path
            });
            @if !path.is_empty() {
                path class=(format!("{} {}", look.class, look.shape.class())) data-cause=(cause) d=(path) {}
            }
        }
        (limits(summary, frame, &scale))
        @if !frame.is_narrow() {
            @for gap in longest(&summary.gaps, TOLD) {
                circle.hit r="6" cx=(short(clock.at(gap.end_time))) cy=(short(scale.at(gap.duration_ns as f64))) {
                    title {
                        (show_ns(gap.duration_ns as f64)) " on CPU " (gap.cpu) ", " (gap.cause) "\n"
                        (show_time(gap.end_time)) " UTC"
                    }
                }
            }
        }
    }
}

/// The longest single gaps, longest first.
pub(super) fn longest(gaps: &[Gap], most: usize) -> Vec<&Gap> {
    let mut longest: Vec<&Gap> = gaps.iter().collect();
    longest.sort_by_key(|gap| Reverse(gap.duration_ns));
    longest.truncate(most);
    longest
}

/// Where nothing was sampled.
pub(super) fn unwatched(summary: &Summary, frame: &Frame, clock: &Clock) -> Markup {
    // Slots by themselves: taken together with others, one without exposure would not be seen.
    let columns = columns(&summary.timeline, usize::MAX);
    let is_dark = |column: &Column| column.counts.exposure_ns == 0;
    let mut path = String::new();
    for columns in columns.chunk_by(|a, b| is_dark(a) == is_dark(b)) {
        let (Some(first), Some(last)) = (columns.first(), columns.last()) else {
            continue;
        };
        if is_dark(first) {
            let (from, to) = (clock.at(first.began), clock.at(last.ended));
            let _written = write!(
                path,
                "M{} {}H{}V{}H{}z",
                short(from),
                short(frame.top),
                short(to),
                short(frame.bottom()),
                short(from)
            );
        }
    }
    html! {
        @if !path.is_empty() {
            path.unwatched d=(path) fill="url(#p-unwatched)" {}
        }
    }
}

/// The area below the longest gap of each slot.
fn envelope(summary: &Summary, frame: &Frame, clock: &Clock, scale: &Log) -> String {
    let most = if frame.is_narrow() {
        NARROW
    } else {
        usize::MAX
    };
    let mut path = format!("M{} {}", short(frame.left()), short(frame.bottom()));
    for column in columns(&summary.timeline, most) {
        let y = column
            .counts
            .max_ns
            .map_or(frame.bottom(), |ns| scale.at(ns as f64));
        // Writing to a string cannot fail.
        let _written = write!(path, "V{}H{}", short(y), short(clock.at(column.ended)));
    }
    let _written = write!(path, "V{}z", short(frame.bottom()));
    path
}

/// Threshold and hardlimit.
fn limits(summary: &Summary, frame: &Frame, scale: &Log) -> Markup {
    let threshold = summary.detector.threshold_ns;
    let hardlimit = summary
        .verdict
        .as_ref()
        .map(|verdict| verdict.hardlimit_ns)
        .filter(|ns| *ns as f64 >= scale.low);
    let line = |class: &str, name: &str, ns: u64| {
        let y = scale.at(ns as f64);
        html! {
            line class=(format!("limit {class}")) x1=(frame.left()) x2=(frame.right()) y1=(short(y)) y2=(short(y)) {}
            text class=(format!("limit-name end {class}-name")) x=(frame.right() - 4.0) y=(short(y - 5.0)) {
                (name) " " (show_ns(ns as f64))
            }
        }
    };
    html! {
        @if threshold as f64 >= scale.low {
            (line("threshold", "threshold", threshold))
        }
        @if let Some(ns) = hardlimit {
            (line("hardlimit", "hardlimit", ns))
        }
    }
}

fn numbers(summary: &Summary, place: &Place) -> Markup {
    let causes: Vec<_> = summary.causes.iter().map(|of| of.cause).collect();
    let head = html! {
        (heads(&["from (UTC)", "exposure", "gaps", "gaps/s", "longest"]))
        @for cause in &causes {
            th scope="col" { (cause) }
        }
    };
    let row = |column: &Column| {
        let range = format!("timeline/{}..{}", column.slots.start, column.slots.end);
        let at = |figure: &str| place.at(&range).figure(figure);
        let began = place.at("timeline").at(column.slots.start).at("began");
        html! {
            tr {
                th scope="row" { (time(&began, column.began)) }
                td { (span(&at("exposure_ns"), column.counts.exposure_ns)) }
                td { (count(&at("count"), column.counts.count)) }
                td { (or_none(column.counts.rate(), |value| rate(&at("rate"), value))) }
                td { (or_none(column.counts.max_ns, |value| super::figures::ns(&at("max_ns"), value))) }
                @for cause in &causes {
                    @let of_cause: u64 = summary.timeline[column.slots.clone()]
                        .iter()
                        .flat_map(|slot| &slot.causes)
                        .filter(|of| of.cause == *cause)
                        .map(|of| of.count)
                        .sum();
                    td { (count(&at(&format!("cause={cause}")), of_cause)) }
                }
            }
        }
    };
    let body = html! {
        @for column in columns(&summary.timeline, ROWS) {
            (row(&column))
        }
    };
    table("Gaps over time", &head, &body)
}
