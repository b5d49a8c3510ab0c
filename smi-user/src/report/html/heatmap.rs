//! How many gaps of which duration came when: time to the right, octaves of duration upward, counts as colours.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::{
    axes::{Frame, Log, left_axis, short},
    chart::{Chart, table},
    clock::{Clock, time_axis},
    figures::{Place, count, show_count, show_span, show_time, time},
    octaves::{Column, Octave, columns, durations},
    timeline::unwatched,
};
use crate::{
    model::{Histogram, Summary},
    units::show_ns,
};

/// Colours in the style sheet.
const COLOURS: usize = 8;

/// Rows of the table at the most.
const ROWS: usize = 48;

/// The chart.
pub(super) fn heatmap(summary: &Summary, place: &Place, id: &str) -> Markup {
    let [wide, _] = Frame::both(0.0, 0.0);
    let all = columns(&summary.timeline, most_columns(&wide));
    let levels = Levels::of(most(summary, &all));
    Chart {
        id: format!("{id}-heatmap"),
        title: "Gaps over time and duration",
        gist: gist(summary, &all),
        caption: html! {
            span.in-light { "Darker" } span.in-dark { "Brighter" } " is more gaps in a piece of time"
            @if let Some(column) = all.first() {
                ", " (show_span(length_ns(column))) " in a wide window"
            }
            ", and one doubling of duration. No colour: none."
        },
        legend: legend(&levels),
        table_title: "Gaps over time and duration as a table",
        table: numbers(summary, place),
    }
    .render(Frame::both(270.0, 24.0), |frame| draw(summary, frame))
}

fn most_columns(frame: &Frame) -> usize {
    if frame.is_narrow() { 84 } else { 192 }
}

fn length_ns(column: &Column) -> u64 {
    u64::try_from(column.began.duration_until(column.ended).as_nanos()).unwrap_or(0)
}

/// The highest count of a cell.
fn most(summary: &Summary, columns: &[Column]) -> u64 {
    let octaves = Octave::all(summary);
    let counts = |column: &Column| {
        let of = |octave: &Octave| octave.count(&column.counts.histogram);
        octaves.iter().map(of).max()
    };
    columns.iter().filter_map(counts).max().unwrap_or(0)
}

fn gist(summary: &Summary, columns: &[Column]) -> String {
    let octaves = Octave::all(summary);
    let fullest = columns
        .iter()
        .flat_map(|column| octaves.iter().map(move |octave| (column, *octave)))
        .max_by_key(|(column, octave)| octave.count(&column.counts.histogram));
    match fullest {
        Some((column, octave)) if octave.count(&column.counts.histogram) > 0 => format!(
            "Most gaps of one octave and piece of time: {} of {} in the {} from {} UTC. Columns with gaps: {} of {}.",
            show_count(octave.count(&column.counts.histogram)),
            bounds(octave),
            show_span(length_ns(column)),
            show_time(column.began),
            columns
                .iter()
                .filter(|column| column.counts.count > 0)
                .count(),
            columns.len(),
        ),
        _ => "No gaps.".to_owned(),
    }
}

fn bounds(octave: Octave) -> String {
    let (low, high) = octave.bounds_ns();
    format!("{} to {}", show_ns(low), show_ns(high))
}

/// Counts that share a colour.
struct Levels(Vec<u64>);

impl Levels {
    /// The lowest count of each colour, where `most` is the highest count of all: equal factors, since counts spread over
    /// powers of ten.
    fn of(most: u64) -> Self {
        let mut lowest: Vec<u64> = if most <= COLOURS as u64 {
            (1..=most).collect()
        } else {
            (0..COLOURS)
                .map(|level| {
                    let part = level as f64 / COLOURS as f64;
                    (most as f64).powf(part).round() as u64
                })
                .collect()
        };
        lowest.dedup();
        Self(lowest)
    }

    /// The level of a count above 0.
    fn level(&self, count: u64) -> usize {
        self.0
            .partition_point(|lowest| *lowest <= count)
            .saturating_sub(1)
    }

    /// Class of a level: the colours in use are spread over all there are.
    fn class(&self, level: usize) -> String {
        let last = self.0.len().saturating_sub(1);
        let colour = (level * (COLOURS - 1))
            .checked_div(last)
            .unwrap_or(COLOURS / 2);
        format!("h{colour}")
    }

    /// The counts of a level in words.
    fn words(&self, level: usize) -> String {
        let low = self.0[level];
        match self.0.get(level + 1) {
            Some(next) if *next == low + 1 => show_count(low),
            Some(next) => format!("{}–{}", show_count(low), show_count(next - 1)),
            None => format!("{} or more", show_count(low)),
        }
    }
}

fn legend(levels: &Levels) -> Markup {
    html! {
        @if !levels.0.is_empty() {
            ul.legend.steps aria-label="Colours: gaps in a cell" {
                li.quiet { "gaps:" }
                @for level in 0..levels.0.len() {
                    li {
                        svg.swatch viewBox="0 0 20 12" width="20" height="12" aria-hidden="true" focusable="false" {
                            rect.(levels.class(level)) width="20" height="12" rx="2" {}
                        }
                        (levels.words(level))
                    }
                }
            }
        }
    }
}

