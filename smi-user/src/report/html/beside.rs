//! How often gaps of at least a duration came: a line for each recording, so that they can be compared whatever their
//! length and exposure.

use std::fmt::Write as _;

use maud::{Markup, html};
use smi_common::buckets::{BUCKETS, PER_OCTAVE, lower_ns};

use super::{
    axes::{Frame, Log, bottom_axis, left_axis, short},
    chart::{Chart, heads, table},
    figures::{Place, or_none, rate, show_rate},
};
use crate::{model::Summary, units::show_ns};

/// Colours and dashes in the style sheet.
const LINES: usize = 6;

/// Whether any of them has gaps and exposure.
pub(super) fn is_possible(summaries: &[Summary]) -> bool {
    summaries.iter().any(|summary| !rates(summary).is_empty())
}

/// The chart, if it [`is_possible`].
pub(super) fn beside(summaries: &[Summary]) -> Markup {
    let names = || summaries.iter().map(|summary| &summary.name).enumerate();
    Chart {
        id: "beside".to_owned(),
        title: "How often gaps of at least a duration came",
        gist: gist(summaries),
        caption: html! {
            "Where a line passes over a duration, it tells how many gaps a second of exposure were at least that long. A lower "
            "line is better; one that ends further left has shorter gaps. Both axes are logarithmic."
        },
        legend: html! {
            ul.legend aria-label="Recordings" {
                @for (index, name) in names() {
                    li {
                        svg.swatch viewBox="0 0 30 12" width="30" height="12" aria-hidden="true" focusable="false" {
                            path.(class(index)) d="M0 6h30" {}
                        }
                        (name)
                    }
                }
            }
        },
        table_title: "How often gaps of at least a duration came, as a table",
        table: numbers(summaries),
    }
    .render(Frame::both(300.0, 24.0), |frame| draw(summaries, frame))
}

fn class(index: usize) -> String {
    format!("recorded r{}", index % LINES)
}

/// Gaps a second of exposure in this bucket and all above it; `None` without exposure.
fn rate_from(summary: &Summary, bucket: usize) -> Option<f64> {
    let total = &summary.total;
    let gaps: u64 = total.histogram.counts()[bucket..].iter().sum();
    (total.exposure_ns > 0).then(|| gaps as f64 * 1e9 / total.exposure_ns as f64)
}

/// The lower bounds of the buckets up to the highest with gaps, with [`rate_from`] there.
fn rates(summary: &Summary) -> Vec<(f64, f64)> {
    let counts = summary.total.histogram.counts();
    let filled = |counts: &[u64]| counts.iter().any(|count| *count > 0);
    (1..BUCKETS)
        .filter(|bucket| filled(&counts[bucket.saturating_sub(1)..]))
        .skip_while(|bucket| !filled(&counts[..=*bucket]))
        .filter_map(|bucket| Some((lower_ns(bucket) as f64, rate_from(summary, bucket)?)))
        .collect()
}

fn gist(summaries: &[Summary]) -> String {
    let mut gist = String::new();
    for summary in summaries {
        let (Some(all), Some(max)) = (summary.total.rate(), summary.total.max_ns) else {
            let _written = write!(gist, "{}: no gaps. ", summary.name);
            continue;
        };
        let _written = write!(
            gist,
            "{}: {} gaps a second of exposure in all, the longest {}. ",
            summary.name,
            show_rate(all),
            show_ns(max as f64)
        );
    }
    gist.trim_end().to_owned()
}

fn draw(summaries: &[Summary], frame: &Frame) -> Markup {
    let lines: Vec<_> = summaries.iter().map(rates).collect();
    let points = || lines.iter().flatten();
    let positive = || points().map(|(_, rate)| *rate).filter(|rate| *rate > 0.0);
    let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let durations = Log::new(
        least(&mut points().map(|(ns, _)| *ns)),
        most(&mut points().map(|(ns, _)| *ns)),
        frame.left(),
        frame.right(),
    );
    let rates = Log::new(
        least(&mut positive()) * 0.7,
        most(&mut positive()) * 1.3,
        frame.bottom(),
        frame.top,
    );
    html! {
        (left_axis(frame, &rates.rate_ticks(24.0), "gaps/s"))
        (bottom_axis(frame, &durations.ns_ticks(56.0), "at least this long"))
        @for (index, line) in lines.iter().enumerate() {
            @let path = path(line, frame, &durations, &rates);
            @if !path.is_empty() {
                path class=(class(index)) d=(path) {}
            }
        }
    }
}

fn path(line: &[(f64, f64)], frame: &Frame, durations: &Log, rates: &Log) -> String {
    let mut path = String::new();
    for (ns, rate) in line {
        let x = durations.at(*ns);
        let y = if *rate > 0.0 {
            rates.at(*rate)
        } else {
            frame.bottom()
        };
        let begin = if path.is_empty() { "M" } else { "L" };
        // Writing to a string cannot fail.
        let _written = write!(path, "{begin}{} {}", short(x), short(y));
    }
    path
}

fn numbers(summaries: &[Summary]) -> Markup {
    let names: Vec<&str> = summaries
        .iter()
        .map(|summary| summary.name.as_str())
        .collect();
    let any = |bucket: usize| {
        summaries
            .iter()
            .any(|summary| rate_from(summary, bucket).is_some_and(|rate| rate > 0.0))
    };
    let all_below = |bucket: usize| {
        let below = |of: &Summary| {
            of.total.histogram.counts()[..bucket]
                .iter()
                .all(|n| *n == 0)
        };
        summaries.iter().all(below)
    };
    let buckets: Vec<usize> = (1..BUCKETS)
        .step_by(PER_OCTAVE)
        .filter(|bucket| any(*bucket) && !all_below(bucket + PER_OCTAVE))
        .collect();
    let body = html! {
        @for bucket in buckets {
            tr {
                th scope="row" { "above " (show_ns(lower_ns(bucket) as f64)) }
                @for (index, summary) in summaries.iter().enumerate() {
                    @let here = Place::summary(index).at("total").figure(format!("from={bucket}"));
                    td { (or_none(rate_from(summary, bucket), |value| rate(&here, value))) }
                }
            }
        }
    };
    let head = html! { (heads(&["gaps/s"])) (heads(&names)) };
    table("How often gaps of at least a duration came", &head, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_all_gaps_and_falls_to_none() {
        let mut summary = super::super::tests::summary();
        assert!(rates(&summary).is_empty());
        summary.total.histogram = [20_000, 20_000, 300_000].into_iter().collect();
        let line = rates(&summary);
        let (first, last) = (line[0], line[line.len() - 1]);
        // A second of exposure.
        assert!(
            (first.1 - 3.0).abs() < 1e-9 && first.0 < 20_000.0,
            "{first:?}"
        );
        assert!(last.1.abs() < 1e-9 && last.0 >= 300_000.0, "{last:?}");
        assert!(line.windows(2).all(|pair| pair[1].1 <= pair[0].1));
        let median = line
            .iter()
            .find(|point| point.0 > 100_000.0)
            .expect("a point");
        assert!((median.1 - 1.0).abs() < 1e-9);
    }
}
