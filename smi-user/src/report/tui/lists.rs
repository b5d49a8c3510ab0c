//! What is read line by line: newest gaps, keys, help, messages.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span, Text},
    widgets::{Block, Clear, Paragraph, Wrap},
};

use super::{State, draw::panel, header::clock};
use crate::{model::GapKind, units::show_ns};

/// The newest single gaps, the newest first.
pub(super) fn gaps(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let data = state.shown();
    let only = state.only();
    let title = match (data.newest.as_ref().map(|newest| newest.detector.gap_kind), only) {
        (Some(GapKind::WindowMax), None) => "newest, longest of windows".to_owned(),
        (_, None) => "newest gaps".to_owned(),
        (_, Some(cpu)) => format!("newest gaps, CPU {cpu}"),
    };
    let held_back = data.newest.as_ref().map_or(0, |newest| {
        newest.sum(|cpu| cpu.records.limited + cpu.records.lost) + newest.gaps_dropped
    });
    let beside = match held_back {
        0 => String::new(),
        n => format!("{n} not passed on"),
    };
    let inner = panel(frame, area, state, &title, &beside);
    let milliseconds = inner.width >= 38;
    let lines: Vec<Line<'static>> = data
        .gaps
        .iter()
        .rev()
        .filter(|gap| only.is_none_or(|only| only == gap.cpu))
        .take(inner.height.into())
        .map(|gap| {
            Line::from(vec![
                Span::raw(format!(
                    "{}{:>4} {:>8}  ",
                    clock(state, gap.end_time, milliseconds),
                    gap.cpu,
                    show_ns(gap.duration_ns as f64)
                )),
                Span::styled(gap.cause.to_string(), state.theme.cause(gap.cause)),
            ])
        })
        .collect();
    if lines.is_empty() {
        let threshold = state.threshold_ns().map_or_else(String::new, |ns| {
            format!(" that reached {}", show_ns(ns as f64))
        });
        frame.render_widget(Paragraph::new(format!("none yet{threshold}")), inner);
    } else {
        frame.render_widget(Text::from(lines), inner);
    }
}

/// Where no snapshot came yet.
pub(super) fn waiting(frame: &mut Frame<'_>, area: Rect) {
    let text = "watching; the first numbers come when the first interval is over";
    let line = Rect {
        y: area.y + area.height / 2,
        height: 1,
        ..area
    };
    frame.render_widget(Paragraph::new(text).centered(), line);
}

const LIVE: [(&str, &str); 10] = [
    ("q", "quit"),
    ("?", "help"),
    ("p", "pause"),
    ("r", "reset"),
    ("+ -", "threshold"),
    ("< >", "sort"),
    ("i", "invert"),
    ("enter", "one CPU"),
    ("t", "trend"),
    ("m", "messages"),
];

const REPLAY: [(&str, &str); 10] = [
    ("q", "quit"),
    ("?", "help"),
    ("space", "play"),
    ("left right", "step"),
    ("[ ]", "60"),
    ("+ -", "speed"),
    ("< >", "sort"),
    ("i", "invert"),
    ("enter", "one CPU"),
    ("t", "trend"),
];

/// The keys in one line.
pub(super) fn key_line(state: &State, width: u16) -> Line<'static> {
    let keys = if state.replay.is_some() { REPLAY } else { LIVE };
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut taken = 0;
    for (key, does) in keys {
        let between = if taken == 0 { 0 } else { 2 };
        taken += between + key.len() + 1 + does.len();
        if taken > width.into() {
            break;
        }
        spans.push(Span::raw(" ".repeat(between)));
        spans.push(Span::styled(key, state.theme.key()));
        spans.push(Span::raw(format!(" {does}")));
    }
    Line::from(spans)
}

const HELP_BOTH: &str = "\
q, Esc, Ctrl-C   quit; Ctrl-Z suspends
up, down         choose a CPU (also j k, PgUp PgDn, g G)
enter, c         charts and gaps of that CPU only, or of all again
a                charts and gaps of all CPUs
< >              sort by another column;  i  the other order
t                trend: gaps in each interval, or the longest of each
m                all messages
r                count from now on: gaps, rates, percentiles, max and causes are those since; nothing is lost in the
                 kernel, and the summary at the end has everything";

const HELP_LIVE: &str = "\
p, space         the display stands still; collecting goes on
+ -              raise or lower the threshold in the kernel, in steps of 1, 2, 5: from then on counts of gaps
                 between the old and the new one are incomplete; r begins anew
left, right      sort by another column";

const HELP_REPLAY: &str = "\
space, p         play or stand still
left, right      one interval back, forward;  [ ]  sixty;  Home End  to the beginning, the end
+ -              faster, slower";

const HELP_NAMES: &str = "\
gaps/s   gaps per second of exposure, the time really spent sampling
now max  longest of the last interval;  last  the newest gap
SMIs     counted by the CPU's own counter; do not add CPUs up
trend    T  the threshold changed there;  R  counting began there";

/// The keys, the columns, and what is done to the machine.
pub(super) fn help(frame: &mut Frame<'_>, body: Rect, state: &State) {
    let own = if state.replay.is_some() { HELP_REPLAY } else { HELP_LIVE };
    let mut text = format!("{own}\n{HELP_BOTH}\n\n{HELP_NAMES}");
    if !state.subject.plan.is_empty() {
        text = format!("{text}\n\n{}", state.subject.plan.trim_end());
    }
    popup(frame, body, state, "help: up and down scroll, ? or Esc closes", text);
}

/// All messages, the newest last.
pub(super) fn messages(frame: &mut Frame<'_>, body: Rect, state: &State) {
    let mut lines: Vec<String> = Vec::new();
    if state.messages_dropped > 0 {
        lines.push(format!("({} older ones are not kept)", state.messages_dropped));
    }
    if state.messages.is_empty() {
        lines.push("no messages".to_owned());
    }
    lines.extend(state.messages.iter().map(|message| format!("- {message}")));
    popup(frame, body, state, "messages: up and down scroll, m or Esc closes", lines.join("\n"));
}

fn popup(frame: &mut Frame<'_>, body: Rect, state: &State, title: &str, text: String) {
    let lines = u16::try_from(text.lines().count()).unwrap_or(u16::MAX);
    let width = body.width.min(118);
    // Wrapped lines take more; the rest is reached by scrolling.
    let height = lines.saturating_add(if body.width < 110 { 10 } else { 2 }).min(body.height);
    let area = Rect {
        x: body.x + (body.width - width) / 2,
        y: body.y + (body.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered()
        .border_set(state.theme.borders())
        .title(Span::styled(format!(" {title} "), state.theme.heading()));
    let paragraph = Paragraph::new(text)
        .wrap(Wrap { trim: false })
        .scroll((state.scroll.min(lines.saturating_sub(1)), 0))
        .block(block);
    frame.render_widget(Clear, area);
    frame.render_widget(paragraph, area);
}
