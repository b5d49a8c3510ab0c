//! The layout of a frame.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph, Wrap},
};

use super::{Popup, State, Theme, charts, header, lists, table};

/// Smallest terminal in which everything has room.
const MIN_WIDTH: u16 = 60;
const MIN_HEIGHT: u16 = 15;

/// Draws `state`.
pub fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let area = frame.area();
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        too_small(frame, area);
        return;
    }
    let message = header::message(state);
    let [head, body, told, keys] = Layout::vertical([
        Constraint::Length(header::LINES),
        Constraint::Fill(1),
        Constraint::Length(message.is_some().into()),
        Constraint::Length(1),
    ])
    .areas(area);
    header::draw(frame, head, state);
    if let Some(message) = message {
        frame.render_widget(message, told);
    }
    frame.render_widget(lists::key_line(state, keys.width), keys);
    if state.shown().newest.is_none() {
        lists::waiting(frame, body);
    } else {
        panels(frame, body, state);
    }
    match state.popup {
        Some(Popup::Help) => lists::help(frame, body, state),
        Some(Popup::Messages) => lists::messages(frame, body, state),
        None => {}
    }
}

fn panels(frame: &mut Frame<'_>, body: Rect, state: &mut State) {
    // A title, the headings, and a row for each CPU.
    let wanted = u16::try_from(state.shown().watched().len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let table_height = wanted.min((body.height * 2 / 5).max(4));
    let trend_height = match body.height - table_height {
        0..10 => 3,
        10..16 => 4,
        16..26 => 6,
        _ => 8,
    };
    let [table, trend, rest] = Layout::vertical([
        Constraint::Length(table_height),
        Constraint::Length(trend_height),
        Constraint::Fill(1),
    ])
    .areas(body);
    // Gaps take what their lines need, bars grow with the terminal.
    let gaps_width = match body.width {
        0..80 => 32,
        80..100 => 40,
        _ => 44,
    };
    let [bars, _between, gaps] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(gaps_width),
    ])
    .areas(rest);
    table::draw(frame, table, state);
    charts::trend(frame, trend, state);
    charts::histogram(frame, bars, state);
    lists::gaps(frame, gaps, state);
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!(
        "too small: smilat top needs {MIN_WIDTH} columns and {MIN_HEIGHT} lines, this is {}x{}",
        area.width, area.height
    );
    let told = Paragraph::new(text)
        .alignment(Alignment::Center)
        .wrap(Wrap { trim: true });
    frame.render_widget(told, area);
}

/// A line with `title` at the left and `beside` at the right where both fit, above a panel; returns what is left below.
pub(in crate::report) fn panel(
    frame: &mut Frame<'_>,
    area: Rect,
    theme: Theme,
    title: &str,
    beside: &str,
) -> Rect {
    let line = Span::styled(theme.borders().horizontal_top, theme.border());
    let mut block = Block::new()
        .borders(Borders::TOP)
        .border_set(theme.borders())
        .border_style(theme.border())
        .title(Line::from(vec![
            line.clone(),
            Span::styled(format!(" {title} "), Theme::heading()),
        ]));
    if !beside.is_empty() && title.chars().count() + beside.chars().count() + 8 <= area.width.into()
    {
        let beside = vec![Span::raw(format!(" {beside} ")), line];
        block = block.title(Line::from(beside).right_aligned());
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// As many of `parts` as fit into `width`, the first ones, with `between` them.
pub(in crate::report) fn fitting(parts: &[String], between: &str, width: usize) -> String {
    let mut text = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let gap = if text.is_empty() { "" } else { between };
        if text.chars().count() + gap.len() + part.chars().count() > width {
            break;
        }
        text += gap;
        text += part;
    }
    text
}
