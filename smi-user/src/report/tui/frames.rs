//! Whole frames as they look, and what keys do to them.

use jiff::tz::TimeZone;
use ratatui::{Frame, Terminal, backend::TestBackend};

use super::{Action, Column, Popup, Replay, State, Subject, Theme, draw, rows::rows};
use crate::{made_up::Machine, model::Cause};

fn state() -> State {
    let subject = Subject {
        recording: None,
        host: Some("box".to_owned()),
        kernel: Some("6.12.0".to_owned()),
        plan: "cost: 0.50 % of each watched CPU".to_owned(),
    };
    let theme = Theme {
        colour: false,
        unicode: true,
    };
    State::new(subject, theme, TimeZone::UTC)
}

const SMI: u64 = smi_common::cause::SMI;

/// Two CPUs after three intervals.
fn watched() -> (Machine, State) {
    let mut machine = Machine::new(2);
    let mut state = state();
    state.snapshot(machine.interval(&[(0, 12_000, 0), (1, 300_000, SMI), (0, 15_000, 0)]));
    state.snapshot(machine.interval(&[]));
    state.snapshot(machine.interval(&[(1, 20_000, 0)]));
    (machine, state)
}

/// What `draw` draws, a line each, without the spaces at their ends.
pub(crate) fn lines(width: u16, height: u16, draw: impl FnOnce(&mut Frame<'_>)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(draw).expect("drawn");
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

/// Compares `lines` with `expected`, which the file `path` below the sources has; `SMILAT_UPDATE_SNAPSHOTS` has it written anew.
#[track_caller]
pub(crate) fn assert_lines(lines: &[String], path: &str, expected: &str) {
    let frame = lines.join("\n") + "\n";
    if std::env::var_os("SMILAT_UPDATE_SNAPSHOTS").is_some() {
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report");
        std::fs::write(format!("{sources}/{path}"), &frame).expect("written");
    } else {
        assert!(frame == expected, "{path} is now:\n{frame}");
    }
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
            concat!("tui/frames/", $name),
            include_str!(concat!("frames/", $name)),
        )
    };
}

#[test]
fn a_terminal_of_the_usual_size() {
    let (_, mut state) = watched();
    looks_like!(&mut state, 80, 24, "two-cpus-80x24.txt");
}

#[test]
fn a_large_terminal_with_the_help() {
    let (_, mut state) = watched();
    looks_like!(&mut state, 120, 40, "two-cpus-120x40.txt");
    state.act(Action::Popup(Popup::Help));
    looks_like!(&mut state, 120, 40, "help-120x40.txt");
}

#[test]
fn many_cpus_in_the_smallest_terminal_without_unicode() {
    let mut machine = Machine::new(256);
    let mut state = state();
    state.theme.unicode = false;
    for i in 0..100 {
        state.snapshot(machine.interval(&[(i * 2, 12_000 + u64::from(i) * 1_000, 0)]));
    }
    looks_like!(&mut state, 60, 15, "256-cpus-60x15.txt");
    // The last of 256: the table scrolls.
    state.act(Action::Last);
    let shown = frame(&mut state, 60, 15).join("\n");
    assert!(
        shown.contains("255-256 of 256") && shown.contains("\n   255 "),
        "{shown}"
    );
}

#[test]
fn a_paused_display_stands_still_and_says_what_came() {
    let (mut machine, mut state) = watched();
    let before = frame(&mut state, 80, 24);
    state.act(Action::Pause);
    state.snapshot(machine.interval(&[(0, 500_000, 0), (0, 11_000, 0)]));
    state.snapshot(machine.interval(&[(1, 11_000, 0)]));
    let paused = frame(&mut state, 80, 24);
    assert_eq!(before[3..], paused[3..]);
    assert!(
        paused[2].starts_with("PAUSED: 3 gaps came in 2 intervals since, longest 500 us"),
        "{}",
        paused[2]
    );
    state.act(Action::Pause);
    let goes_on = text(&mut state);
    assert!(
        goes_on.contains("7 gaps") && !goes_on.contains("PAUSED"),
        "{goes_on}"
    );
}

#[test]
fn before_the_first_snapshot_and_before_the_first_gap() {
    let mut state = state();
    assert!(
        text(&mut state).contains("the first numbers come"),
        "{}",
        text(&mut state)
    );
    state.snapshot(Machine::new(1).interval(&[]));
    let shown = text(&mut state);
    for told in [
        "0 gaps, 0/s, longest -",
        "none yet that reached 10.0 us",
        "1 CPU by max",
    ] {
        assert!(shown.contains(told), "no \"{told}\" in\n{shown}");
    }
}

#[test]
fn too_small_a_terminal_is_told_what_it_lacks() {
    let (_, mut state) = watched();
    let shown = frame(&mut state, 59, 15).join(" ");
    let shown: Vec<&str> = shown.split_whitespace().collect();
    let shown = shown.join(" ");
    assert!(
        shown.contains("60 columns and 15 lines, this is 59x15"),
        "{shown}"
    );
    frame(&mut state, 1, 1);
}

