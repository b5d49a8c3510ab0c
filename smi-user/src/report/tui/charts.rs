//! The trend over the last intervals, and the histogram.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span, Text},
    widgets::{Paragraph, RenderDirection, Sparkline},
};

use super::{State, data::Point, draw::panel, header::clock, rows::count, state::Trend};
use crate::{report::bars, units::show_ns};

/// Buckets of the widest row of the histogram: as many powers of two in one as it takes.
const WIDEST: usize = 256;

/// Draws the trend: a column for each interval, the newest at the right.
pub(super) fn trend(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let only = state.only();
    let points: Vec<&Point> = state
        .shown()
        .history
        .iter()
        .rev()
        .take(area.width.into())
        .collect();
    let counts: Vec<u64> = points.iter().map(|point| point.of(only).0).collect();
    let longest: Vec<u64> = points.iter().map(|point| point.of(only).1).collect();
    let of = scope(only);
    let highest = |values: &[u64]| values.iter().max().copied().unwrap_or(0);
    let (title, beside, values) = if state.trend == Trend::Longest {
        let (low, high) = (lowest(&longest), highest(&longest));
        let beside = if high > 0 {
            format!(
                "{} to {}, log scale",
                show_ns(low as f64),
                show_ns(high as f64)
            )
        } else {
            String::new()
        };
        (
            format!("longest gap of each interval, {of}"),
            beside,
            logarithms(&longest, low, high),
        )
    } else {
        let beside = format!("highest {}", count(highest(&counts)));
        (format!("gaps in each interval, {of}"), beside, counts)
    };
    let inner = panel(frame, area, state.theme, &title, &beside);
    let [bars, axis] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(inner);
    let sparkline = Sparkline::default()
        .data(values)
        .direction(RenderDirection::RightToLeft)
        .bar_set(state.theme.bars())
        .style(state.theme.bar());
    frame.render_widget(sparkline, bars);
    frame.render_widget(Paragraph::new(axis_line(state, &points, axis.width)), axis);
}

fn scope(only: Option<u32>) -> String {
    only.map_or_else(|| "all CPUs".to_owned(), |cpu| format!("CPU {cpu}"))
}

fn lowest(values: &[u64]) -> u64 {
    values
        .iter()
        .filter(|ns| **ns > 0)
        .min()
        .copied()
        .unwrap_or(0)
}

/// Heights on a logarithmic scale: a quarter for the lowest, full for the highest, none for 0.
fn logarithms(values: &[u64], low: u64, high: u64) -> Vec<u64> {
    const FULL: f64 = 1_000.0;
    let range = (high as f64 / low.max(1) as f64).ln();
    values
        .iter()
        .map(|ns| match ns {
            0 => 0,
            _ if range <= 0.0 => FULL as u64,
            ns => {
                let share = (*ns as f64 / low.max(1) as f64).ln() / range;
                (FULL * (0.25 + 0.75 * share)).round() as u64
            }
        })
        .collect()
}

/// Under the trend: when its first and last interval ended, and where the threshold changed or counting began anew.
/// `points` are the newest first.
fn axis_line(state: &State, points: &[&Point], width: u16) -> Line<'static> {
    let width = usize::from(width);
    let mut cells = vec![' '; width];
    let mut marked = vec![false; width];
    for (back, point) in points.iter().enumerate() {
        let mark = match (point.changed, point.reset) {
            (true, _) => 'T',
            (_, true) => 'R',
            _ => continue,
        };
        cells[width - 1 - back] = mark;
        marked[width - 1 - back] = true;
    }
    let mut label = |at: usize, point: &Point| {
        let time = clock(state, point.time, false);
        let place = at..(at + time.len()).min(width);
        // Marks matter more.
        if !marked[place.clone()].contains(&true) {
            for (cell, c) in cells[place].iter_mut().zip(time.chars()) {
                *cell = c;
            }
        }
    };
    if let Some(newest) = points.first() {
        label(width.saturating_sub(8), newest);
    }
    if let Some(oldest) = points.last().filter(|_| points.len() > 24) {
        label(width - points.len(), oldest);
    }
    cells
        .into_iter()
        .zip(marked)
        .map(|(cell, marked)| {
            let style = if marked {
                state.theme.alert()
            } else {
                state.theme.border()
            };
            Span::styled(cell.to_string(), style)
        })
        .collect()
}

/// Draws the histogram: a bar for each group of buckets.
pub(super) fn histogram(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let only = state.only();
    let total = state.shown().total(only);
    let title = format!("gaps by duration, {}", scope(only));
    let beside = match total.quantile_ns(0.99) {
        Some(p99) => format!("p99 {}", show_ns(p99)),
        None => String::new(),
    };
    let inner = panel(frame, area, state.theme, &title, &beside);
    if total.count == 0 {
        frame.render_widget(Paragraph::new(" none yet"), inner);
        return;
    }
    let rows = bars::groups(&total.histogram, inner.height.into(), WIDEST);
    let most = rows.iter().map(|row| row.count).max().unwrap_or(1).max(1);
    let both_ends = inner.width >= 44;
    // "9.89 us" or "9.89 us ..  11.8 us", a space on either side of the bar, and the count.
    let label = if both_ends { 19 } else { 7 };
    let room = usize::from(inner.width).saturating_sub(label + 2 + 7);
    let lines: Vec<Line<'static>> = rows
        .iter()
        .map(|row| {
            let from = show_ns(row.from_ns);
            let label = if both_ends {
                let to = row.to_ns.map_or_else(|| "longer".to_owned(), show_ns);
                format!("{from:>7} .. {to:>8} ")
            } else {
                format!("{from:>7} ")
            };
            let full = u128::from(most);
            let eighths = (u128::from(row.count) * room as u128 * 8 / full) as usize;
            let bar = match row.count {
                0 => String::new(),
                _ => state.theme.horizontal(eighths.max(1)),
            };
            Line::from(vec![
                Span::raw(label),
                Span::styled(format!("{bar:<room$}"), state.theme.bar()),
                Span::raw(format!("{:>8}", count(row.count))),
            ])
        })
        .collect();
    frame.render_widget(Text::from(lines), inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_height_shows_the_shortest_and_leaves_nothing_empty() {
        let heights = logarithms(&[0, 10, 100, 1_000], 10, 1_000);
        assert_eq!(heights, [0, 250, 625, 1_000]);
        assert_eq!(logarithms(&[7, 0], 7, 7), [1_000, 0]);
        assert_eq!(logarithms(&[0], 0, 0), [0]);
    }
}
