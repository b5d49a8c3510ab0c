//! The lines on top: what is watched and how, and what came of it; and the line for messages.

use jiff::Timestamp;
use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    State, Theme,
    data::Data,
    draw::fitting,
    rows::{count, rate},
};
use crate::{
    model::{GapKind, Snapshot},
    units::show_ns,
};

/// Lines it takes.
pub(super) const LINES: u16 = 3;

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let data = state.shown();
    let width = usize::from(area.width);
    let mut lines = vec![title(state, width)];
    if data.newest.is_some() {
        lines.push(totals(data, width));
        lines.push(standing(state, width));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// `left` at the left, and as many of `right` as fit at the right.
fn both(left: Vec<Span<'static>>, right: &[String], width: usize) -> Line<'static> {
    let taken: usize = left.iter().map(Span::width).sum();
    let right = fitting(right, ", ", width.saturating_sub(taken + 2));
    let room = width.saturating_sub(taken + right.chars().count());
    let mut line = left;
    line.push(Span::raw(" ".repeat(room)));
    line.push(Span::raw(right));
    Line::from(line)
}

fn title(state: &State, width: usize) -> Line<'static> {
    let mut left = vec![Span::styled("smilat top", Theme::heading())];
    let mut right: Vec<String> = state.subject.host.iter().cloned().collect();
    right.extend(
        state
            .subject
            .kernel
            .iter()
            .map(|release| format!("Linux {release}")),
    );
    let Some(newest) = &state.shown().newest else {
        return both(left, &right, width);
    };
    let detector = &newest.detector;
    left.push(Span::raw(format!("  {}, ", detector.name)));
    let threshold_ns = match state.frozen {
        Some(_) => None,
        None => state.threshold_ns,
    };
    let threshold_ns = threshold_ns.unwrap_or(detector.threshold_ns);
    let threshold = format!("threshold {}", show_ns(threshold_ns as f64));
    match state.shown().change {
        None => left.push(Span::raw(threshold)),
        Some(change) => left.push(Span::styled(
            format!(
                "{threshold} ({} until {}: mixed)",
                show_ns(change.from_ns as f64),
                clock(state, change.time, false)
            ),
            state.theme.alert(),
        )),
    }
    let more = [
        format!(
            "{} of every {}",
            show_ns(detector.width_ns as f64),
            show_ns(detector.window_ns as f64)
        ),
        detector.mode.to_string(),
        match detector.gap_kind {
            GapKind::Gap => String::new(),
            GapKind::WindowMax => "each gap the longest of its window".to_owned(),
        },
    ];
    let taken: usize = left.iter().map(Span::width).sum();
    let more = fitting(&more, ", ", width.saturating_sub(taken + 2));
    if !more.is_empty() {
        left.push(Span::raw(format!(", {more}")));
    }
    both(left, &right, width)
}

fn totals(data: &Data, width: usize) -> Line<'static> {
    let total = data.total(None);
    let elapsed_ns = data.elapsed_ns();
    let longest = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), |ns| show_ns(ns as f64));
    let (now, now_max) = data.last_interval(None);
    let left = vec![Span::raw(format!(
        "{}, {}/s, longest {}; now {}{}",
        of(total.count, "gap"),
        total.rate().map_or_else(|| "-".to_owned(), rate),
        longest(total.max_ns),
        count(now),
        match now_max {
            0 => String::new(),
            ns => format!(", {}", show_ns(ns as f64)),
        },
    ))];
    // Of the time of all CPUs together that are still watched.
    let watched = data.watched();
    let exposure_ns: u64 = watched
        .iter()
        .map(|cpu| data.since_reset(cpu).exposure_ns)
        .sum();
    let share =
        exposure_ns as f64 * 100.0 / (elapsed_ns.max(1) as f64 * watched.len().max(1) as f64);
    let since = if data.baseline.is_some() {
        "since reset"
    } else {
        "since start"
    };
    let right = [
        format!("{} {since}", elapsed(elapsed_ns)),
        format!(
            "exposure {} ({share:.2} %)",
            show_ns(total.exposure_ns as f64)
        ),
    ];
    both(left, &right, width)
}

