//! The layout of a frame, and its parts.

use std::fmt::Write as _;

use jiff::Timestamp;
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    text::{Line, Span, Text},
    widgets::{Paragraph, RenderDirection, Sparkline, Wrap},
};

use super::{
    super::{
        text::losses,
        words::{self, headline, is_alarming, number_of, per_second, show_rate},
    },
    Column, State, lately,
    rows::{Row, rows},
};
use crate::{
    model::iommu::IommuSnapshot,
    report::tui::{Theme, fitting, panel},
    units::show_bytes,
};

/// Smallest terminal in which everything has room.
const MIN_WIDTH: u16 = 60;
const MIN_HEIGHT: u16 = 15;
/// Characters of the number of a domain, and of its type.
const DOMAIN: usize = 6;
const KIND: usize = 13;
/// Characters of the devices at least.
const DEVICES: usize = 14;

const KEYS: [(&str, &str); 5] = [
    ("q", "quit"),
    ("space", "pause"),
    ("r", "reset"),
    ("s", "sort"),
    ("up down", "scroll"),
];

/// Draws `state`.
pub fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let area = frame.area();
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        let text = format!(
            "too small: smilat iommu live needs {MIN_WIDTH} columns and {MIN_HEIGHT} lines, this is {}x{}",
            area.width, area.height
        );
        let told = Paragraph::new(text)
            .alignment(Alignment::Center)
            .wrap(Wrap { trim: true });
        frame.render_widget(told, area);
        return;
    }
    let [head, body, keys] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header(state, area.width.into()), head);
    frame.render_widget(key_line(state), keys);
    // A title, the headings, and a row for each domain.
    let domains = state.shown().newest.as_ref();
    let wanted = domains.map_or(1, |newest| newest.domains.len().max(1)) + 2;
    let most = (body.height / 2).max(4);
    let table_height = u16::try_from(wanted).unwrap_or(u16::MAX).min(most);
    let trend_height = if body.height < 20 { 3 } else { 5 };
    let [table, trend, events] = Layout::vertical([
        Constraint::Length(table_height),
        Constraint::Length(trend_height),
        Constraint::Fill(1),
    ])
    .areas(body);
    draw_table(frame, table, state);
    draw_trend(frame, trend, state);
    draw_events(frame, events, state);
}

fn clock(state: &State, time: Timestamp) -> String {
    time.to_zoned(state.zone.clone())
        .strftime("%H:%M:%S")
        .to_string()
}

fn header(state: &State, width: usize) -> Text<'static> {
    let mut first = vec![Span::styled("smilat iommu", Theme::heading())];
    let Some(newest) = &state.shown().newest else {
        return Text::from(vec![
            Line::from(first),
            Line::raw("waiting for the first interval"),
            standing(state, None, width),
        ]);
    };
    first.push(Span::raw(format!(
        "  {}, {}",
        clock(state, newest.time),
        number_of(newest.domains.len() as u64, "domain", "domains")
    )));
    let all = lately(newest);
    let ns = newest.interval_ns;
    let faults = newest.faults.iter().map(|of| of.count).sum();
    let rates = fitting(
        &[
            format!("{} maps/s", show_rate(per_second(all.maps, ns))),
            format!("{} unmaps/s", show_rate(per_second(all.unmaps, ns))),
            format!(
                "{}/s mapped",
                show_bytes(per_second(all.map_bytes, ns) as u64)
            ),
            number_of(newest.ratio_alarms, "ratio alarm", "ratio alarms"),
            number_of(faults, "fault", "faults"),
            number_of(newest.growth_alarms, "leak?", "leaks?"),
            number_of(newest.late.count, "long run", "long runs"),
        ],
        ", ",
        width,
    );
    Text::from(vec![
        Line::from(first),
        Line::raw(rates),
        standing(state, Some(newest), width),
    ])
}

/// Whether it stands still, or what has to be told.
fn standing(state: &State, newest: Option<&IommuSnapshot>, width: usize) -> Line<'static> {
    let text = if state.frozen.is_some() {
        let intervals = state.data.newest.as_ref().map_or(0, |now| now.interval);
        let came = intervals.saturating_sub(newest.map_or(0, |shown| shown.interval));
        format!(
            "PAUSED: {} since; space goes on",
            number_of(came, "interval", "intervals")
        )
    } else if let Some(message) = &state.message {
        message.clone()
    } else if let Some(loss) = newest.and_then(|newest| losses(newest).into_iter().next()) {
        loss
    } else {
        return Line::default();
    };
    Line::styled(cut(&text, width), state.theme.alert())
}

/// As much of it as fits.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(2)).collect();
    cut.push_str("..");
    cut
}

fn key_line(state: &State) -> Line<'static> {
    let mut spans = Vec::new();
    for (key, does) in KEYS {
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        spans.push(Span::styled(key, state.theme.key()));
        spans.push(Span::raw(format!(" {does}")));
    }
    Line::from(spans)
}