fn draw(summary: &Summary, frame: &Frame) -> Markup {
    let scale = durations(summary, frame);
    let clock = Clock::new(summary.began, summary.ended, frame.left(), frame.right());
    let columns = columns(&summary.timeline, most_columns(frame));
    let levels = Levels::of(most(summary, &columns));
    let octaves = Octave::all(summary);
    html! {
        (left_axis(frame, &scale.ns_ticks(26.0), "duration"))
        (time_axis(frame, &clock))
        (unwatched(summary, frame, &clock))
        @if frame.is_narrow() {
            (plain_cells(&columns, &octaves, &levels, &clock, &scale))
        } @else {
            @for column in &columns {
                @for octave in &octaves {
                    @let gaps = octave.count(&column.counts.histogram);
                    @if gaps > 0 {
                        @let cell = Cell::of(column, *octave, &clock, &scale);
                        rect.(levels.class(levels.level(gaps))) x=(cell.x) y=(cell.y) width=(cell.width) height=(cell.height)
                            data-slots=(format!("{}..{}", column.slots.start, column.slots.end))
                            data-buckets=(format!("{}..{}", octave.buckets().start, octave.buckets().end))
                            data-count=(gaps) {
                            title { (show_count(gaps)) " of " (bounds(*octave)) "\n" (show_time(column.began)) " UTC" }
                        }
                    }
                }
            }
        }
    }
}

struct Cell {
    x: String,
    y: String,
    width: String,
    height: String,
}

impl Cell {
    fn of(column: &Column, octave: Octave, clock: &Clock, scale: &Log) -> Self {
        let (left, right) = (clock.at(column.began), clock.at(column.ended));
        let (low, high) = octave.bounds_ns();
        let (bottom, top) = (scale.at(low), scale.at(high));
        // A hair of ground between cells, unless they are as thin as that.
        let gap = if right - left > 2.5 { 0.5 } else { 0.0 };
        Self {
            x: short(left),
            y: short(top + 0.5),
            width: short((right - left - gap).max(0.5)),
            height: short((bottom - top - 1.0).max(0.5)),
        }
    }
}

/// A path for each colour: less to lay out than a rectangle for each cell.
fn plain_cells(
    columns: &[Column],
    octaves: &[Octave],
    levels: &Levels,
    clock: &Clock,
    scale: &Log,
) -> Markup {
    let mut paths = vec![String::new(); levels.0.len()];
    for column in columns {
        for octave in octaves {
            let gaps = octave.count(&column.counts.histogram);
            if gaps > 0 {
                let Cell {
                    x,
                    y,
                    width,
                    height,
                } = Cell::of(column, *octave, clock, scale);
                // Writing to a string cannot fail.
                let _written = write!(
                    paths[levels.level(gaps)],
                    "M{x} {y}h{width}v{height}h-{width}z"
                );
            }
        }
    }
    html! {
        @for (level, path) in paths.iter().enumerate() {
            @if !path.is_empty() {
                path.(levels.class(level)) d=(path) {}
            }
        }
    }
}

fn numbers(summary: &Summary, place: &Place) -> Markup {
    let octaves: Vec<Octave> = Octave::all(summary)
        .into_iter()
        .filter(|octave| octave.count(&summary.total.histogram) > 0)
        .collect();
    let head = html! {
        th scope="col" { "from (UTC)" }
        @for octave in &octaves {
            th scope="col" { (bounds(*octave)) }
        }
    };
    let row = |column: &Column| {
        let range = format!("timeline/{}..{}", column.slots.start, column.slots.end);
        let began = place.at("timeline").at(column.slots.start).at("began");
        let histogram: &Histogram = &column.counts.histogram;
        html! {
            tr {
                th scope="row" { (time(&began, column.began)) }
                @for octave in &octaves {
                    @let buckets = octave.buckets();
                    @let figure = format!("buckets={}..{}", buckets.start, buckets.end);
                    td { (count(&place.at(&range).figure(figure), octave.count(histogram))) }
                }
            }
        }
    };
    let body = html! {
        @for column in columns(&summary.timeline, ROWS) {
            (row(&column))
        }
    };
    table("Gaps over time and duration", &head, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_colour_and_the_legend_says_which() {
        for most in [1, 2, 7, 8, 9, 10, 100, 12_345, u64::MAX / 2] {
            let levels = Levels::of(most);
            assert_eq!(levels.level(1), 0, "{most}");
            assert_eq!(levels.level(most), levels.0.len() - 1, "{most}");
            assert!(levels.0.len() <= COLOURS);
            assert!(levels.0.is_sorted_by(|a, b| a < b), "{:?}", levels.0);
        }
        assert!(Levels::of(0).0.is_empty());
        let levels = Levels::of(100);
        assert_eq!(levels.words(0), "1");
        assert_eq!(levels.words(levels.level(100)), "56 or more");
        assert_eq!(levels.words(levels.level(40)), "32–55");
    }
}
