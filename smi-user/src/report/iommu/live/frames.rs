//! Whole frames as they look, and what keys do to them.

use jiff::tz::TimeZone;

use super::{Action, Column, State, draw};
use crate::{
    iommu::made_up::{disk, events, fault, nothing, snapshot},
    model::iommu::{DomainCounts, IommuSnapshot},
    report::tui::{
        Theme,
        frames::{assert_lines, lines},
    },
};

fn state(unicode: bool) -> State {
    let theme = Theme {
        colour: false,
        unicode,
    };
    State::new(theme, TimeZone::UTC)
}

/// Four intervals, the last as `snapshot`, and all events.
fn watched() -> State {
    let mut state = state(true);
    for interval in 1..=4 {
        let mut one = snapshot();
        one.interval = interval;
        one.domains[1].lately.maps = 1_000 * interval;
        state.snapshot(one);
    }
    state.events(events());
    state
}

fn frame(state: &mut State, width: u16, height: u16) -> Vec<String> {
    lines(width, height, |frame| draw(frame, state))
}

fn text(state: &mut State) -> String {
    frame(state, 80, 24).join("\n")
}

macro_rules! looks_like {
    ($state:expr, $width:literal, $height:literal, $name:literal) => {
        assert_lines(
            &frame($state, $width, $height),
            concat!("iommu/live/frames/", $name),
            include_str!(concat!("frames/", $name)),
        )
    };
}

#[test]
fn a_terminal_of_the_usual_size() {
    looks_like!(&mut watched(), 80, 24, "two-domains-80x24.txt");
}

#[test]
fn a_large_terminal_has_every_column() {
    looks_like!(&mut watched(), 130, 30, "two-domains-130x30.txt");
}

/// A snapshot of so many domains.
fn many(domains: u32) -> IommuSnapshot {
    let of = |domain: u32| {
        let mut of = DomainCounts { domain, ..disk() };
        of.lately.unmaps = u64::from(domain) * 10;
        of
    };
    IommuSnapshot {
        domains: (1..=domains).map(of).collect(),
        ..snapshot()
    }
}

#[test]
fn many_domains_in_the_smallest_terminal_without_unicode_scroll() {
    let mut state = state(false);
    state.snapshot(many(100));
    looks_like!(&mut state, 60, 15, "100-domains-60x15.txt");
    let begins = |state: &mut State, domain: &str| {
        let lines = frame(state, 60, 15);
        assert!(lines[5].trim_start().starts_with(domain), "{lines:?}");
    };
    begins(&mut state, "100 ");
    state.act(Action::Scroll(1));
    begins(&mut state, "99 ");
    state.act(Action::Last);
    begins(&mut state, "3 ");
    state.act(Action::Page(-1));
    begins(&mut state, "6 ");
    state.act(Action::First);
    begins(&mut state, "100 ");
}

#[test]
fn before_anything_came_the_view_says_so() {
    let mut state = state(true);
    let shown = text(&mut state);
    for told in ["waiting for the first interval", "none yet"] {
        assert!(shown.contains(told), "{shown}");
    }
    state.snapshot(nothing());
    let shown = text(&mut state);
    assert!(
        shown.contains("nothing was mapped or unmapped yet"),
        "{shown}"
    );
    assert!(frame(&mut state, 40, 10).concat().contains("too small"));
}

#[test]
fn a_paused_display_stands_still_and_says_what_came() {
    let mut state = watched();
    let before = frame(&mut state, 80, 24);
    state.act(Action::Pause);
    let mut next = snapshot();
    next.interval = 6;
    next.domains.pop();
    state.snapshot(next);
    state.events([fault()]);
    let paused = frame(&mut state, 80, 24);
    assert_eq!(before[3..], paused[3..]);
    assert!(
        paused[2].starts_with("PAUSED: 2 intervals since"),
        "{paused:?}"
    );
    state.act(Action::Pause);
    assert_ne!(before[3..], frame(&mut state, 80, 24)[3..]);
}

#[test]
fn a_reset_counts_from_then_on() {
    let mut state = watched();
    assert!(text(&mut state).contains("4608"));
    state.act(Action::Reset);
    let shown = text(&mut state);
    assert!(
        !shown.contains("4608") && shown.contains("counting from here on"),
        "{shown}"
    );
    assert!(shown.contains("none yet"), "{shown}");
    let mut next = snapshot();
    next.domains[0].pieces += 7;
    state.snapshot(next);
    let shown = text(&mut state);
    assert!(
        shown
            .lines()
            .any(|line| line.contains("unmanaged") && line.contains(" 7 ")),
        "{shown}"
    );
}

#[test]
fn sorting_takes_the_column_along_even_into_a_narrow_terminal() {
    let mut state = watched();
    for expected in [
        Column::MappedRate,
        Column::Ratio,
        Column::Maps,
        Column::Unmaps,
    ] {
        state.act(Action::Sort(1));
        let shown = frame(&mut state, 60, 15).join("\n");
        let mark = format!("{}▼", expected.name());
        assert!(shown.contains(&mark), "no {mark} in {shown}");
        assert!(shown.contains(&format!("domains by {}", expected.name())));
    }
    let changes = state.changes();
    state.message("a warning".to_owned());
    assert!(state.changes() > changes);
    assert!(text(&mut state).contains("\na warning\n"));
}
