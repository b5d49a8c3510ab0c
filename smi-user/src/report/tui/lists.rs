//! What is read line by line: newest gaps, keys, help, messages.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span, Text},
    widgets::{Block, Clear, Paragraph, Wrap},
};

use super::{State, Theme, draw::panel, header::clock};
use crate::{model::GapKind, units::show_ns};

/// The newest single gaps, the newest first.
pub(super) fn gaps(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let data = state.shown();
    let only = state.only();
    let title = match (
        data.newest.as_ref().map(|newest| newest.detector.gap_kind),
        only,
    ) {
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
    let inner = panel(frame, area, state.theme, &title, &beside);
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
    if lines.is_empty() && data.total(only).count > 0 {
        let told = "none among the newest that were passed on";
        frame.render_widget(Paragraph::new(told), inner);
    } else if lines.is_empty() {
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

const HELP_LIVE: &str = "\
p, space      display stands still; collecting goes on
+ -           threshold in the kernel up, down: 1, 2, 5
              Counts mix both from then on, until r.
left, right   sort by another column";

const HELP_REPLAY: &str = "\
space, p      play, stand still
left, right   one interval back, forward
[ ]           sixty intervals back, forward
Home, End     to the beginning, to the end
+ -           faster, slower";

const HELP_BOTH: &str = "\
< >           sort by another column;  i  the other order
up, down      choose a CPU (j k, PgUp PgDn, g G)
enter, c      charts and gaps of that CPU, or of all again
a             charts and gaps of all CPUs
t             trend: gaps of each interval, or the longest
r             count from now on; the kernel goes on, and
              the summary at the end has everything
m             all messages
q, Esc        quit, as Ctrl-C does;  Ctrl-Z  suspends

gaps/s        gaps per second of exposure
exposure      time really spent sampling
now max       longest of the last interval
last          the newest gap
SMIs          by the CPU's own counter; do not add CPUs up
T, R          threshold changed, counting began (in trend)";

/// The keys, the columns, and what is done to the machine.
pub(super) fn help(frame: &mut Frame<'_>, body: Rect, state: &mut State) {
    let own = if state.replay.is_some() {
        HELP_REPLAY
    } else {
        HELP_LIVE
    };
    let mut text = format!("{own}\n{HELP_BOTH}");
    if !state.subject.plan.is_empty() {
        text = format!("{text}\n\n{}", state.subject.plan.trim_end());
    }
    popup(
        frame,
        body,
        state,
        "help: up and down scroll, ? closes",
        text,
    );
}

/// All messages, the newest last.
pub(super) fn messages(frame: &mut Frame<'_>, body: Rect, state: &mut State) {
    let mut lines: Vec<String> = Vec::new();
    if state.messages_dropped > 0 {
        lines.push(format!(
            "({} older ones are not kept)",
            state.messages_dropped
        ));
    }
    if state.messages.is_empty() {
        lines.push("no messages".to_owned());
    }
    lines.extend(state.messages.iter().map(|message| format!("- {message}")));
    popup(
        frame,
        body,
        state,
        "messages: up and down scroll, m closes",
        lines.join("\n"),
    );
}

fn popup(frame: &mut Frame<'_>, body: Rect, state: &mut State, title: &str, text: String) {
    let width = body.width.min(100);
    let room = usize::from(width - 2);
    // With a line to spare: words that do not fit at a line's end take more.
    let guess: usize = text
        .lines()
        .map(|line| line.chars().count().div_ceil(room).max(1))
        .sum();
    let guess = u16::try_from(guess).unwrap_or(u16::MAX);
    let height = guess.saturating_add(3).min(body.height);
    let area = Rect {
        x: body.x + (body.width - width) / 2,
        y: body.y + (body.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered()
        .border_set(state.theme.borders())
        .title(Span::styled(format!(" {title} "), Theme::heading()));
    let paragraph = Paragraph::new(text).wrap(Wrap { trim: false }).block(block);
    // With those of the frame.
    let lines = u16::try_from(paragraph.line_count(width - 2)).unwrap_or(u16::MAX);
    state.scroll = state.scroll.min(lines.saturating_sub(height));
    state.popup_page = height.saturating_sub(2);
    frame.render_widget(Clear, area);
    frame.render_widget(paragraph.scroll((state.scroll, 0)), area);
}