#[test]
fn no_size_is_drawn_beyond() {
    let (mut machine, mut state) = watched();
    state.act(Action::Reset);
    state.snapshot(machine.interval(&[(0, u64::MAX / 4, 7)]));
    for popup in [None, Some(Popup::Help), Some(Popup::Messages)] {
        state.popup = popup;
        for width in [60, 79, 80, 99, 100, 119, 250] {
            for height in [15, 16, 20, 24, 33, 60] {
                frame(&mut state, width, height);
            }
        }
    }
}

#[test]
fn after_a_reset_only_what_came_since_is_counted() {
    let (mut machine, mut state) = watched();
    state.act(Action::Reset);
    let all = |state: &State| state.data.total(None);
    assert_eq!((all(&state).count, all(&state).max_ns), (0, None));
    assert_eq!(all(&state).exposure_ns, 0);

    // Shorter than the longest before: that must not show through.
    state.snapshot(machine.interval(&[(1, 40_000, 0), (1, 30_000, 0)]));
    state.snapshot(machine.interval(&[(0, 13_000, SMI)]));
    let total = all(&state);
    assert_eq!((total.count, total.sum_ns), (3, 83_000));
    assert_eq!(total.max_ns, Some(40_000));
    assert_eq!(total.histogram.total(), 3);
    assert_eq!(total.exposure_ns, 4 * 5_000_000);
    let causes: Vec<_> = state.data.causes(None);
    assert_eq!(causes, [(Cause::of_bits(0), 2), (Cause::of_bits(SMI), 1)]);
    let smis: Vec<_> = state
        .data
        .all()
        .iter()
        .map(|cpu| state.data.smis(cpu))
        .collect();
    assert_eq!(smis, [Some(1), Some(0)]);
    let shown = text(&mut state);
    assert!(shown.contains("2 s since reset"), "{shown}");

    // Longer than all before.
    state.snapshot(machine.interval(&[(1, 900_000, 0)]));
    assert_eq!(all(&state).max_ns, Some(900_000));
}

#[test]
fn the_longest_since_a_reset_is_known_even_where_an_interval_is_missing() {
    let (mut machine, mut state) = watched();
    state.act(Action::Reset);
    let _missing = machine.interval(&[(0, 700_000, 0)]);
    state.snapshot(machine.interval(&[(0, 11_000, 0)]));
    assert_eq!(state.data.total(None).max_ns, Some(700_000));
    assert!(text(&mut state).contains("1 interval missing"));
}

#[test]
fn rows_are_sorted_by_any_column_either_way() {
    let (_, state) = watched();
    let order = |column, descending| -> Vec<u32> {
        rows(&state.data, column, descending)
            .iter()
            .map(|row| row.cpu)
            .collect()
    };
    assert_eq!(order(Column::Cpu, false), [0, 1]);
    assert_eq!(order(Column::Cpu, true), [1, 0]);
    assert_eq!(order(Column::Max, true), [1, 0]);
    assert_eq!(order(Column::Max, false), [0, 1]);
    // CPU 0 had none in the last interval: what is not there comes last either way.
    assert_eq!(order(Column::IntervalMax, true), [1, 0]);
    assert_eq!(order(Column::IntervalMax, false), [1, 0]);
    // Alike.
    assert_eq!(order(Column::Gaps, true), [0, 1]);
}

#[test]
fn the_sort_moves_among_the_columns_that_are_shown() {
    let (_, mut state) = watched();
    frame(&mut state, 60, 15);
    assert!(!state.columns.contains(&Column::Last));
    let mut seen = Vec::new();
    for _ in 0..state.columns.len() {
        seen.push(state.sort);
        state.act(Action::Sort(1));
    }
    assert_eq!(state.sort, Column::Max, "round to where it began");
    assert!(seen.iter().all(|column| state.columns.contains(column)));
    state.act(Action::Sort(-1));
    assert_eq!(state.sort, Column::P99);
}

#[test]
fn the_cursor_stays_on_its_cpu_when_the_order_changes() {
    let (mut machine, mut state) = watched();
    state.act(Action::Cursor(1));
    state.act(Action::OneCpu);
    assert_eq!(state.only(), Some(0));
    state.snapshot(machine.interval(&[(0, 900_000, 0)]));
    assert_eq!(state.only(), Some(0));
    let shown = text(&mut state);
    assert!(shown.contains("gaps in each interval, CPU 0"), "{shown}");
    state.act(Action::AllCpus);
    assert_eq!(state.only(), None);
}

