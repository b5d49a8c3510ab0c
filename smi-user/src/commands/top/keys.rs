//! What keys mean.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::report::tui::{Action, Direction, Popup, State};

/// What the thread that collects, or reads the recording, is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Another threshold.
    Threshold(Direction),
    /// Play, or stand still.
    Play,
    /// So many snapshots forward; back when negative. Then stand still.
    Step(i64),
    /// To the beginning.
    Begin,
    /// To the end.
    End,
    /// Faster, or slower.
    Speed(Direction),
}

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Nothing,
    Redraw,
    Quit,
    Suspend,
    View(Action),
    Collect(Command),
}

/// Snapshots that the keys for far steps go.
const FAR: i64 = 60;

/// What `event` means while the view is as `state` has it.
pub(super) fn meaning(event: &Event, state: &State) -> Meaning {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            key_meaning(*key, state.is_replay(), state.has_popup())
        }
        Event::Resize(..) => Meaning::Redraw,
        _ => Meaning::Nothing,
    }
}

fn key_meaning(key: KeyEvent, replay: bool, popup: bool) -> Meaning {
    use Meaning::{Collect, Nothing, Quit, Redraw, Suspend, View};
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Quit,
            KeyCode::Char('z') => Suspend,
            KeyCode::Char('l') => Redraw,
            _ => Nothing,
        };
    }
    match key.code {
        KeyCode::Esc if popup => View(Action::Close),
        KeyCode::Char('q') | KeyCode::Esc => Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => View(Action::Popup(Popup::Help)),
        KeyCode::Char('m') => View(Action::Popup(Popup::Messages)),
        KeyCode::Char('p' | ' ') if replay => Collect(Command::Play),
        KeyCode::Char('p' | ' ') => View(Action::Pause),
        KeyCode::Char('r') => View(Action::Reset),
        KeyCode::Char('+' | '=') if replay => Collect(Command::Speed(Direction::Up)),
        KeyCode::Char('-') if replay => Collect(Command::Speed(Direction::Down)),
        KeyCode::Char('+' | '=') => Collect(Command::Threshold(Direction::Up)),
        KeyCode::Char('-') => Collect(Command::Threshold(Direction::Down)),
        KeyCode::Left if replay => Collect(Command::Step(-1)),
        KeyCode::Right if replay => Collect(Command::Step(1)),
        KeyCode::Char('[') if replay => Collect(Command::Step(-FAR)),
        KeyCode::Char(']') if replay => Collect(Command::Step(FAR)),
        KeyCode::Home if replay => Collect(Command::Begin),
        KeyCode::End if replay => Collect(Command::End),
        KeyCode::Left | KeyCode::Char('<' | ',' | 'S') => View(Action::Sort(-1)),
        KeyCode::Right | KeyCode::Char('>' | '.' | 's') => View(Action::Sort(1)),
        KeyCode::Char('i') => View(Action::Invert),
        KeyCode::Up | KeyCode::Char('k') => View(Action::Cursor(-1)),
        KeyCode::Down | KeyCode::Char('j') => View(Action::Cursor(1)),
        KeyCode::PageUp => View(Action::Page(-1)),
        KeyCode::PageDown => View(Action::Page(1)),
        KeyCode::Home | KeyCode::Char('g') => View(Action::First),
        KeyCode::End | KeyCode::Char('G') => View(Action::Last),
        KeyCode::Enter | KeyCode::Char('c') => View(Action::OneCpu),
        KeyCode::Char('a') => View(Action::AllCpus),
        KeyCode::Char('t') => View(Action::Trend),
        _ => Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: KeyCode, replay: bool, popup: bool) -> Meaning {
        key_meaning(KeyEvent::new(code, KeyModifiers::NONE), replay, popup)
    }

    #[test]
    fn esc_closes_what_covers_the_rest_before_it_quits() {
        assert_eq!(of(KeyCode::Esc, false, true), Meaning::View(Action::Close));
        assert_eq!(of(KeyCode::Esc, false, false), Meaning::Quit);
    }

    #[test]
    fn keys_that_do_another_thing_in_a_recording() {
        for code in [
            KeyCode::Char(' '),
            KeyCode::Char('+'),
            KeyCode::Left,
            KeyCode::End,
        ] {
            assert_ne!(of(code, true, false), of(code, false, false), "{code:?}");
        }
    }

    #[test]
    fn keys_with_control_do_not_do_what_they_do_without() {
        let with_control = |c| {
            key_meaning(
                KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL),
                false,
                false,
            )
        };
        assert_eq!(with_control('c'), Meaning::Quit);
        assert_eq!(with_control('z'), Meaning::Suspend);
        assert_eq!(with_control('r'), Meaning::Nothing);
    }
}