/// Pause and replay where there is such; causes and SMIs.
fn standing(state: &State, width: usize) -> Line<'static> {
    let data = state.shown();
    let mut left = Vec::new();
    if let Some(frozen) = &state.frozen {
        left.push(Span::styled(
            format!("PAUSED: {}", meanwhile(frozen, &state.data)),
            state.theme.alert(),
        ));
    } else if let Some(replay) = &state.replay {
        let text = match &state.subject.recording {
            Some(name) => format!("{}: {}", shortened(name), replay.text()),
            None => replay.text(),
        };
        left.push(Span::styled(text, state.theme.alert()));
    }
    let causes: Vec<String> = data
        .causes(None)
        .into_iter()
        .map(|(cause, of)| format!("{cause} {}", count(of)))
        .collect();
    let mut right = Vec::new();
    if !causes.is_empty() {
        right.push(format!("by cause: {}", causes.join(", ")));
    }
    // Most SMIs stop and count on all CPUs: the highest count, not the sum.
    right.push(
        match data.all().iter().filter_map(|cpu| data.smis(cpu)).max() {
            None => "SMIs not counted".to_owned(),
            Some(smis) => format!("SMIs counted: {}", count(smis)),
        },
    );
    let left_out = (data.all().len() - data.watched().len()) as u64;
    if left_out > 0 {
        right.push(format!("{} no longer watched", of(left_out, "CPU")));
    }
    if data.missed > 0 {
        right.push(format!("{} missing", of(data.missed, "interval")));
    }
    if left.is_empty() {
        left.push(Span::raw(fitting(&right, "; ", width)));
        right.clear();
    }
    both(left, &right, width)
}

/// What came while the display stood still.
fn meanwhile(then: &Data, now: &Data) -> String {
    let (Some(before), Some(newest)) = (&then.newest, &now.newest) else {
        return "nothing was shown yet".to_owned();
    };
    let intervals = newest.interval.saturating_sub(before.interval);
    let counted = |snapshot: &Snapshot| snapshot.sum(|cpu| cpu.gaps.count);
    let gaps = counted(newest).saturating_sub(counted(before));
    let longest = now
        .history
        .iter()
        .rev()
        .take_while(|point| point.time > before.time)
        .map(|point| point.all.1)
        .max()
        .filter(|ns| *ns > 0)
        .map_or_else(String::new, |ns| {
            format!(", longest {}", show_ns(ns as f64))
        });
    format!(
        "{} came in {} since{longest}",
        of(gaps, "gap"),
        of(intervals, "interval")
    )
}

/// The notice or the newest message that was not read.
pub(super) fn message(state: &State) -> Option<Paragraph<'static>> {
    let text = match (&state.notice, state.messages.back()) {
        (Some(notice), _) => notice.clone(),
        (None, Some(message)) if state.messages_unread => match state.messages.len() {
            1 => format!("! {message}"),
            n => format!("! {message} (m: all {n})"),
        },
        _ => return None,
    };
    Some(
        Paragraph::new(text)
            .style(state.theme.alert())
            .alignment(Alignment::Left),
    )
}

/// `1 gap`, `2 gaps`.
fn of(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {what}{s}", count(number))
}

/// The last part of a path, and not too much of it.
fn shortened(path: &str) -> String {
    const MOST: usize = 24;
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    let start: String = name.chars().take(MOST - 2).collect();
    start + ".."
}

/// A time of day.
pub(super) fn clock(state: &State, time: Timestamp, milliseconds: bool) -> String {
    let format = if milliseconds {
        "%H:%M:%S%.3f"
    } else {
        "%H:%M:%S"
    };
    time.to_zoned(state.zone.clone())
        .strftime(format)
        .to_string()
}

/// A time since something in whole seconds: `12 s`, `3:05 min`, `2:03:05 h`.
pub(super) fn elapsed(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{}:{:02} min", s / 60, s % 60),
        _ => format!("{}:{:02}:{:02} h", s / 3_600, s / 60 % 60, s % 60),
    }
}
