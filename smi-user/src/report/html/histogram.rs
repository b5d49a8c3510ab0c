//! How long the gaps were: bars by duration, divided by cause, with the percentiles.

use std::{fmt::Write as _, ops::Range};

use maud::{Markup, html};
use smi_common::buckets::{BUCKETS, PER_OCTAVE, lower_ns, upper_ns};

use super::{
    axes::{Frame, Log, bottom_axis, left_axis, short},
    chart::{Chart, heads, table},
    figures::{Place, count, show_count},
    look::{fill, look, order, swatch},
};
use crate::{
    model::{CauseStats, Summary},
    units::show_ns,
};

/// Percentiles that are marked.
pub(super) const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Bars at the most, in wide and narrow windows.
const BARS: [usize; 2] = [128, 44];

/// Height of a line of words above the bars.
const LINE: f64 = 15.0;

/// The chart.
pub(super) fn histogram(summary: &Summary, place: &Place, id: &str) -> Markup {
    let frames = Frame::both(300.0, 24.0).map(|mut frame| {
        frame.keep_right(if frame.is_narrow() { 104.0 } else { 112.0 });
        let (_, scale) = bars_and_scale(summary, &frame);
        let lines = marks(summary, &scale).iter().map(|mark| mark.line).max();
        let room = lines.map_or(0.0, |lines| (lines as f64 + 1.0) * LINE);
        frame.height += room;
        frame.top += room;
        frame
    });
    Chart {
        id: format!("{id}-histogram"),
        title: "Gaps by duration",
        gist: gist(summary),
        caption: html! {
            "The height of a bar is its number of gaps, on a logarithmic scale so that a single long gap is seen beside "
            "thousands of short ones; its colours divide that height as the causes divide that number. Percentiles are "
            "read from buckets about 9 % wide."
        },
        legend: html! {
            ul.legend aria-label="Causes" {
                @for of in &summary.causes {
                    li { (swatch(of.cause)) b { (of.cause) } span.quiet { ": " (look(of.cause).words) } }
                }
            }
        },
        table_title: "Gaps by duration as a table",
        table: numbers(summary, place),
    }
    .render(frames, |frame| draw(summary, frame))
}

fn gist(summary: &Summary) -> String {
    let total = &summary.total;
    let (Some(min), Some(max)) = (total.min_ns, total.max_ns) else {
        return "No gaps.".to_owned();
    };
    let mut gist = format!(
        "{} gaps between {} and {}.",
        show_count(total.count),
        show_ns(min as f64),
        show_ns(max as f64)
    );
    for (name, q) in QUANTILES {
        if let Some(ns) = total.quantile_ns(q) {
            let _written = write!(gist, " {name} {},", show_ns(ns));
        }
    }
    let most = (0..BUCKETS).max_by_key(|bucket| total.histogram.counts()[*bucket]);
    if let Some(bucket) = most {
        let _written = write!(
            gist,
            " and most of all, {}, {}.",
            show_count(total.histogram.counts()[bucket]),
            bounds(&(bucket..bucket + 1))
        );
    }
    gist
}

/// What a bar stands for.
fn bounds(buckets: &Range<usize>) -> String {
    let low = show_ns(lower_ns(buckets.start) as f64);
    match upper_ns(buckets.end - 1) {
        Some(high) => format!("above {low} to {}", show_ns(high as f64)),
        None => format!("above {low}"),
    }
}

/// The bounds of a bar as they are drawn: the open ones are put a bucket's width from the other.
fn edges(buckets: &Range<usize>) -> (f64, f64) {
    let width = 2f64.powf(1.0 / PER_OCTAVE as f64);
    let high = upper_ns(buckets.end - 1).map(|ns| ns as f64);
    let low = match lower_ns(buckets.start) {
        0 => upper_ns(0).map_or(1.0, |ns| ns as f64 / width),
        low => low as f64,
    };
    (low, high.unwrap_or(low * width))
}

/// The hardlimit, if it can be drawn on a logarithmic scale.
fn hardlimit(summary: &Summary) -> Option<f64> {
    let verdict = summary.verdict.as_ref()?;
    (verdict.hardlimit_ns > 0).then_some(verdict.hardlimit_ns as f64)
}