#[test]
fn a_change_of_the_threshold_is_marked_until_a_reset() {
    let (mut machine, mut state) = watched();
    machine.snapshot.detector.threshold_ns = 20_000;
    state.snapshot(machine.interval(&[]));
    let shown = text(&mut state);
    assert!(
        shown.contains("threshold 20.0 us (10.0 us until 16:00:04: mixed)"),
        "{shown}"
    );
    assert!(frame(&mut state, 80, 24)[12].ends_with('T'), "{shown}");
    state.act(Action::Reset);
    let shown = text(&mut state);
    assert!(shown.contains("threshold 20.0 us, "), "{shown}");
}

#[test]
fn another_run_in_the_recording_begins_anew() {
    let (_, mut state) = watched();
    state.act(Action::Reset);
    state.snapshot(Machine::new(2).interval(&[(0, 11_000, 0)]));
    assert_eq!(state.data.total(None).count, 1);
    let shown = text(&mut state);
    assert!(shown.contains("another run of smilat begins"), "{shown}");
}

#[test]
fn messages_are_shown_until_read_and_bounded() {
    let (_, mut state) = watched();
    for n in 0..150 {
        state.message(format!("message {n}"));
    }
    assert!(text(&mut state).contains("! message 149 (m: all 100)"));
    state.act(Action::Popup(Popup::Messages));
    assert!(text(&mut state).contains("message 149"));
    state.act(Action::First);
    let shown = text(&mut state);
    assert!(shown.contains("(50 older ones are not kept)"), "{shown}");
    state.act(Action::Close);
    assert!(!text(&mut state).contains("message 149"));
}

#[test]
fn a_recording_says_where_it_is() {
    let (_, mut state) = watched();
    let mut replay = Replay {
        position: 3,
        total: None,
        speed: 5,
        paused: false,
        torn: 1,
    };
    state.set_replay(replay.clone());
    assert!(text(&mut state).contains("snapshot 3, playing 5x, 1 torn line left out"));
    replay.total = Some(3);
    state.set_replay(replay);
    assert!(text(&mut state).contains("snapshot 3 of 3, at the end"));
}

#[test]
fn cpus_that_a_reload_left_out_count_in_totals_only() {
    let mut machine = Machine::new(2);
    let mut state = state();
    state.snapshot(machine.interval(&[(0, 12_000, 0), (1, 300_000, SMI)]));
    machine.snapshot.detector.cpus = "0".to_owned();
    for _ in 0..9 {
        let exposure_ns = machine.snapshot.cpus[1].exposure_ns;
        machine.snapshot.cpus[1].exposure_ns = exposure_ns - 5_000_000;
        state.snapshot(machine.interval(&[]));
    }
    let cpus: Vec<u32> = state.rows().iter().map(|row| row.cpu).collect();
    assert_eq!(cpus, [0]);
    let shown = frame(&mut state, 140, 24).join("\n");
    for told in [
        "1 CPU by max",
        "2 gaps, ",
        "1 CPU no longer watched",
        // 10 times 5 ms of 10 s, and of the other CPU 5 ms more.
        "exposure 55.0 ms (0.50 %)",
    ] {
        assert!(shown.contains(told), "no \"{told}\" in\n{shown}");
    }
}

#[test]
fn going_back_keeps_what_was_known_and_tells_nothing_twice() {
    let (mut machine, mut state) = watched();
    machine.snapshot.detector.threshold_ns = 20_000;
    state.snapshot(machine.interval(&[]));
    let _missing = machine.interval(&[]);
    let last = machine.interval(&[]);
    state.snapshot(last.clone());
    // A reset hides the change only as long as it is in force.
    state.act(Action::Reset);
    let known = state.carried();
    state.rewind(Some(known));
    state.snapshot(last);
    let shown = frame(&mut state, 140, 24).join("\n");
    for told in ["(10.0 us until 16:00:04: mixed)", "1 interval missing"] {
        assert!(shown.contains(told), "no \"{told}\" in\n{shown}");
    }

    let mut other = Machine::new(2);
    let first = other.interval(&[]);
    for _ in 0..2 {
        state.snapshot(first.clone());
        state.rewind(None);
        state.snapshot(machine.interval(&[]));
    }
    assert_eq!(state.messages.len(), 1, "{:?}", state.messages);
}

#[test]
fn popups_go_by_pages_end_at_their_end_and_messages_begin_there() {
    let (_, mut state) = watched();
    for n in 0..60 {
        state.message(format!("message {n}."));
    }
    state.act(Action::Popup(Popup::Messages));
    let shown = text(&mut state);
    assert!(shown.contains("message 59."), "{shown}");
    state.act(Action::Page(-1));
    let page = text(&mut state);
    assert!(
        !page.contains("message 59.") && page.contains("message 30."),
        "{page}"
    );
    state.act(Action::First);
    assert!(text(&mut state).contains("message 0."));
    // However often: one step back is one line.
    for _ in 0..100 {
        state.act(Action::Page(1));
        assert!(text(&mut state).contains("message"));
    }
    state.act(Action::Cursor(-1));
    let shown = text(&mut state);
    assert!(
        shown.contains("message 58.") && !shown.contains("message 59."),
        "{shown}"
    );
}
