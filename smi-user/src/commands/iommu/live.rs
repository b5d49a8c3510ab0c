//! `smilat iommu live`: the view of what is mapped and unmapped.
//!
//! As in [`top`](super::super::top), the main thread collects and never touches the terminal; a thread of its own reads keys and
//! draws.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::tz::TimeZone;
use ratatui::{
    Frame,
    crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use super::super::{
    failures::together,
    times::every,
    top::{
        notes::{self, Notes},
        screen::{Content, Flow, Screen},
        signals::{Ends, JobControl},
        theme,
    },
    watch::{FETCH, explain},
};
use crate::{
    cli::LiveArgs,
    iommu::Collecting,
    model::iommu::{IommuEvent, IommuSnapshot},
    report::iommu::{
        live::{Action, State, draw},
        summary,
    },
};

/// What the view is fed from.
pub(super) trait Source {
    /// What was found since the last call.
    ///
    /// # Errors
    /// When it cannot be taken.
    fn fetch(&mut self) -> Result<Vec<IommuEvent>>;

    /// All that was counted so far.
    ///
    /// # Errors
    /// When it cannot be read.
    fn snapshot(&mut self, last: bool) -> Result<IommuSnapshot>;
}

impl Source for Collecting {
    fn fetch(&mut self) -> Result<Vec<IommuEvent>> {
        let events = Self::fetch(self)?;
        for warning in self.warnings() {
            log::warn!("{warning}");
        }
        Ok(events)
    }

    fn snapshot(&mut self, last: bool) -> Result<IommuSnapshot> {
        Self::snapshot(self, last)
    }
}

/// Runs it.
///
/// # Errors
/// When it could not run.
pub(super) fn run(args: &LiveArgs) -> Result<ExitCode> {
    // The view shows the newest, however many there are.
    let last = show(args.interval, || {
        Collecting::start(&args.look, u64::MAX).map_err(explain)
    })?;
    match io::stdout().write_all(summary(&last).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Shows what the source tells, which `start` makes, until the user has enough; returns the last snapshot.
///
/// What is logged from now on is shown in the view, and told on standard error when it is gone: nothing else may have
/// set up the log before.
///
/// # Errors
/// When there is no terminal, or the source fails.
pub(super) fn show<S: Source>(
    interval: Duration,
    start: impl FnOnce() -> Result<S>,
) -> Result<IommuSnapshot> {
    ensure!(
        io::stdin().is_terminal() && io::stdout().is_terminal(),
        "iommu live needs a terminal on standard input and output; use smilat iommu to write reports to a file or a pipe"
    );
    ensure!(
        std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        "this terminal (TERM=dumb) has no cursor to move; use smilat iommu"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let notes = notes::start();
    let shown = runtime.block_on(watch(interval, start, &notes));
    // The terminal is the user's again: what was shown in passing is told for good.
    notes.tell_all(false);
    shown
}

async fn watch<S: Source>(
    interval: Duration,
    start: impl FnOnce() -> Result<S>,
    notes: &Notes,
) -> Result<IommuSnapshot> {
    let mut signals = Ends::new()?;
    let mut jobs = JobControl::new()?;
    let mut source = start()?;
    let shared = Shared(Arc::new(Mutex::new(State::new(
        theme(),
        TimeZone::system(),
    ))));
    let mut screen = Screen::open(View {
        shared: shared.clone(),
        notes: notes.clone(),
        drawn: None,
    })?;
    let mut intervals = every(interval);
    let mut fetches = every(FETCH.min(interval));
    let failure = loop {
        tokio::select! {
            biased;
            () = signals.next() => break None,
            ended = screen.ended() => break ended.err(),
            pass_on = jobs.next() => pass_on(&screen),
            _ = intervals.tick() => match source.snapshot(false) {
                Ok(snapshot) => shared.lock().snapshot(snapshot),
                Err(error) => break Some(error),
            },
            _ = fetches.tick() => match source.fetch() {
                Ok(events) => shared.lock().events(events),
                Err(error) => break Some(error),
            },
        }
    };
    screen.close().await;
    let last = source.snapshot(true);
    match (failure, last) {
        (None, last) => last,
        (Some(failure), Ok(_)) => Err(failure),
        (Some(failure), Err(error)) => {
            let failures = together([Some(failure), Some(error)]);
            failures.map_or_else(|| bail!("the watch failed"), Err)
        }
    }
}

/// The state that both threads share.
#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    /// A panic while it was locked ends the program anyway; until then what there is will do.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state as the screen sees it.
struct View {
    shared: Shared,
    notes: Notes,
    drawn: Option<u64>,
}

impl Content for View {
    fn changed(&mut self) -> bool {
        let mut state = self.shared.lock();
        for message in self.notes.take_new() {
            state.message(message);
        }
        self.drawn != Some(state.changes())
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let mut state = self.shared.lock();
        self.drawn = Some(state.changes());
        draw(frame, &mut state);
    }

    fn event(&mut self, event: &Event) -> Flow {
        match meaning(event) {
            Meaning::Nothing => Flow::Go,
            Meaning::Redraw => {
                self.drawn = None;
                Flow::Go
            }
            Meaning::Quit => Flow::Quit,
            Meaning::Suspend => Flow::Suspend,
            Meaning::View(action) => {
                self.shared.lock().act(action);
                Flow::Go
            }
        }
    }
}

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    Redraw,
    Quit,
    Suspend,
    View(Action),
}

fn meaning(event: &Event) -> Meaning {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key_meaning(*key),
        Event::Resize(..) => Meaning::Redraw,
        _ => Meaning::Nothing,
    }
}

fn key_meaning(key: KeyEvent) -> Meaning {
    use Meaning::{Nothing, Quit, Redraw, Suspend, View};
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Quit,
            KeyCode::Char('z') => Suspend,
            KeyCode::Char('l') => Redraw,
            _ => Nothing,
        };
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Quit,
        KeyCode::Char('p' | ' ') => View(Action::Pause),
        KeyCode::Char('r') => View(Action::Reset),
        KeyCode::Left | KeyCode::Char('<' | ',' | 'S') => View(Action::Sort(-1)),
        KeyCode::Right | KeyCode::Char('>' | '.' | 's') => View(Action::Sort(1)),
        KeyCode::Up | KeyCode::Char('k') => View(Action::Scroll(-1)),
        KeyCode::Down | KeyCode::Char('j') => View(Action::Scroll(1)),
        KeyCode::PageUp => View(Action::Page(-1)),
        KeyCode::PageDown => View(Action::Page(1)),
        KeyCode::Home | KeyCode::Char('g') => View(Action::First),
        KeyCode::End | KeyCode::Char('G') => View(Action::Last),
        _ => Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_the_help_says() {
        let of = |code| key_meaning(KeyEvent::new(code, KeyModifiers::NONE));
        for (code, asked) in [
            (KeyCode::Char('q'), Meaning::Quit),
            (KeyCode::Char(' '), Meaning::View(Action::Pause)),
            (KeyCode::Char('r'), Meaning::View(Action::Reset)),
            (KeyCode::Char('s'), Meaning::View(Action::Sort(1))),
            (KeyCode::Up, Meaning::View(Action::Scroll(-1))),
            (KeyCode::Down, Meaning::View(Action::Scroll(1))),
            (KeyCode::Char('x'), Meaning::Nothing),
        ] {
            assert_eq!(of(code), asked, "{code:?}");
        }
        let with_control = |c| key_meaning(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        assert_eq!(with_control('c'), Meaning::Quit);
        assert_eq!(with_control('z'), Meaning::Suspend);
        assert_eq!(with_control('r'), Meaning::Nothing);
    }
}