fn bars_and_scale(summary: &Summary, frame: &Frame) -> (Vec<Range<usize>>, Log) {
    let counts = summary.total.histogram.counts();
    let first = counts.iter().position(|count| *count > 0);
    let last = counts.iter().rposition(|count| *count > 0);
    let limit = hardlimit(summary);
    let (Some(first), Some(last)) = (first, last) else {
        let low = summary.detector.threshold_ns.max(1) as f64;
        let high = limit.unwrap_or(0.0).max(low * 100.0);
        return (Vec::new(), Log::new(low, high, frame.left(), frame.right()));
    };
    let most = BARS[usize::from(frame.is_narrow())];
    let mut group = 1;
    while last / group - first / group >= most && group < PER_OCTAVE {
        group *= 2;
    }
    let bars: Vec<_> = (first / group..=last / group)
        .map(|bar| bar * group..((bar + 1) * group).min(BUCKETS))
        .collect();
    let low = bars.first().map_or(1.0, |bar| edges(bar).0);
    let high = bars.last().map_or(1.0, |bar| edges(bar).1);
    let limit = limit.unwrap_or(high);
    // A bar alone must not be as wide as the chart.
    let (low, high) = (low.min(limit * 0.9), high.max(limit * 1.1).max(low * 4.0));
    (bars, Log::new(low, high, frame.left(), frame.right()))
}

/// A line across the bars with words above it.
#[derive(Debug)]
struct Mark {
    class: &'static str,
    words: String,
    at: f64,
    /// Line of words, from the lowest.
    line: usize,
}

/// Percentiles, the longest gap and the hardlimit.
fn marks(summary: &Summary, scale: &Log) -> Vec<Mark> {
    let total = &summary.total;
    let mut at: Vec<(&str, &'static str, f64)> = Vec::new();
    for (name, q) in QUANTILES {
        at.extend(total.quantile_ns(q).map(|ns| (name, "quantile", ns)));
    }
    at.extend(total.max_ns.map(|ns| ("max", "quantile", ns as f64)));
    at.extend(hardlimit(summary).map(|ns| ("hardlimit", "hardlimit", ns)));
    at.sort_by(|a, b| a.2.total_cmp(&b.2));
    let mut marks: Vec<Mark> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for (index, (name, class, ns)) in at.iter().enumerate() {
        names.push(name);
        let next = at.get(index + 1);
        // What would be read as the same number shares a line.
        if next.is_some_and(|next| next.1 == *class && show_ns(next.2) == show_ns(*ns)) {
            continue;
        }
        let words = format!("{} {}", names.join(" = "), show_ns(*ns));
        names.clear();
        marks.push(Mark {
            class,
            words,
            at: scale.at(*ns),
            line: 0,
        });
    }
    // From the right: words reach to the right of their line, and no line may cross words.
    for index in (0..marks.len()).rev() {
        let end = marks[index].at + 8.0 + marks[index].words.chars().count() as f64 * 8.0;
        let covered = marks[index + 1..].iter().filter(|other| other.at < end);
        marks[index].line = covered.map(|other| other.line + 1).max().unwrap_or(0);
    }
    marks
}

/// The scale of counts; a single gap has some height, too.
fn counts(bars: &[Range<usize>], summary: &Summary, frame: &Frame) -> Log {
    let all = summary.total.histogram.counts();
    let of = |bar: &Range<usize>| all[bar.clone()].iter().sum::<u64>();
    let most = bars.iter().map(of).max().unwrap_or(1);
    Log::new(
        0.6,
        (most as f64 * 1.1).max(10.0),
        frame.bottom(),
        frame.top,
    )
}

fn draw(summary: &Summary, frame: &Frame) -> Markup {
    let (bars, scale) = bars_and_scale(summary, frame);
    let heights = counts(&bars, summary, frame);
    let marks = marks(summary, &scale);
    html! {
        (left_axis(frame, &heights.count_ticks(22.0), "gaps"))
        (bottom_axis(frame, &scale.ns_ticks(56.0), "duration"))
        @for bar in &bars {
            (draw_bar(summary, frame, bar, &scale, &heights))
        }
        @for mark in &marks {
            @let y = frame.top - 6.0 - mark.line as f64 * LINE;
            line class=(format!("limit {}", mark.class)) x1=(short(mark.at)) x2=(short(mark.at)) y1=(short(y - 9.0)) y2=(short(frame.bottom())) {}
            text class=(format!("limit-name {}-name", mark.class)) x=(short(mark.at + 4.0)) y=(short(y)) { (mark.words) }
        }
    }
}

fn draw_bar(
    summary: &Summary,
    frame: &Frame,
    bar: &Range<usize>,
    scale: &Log,
    heights: &Log,
) -> Markup {
    let all: u64 = summary.total.histogram.counts()[bar.clone()].iter().sum();
    let (low, high) = edges(bar);
    let (left, right) = (scale.at(low), scale.at(high));
    let gap = if right - left > 3.0 { 1.0 } else { 0.0 };
    let top = heights.at(all as f64);
    let height = frame.bottom() - top;
    let parts = parts(&summary.causes, bar);
    let mut from = frame.bottom();
    let mut words = format!("{} gaps {}", show_count(all), bounds(bar));
    for (of, gaps) in &parts {
        let _written = write!(words, "\n{} {}", show_count(*gaps), of.cause);
    }
    html! {
        @if all > 0 {
            g data-buckets=(format!("{}..{}", bar.start, bar.end)) data-count=(all) {
                title { (words) }
                @for (of, gaps) in &parts {
                    @let part = height * *gaps as f64 / all as f64;
                    @let y = { from -= part; from };
                    rect data-cause=(of.cause) data-count=(gaps) x=(short(left)) y=(short(y)) width=(short((right - left - gap).max(0.5)))
                        height=(short(part)) fill=(fill(of.cause)) {}
                }
            }
        }
    }
}

/// The causes that have gaps there, the one at the bottom first.
fn parts<'a>(causes: &'a [CauseStats], bar: &Range<usize>) -> Vec<(&'a CauseStats, u64)> {
    order()
        .filter_map(|cause| causes.iter().find(|of| of.cause == cause))
        .map(|of| (of, of.histogram.counts()[bar.clone()].iter().sum()))
        .filter(|(_, gaps)| *gaps > 0)
        .collect()
}