/// The columns that fit, the most important first, and the sorted one whatever it is, in their order.
fn columns(width: usize, sort: Column) -> Vec<Column> {
    let mut columns = Column::ALL.to_vec();
    let taken = |columns: &[Column]| -> usize {
        columns.iter().map(|column| column.width()).sum::<usize>() + DOMAIN + KIND + DEVICES
    };
    while taken(&columns) > width {
        let least = columns
            .iter()
            .filter(|column| **column != sort)
            .min_by_key(|column| column.importance())
            .copied();
        let Some(least) = least else { break };
        columns.retain(|column| *column != least);
    }
    columns
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &mut State) {
    let rows = rows(state.shown(), state.sort);
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    let first = state.first.min(rows.len().saturating_sub(room));
    let columns = columns(area.width.into(), state.sort);
    let beside = if rows.len() > room {
        format!("{}-{} of {}", first + 1, first + room, rows.len())
    } else {
        String::new()
    };
    let title = format!("domains by {}", state.sort.name());
    let inner = panel(frame, area, state.theme, &title, &beside);
    let mut lines = vec![heading(state, &columns)];
    let limit = state
        .shown()
        .newest
        .as_ref()
        .map_or(f64::INFINITY, |newest| newest.ratio_limit);
    for row in rows.iter().skip(first).take(room) {
        lines.push(line(state, row, &columns, limit, inner.width.into()));
    }
    if rows.is_empty() {
        lines.push(Line::raw(" nothing was mapped or unmapped yet"));
    }
    frame.render_widget(Text::from(lines), inner);
    state.first = first;
    state.page = room;
    // What is out of sight can be sorted by, too: it comes into sight then.
    state.columns = Column::ALL.to_vec();
}

fn heading(state: &State, columns: &[Column]) -> Line<'static> {
    let mut spans = vec![Span::styled(
        format!(
            "{:>DOMAIN$}  {:<width$}",
            "domain",
            "type",
            width = KIND - 2
        ),
        Theme::heading(),
    )];
    for column in columns {
        let width = column.width();
        if *column == state.sort {
            let name = format!("{}{}", column.name(), state.theme.order(true));
            spans.push(Span::styled(
                format!("{name:>width$}"),
                Theme::heading().underlined(),
            ));
        } else {
            spans.push(Span::styled(
                format!("{:>width$}", column.name()),
                Theme::heading(),
            ));
        }
    }
    spans.push(Span::styled("  devices", Theme::heading()));
    Line::from(spans)
}

fn line(state: &State, row: &Row, columns: &[Column], limit: f64, width: usize) -> Line<'static> {
    let domain = match row.domain {
        0 => "-".to_owned(),
        number => number.to_string(),
    };
    let mut text = format!(
        "{domain:>DOMAIN$}  {:<width$}",
        cut(&row.kind, KIND - 2),
        width = KIND - 2
    );
    for column in columns {
        // Writing to a string does not fail.
        let _written = write!(
            text,
            "{:>width$}",
            row.text(*column),
            width = column.width()
        );
    }
    let of = if row.devices.is_empty() && !row.groups.is_empty() {
        format!("group {}", words::groups(&row.groups))
    } else {
        words::devices(&row.devices)
    };
    text += "  ";
    let room = width.saturating_sub(text.chars().count());
    text += &cut(&of, room);
    if row.ratio() > limit {
        Line::styled(text, state.theme.alert())
    } else {
        Line::raw(text)
    }
}

/// A column for each interval, the newest at the right.
fn draw_trend(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let history = &state.shown().history;
    let shown = || history.iter().rev().take(area.width.into()).copied();
    let beside = match shown().max() {
        Some(most) => format!("highest {most}"),
        None => String::new(),
    };
    let title = "maps and unmaps a second, all domains";
    let inner = panel(frame, area, state.theme, title, &beside);
    let sparkline = Sparkline::default()
        .data(shown().collect::<Vec<u64>>())
        .direction(RenderDirection::RightToLeft)
        .bar_set(state.theme.bars())
        .style(state.theme.bar());
    frame.render_widget(sparkline, inner);
}

/// The newest first.
fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let inner = panel(frame, area, state.theme, "newest events", "");
    let lines: Vec<Line<'static>> = state
        .shown()
        .events
        .iter()
        .rev()
        .take(inner.height.into())
        .map(|event| {
            let text = format!("{}  {}", clock(state, event.time), headline(event));
            let text = cut(&text, inner.width.into());
            if is_alarming(&event.what) {
                Line::styled(text, state.theme.alert())
            } else {
                Line::raw(text)
            }
        })
        .collect();
    if lines.is_empty() {
        frame.render_widget(Paragraph::new(" none yet"), inner);
    } else {
        frame.render_widget(Text::from(lines), inner);
    }
}