fn numbers(summary: &Summary, place: &Place) -> Markup {
    let total = place.at("total");
    let head = html! {
        (heads(&["duration", "gaps"]))
        @for of in &summary.causes {
            th scope="col" { (of.cause) }
        }
    };
    let body = html! {
        @for (bucket, gaps) in summary.total.histogram.counts().iter().enumerate() {
            @if *gaps > 0 {
                @let figure = format!("buckets={bucket}..{}", bucket + 1);
                tr {
                    th scope="row" { (bounds(&(bucket..bucket + 1))) }
                    td { (count(&total.figure(&figure), *gaps)) }
                    @for (index, of) in summary.causes.iter().enumerate() {
                        @let here = place.at("causes").at(index).figure(&figure);
                        td { (count(&here, of.histogram.counts()[bucket])) }
                    }
                }
            }
        }
    };
    table("Gaps by duration", &head, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_crosses_the_words_of_another() {
        let mut summary = super::super::tests::summary();
        let durations = (10_000..20_000).chain([21_000, 30_000, 5_000_000]);
        summary.total.histogram = durations.collect();
        summary.total.max_ns = Some(5_000_000);
        for frame in Frame::both(300.0, 24.0) {
            let (_, scale) = bars_and_scale(&summary, &frame);
            let marks = marks(&summary, &scale);
            assert!(marks.len() >= 3, "{marks:?}");
            for (index, mark) in marks.iter().enumerate() {
                let end = mark.at + mark.words.len() as f64 * 6.8;
                for other in &marks[index + 1..] {
                    assert!(
                        other.at > end || other.line < mark.line,
                        "{mark:?} {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn bars_hold_every_gap_once() {
        let mut summary = super::super::tests::summary();
        let histogram: crate::model::Histogram = (0..40).map(|octave| 1 << octave).collect();
        summary.total.histogram = histogram.clone();
        for frame in Frame::both(300.0, 24.0) {
            let (bars, _) = bars_and_scale(&summary, &frame);
            let sum: u64 = bars
                .iter()
                .map(|bar| histogram.counts()[bar.clone()].iter().sum::<u64>())
                .sum();
            assert_eq!(sum, 40);
            assert!(bars.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
