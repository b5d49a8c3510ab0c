//! `smilat top`: the live view.
//!
//! The main thread collects, or reads the recording, and never touches the terminal; a thread of its own
//! ([`screen`]) reads keys and draws. They meet in a [`State`] behind a lock that is held while a frame is made in
//! memory, never while it is written: a terminal that takes nothing holds up the picture, not the counting.

mod keys;
mod live;
pub(super) mod notes;
mod player;
mod replay;
pub mod screen;
pub(super) mod signals;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use jiff::tz::TimeZone;
use ratatui::{Frame, crossterm::event::Event};
use tokio::sync::mpsc;

use crate::{
    cli::TopArgs,
    detector,
    report::tui::{self, State, Subject, Theme},
};
use keys::Command;
use screen::{Content, Flow};

/// Runs the command.
///
/// # Errors
/// When it could not run, or not to the end.
pub fn run(args: &TopArgs) -> Result<ExitCode> {
    if args.file.is_none() && args.detection.detector == detector::Choice::All {
        print!("{}", detector::list());
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        io::stdin().is_terminal() && io::stdout().is_terminal(),
        "top needs a terminal on standard input and output; use smilat run to write reports to a file or a pipe"
    );
    ensure!(
        std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        "this terminal (TERM=dumb) has no cursor to move; use smilat run"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let notes = notes::start();
    let ended = match &args.file {
        Some(file) => runtime.block_on(replay::run(file, &notes)),
        None => runtime.block_on(live::run(args, &notes)),
    };
    // The terminal is the user's again: what was shown in passing is told for good.
    notes.tell_all(args.quiet);
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// What this terminal can show, by the environment.
pub(super) fn theme() -> Theme {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let unicode = locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    Theme {
        colour: set("NO_COLOR").is_none(),
        unicode,
    }
}

/// The state that both threads share.
#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn new(subject: Subject) -> Self {
        let state = State::new(subject, theme(), TimeZone::system());
        Self(Arc::new(Mutex::new(state)))
    }

    /// A panic while it was locked ends the program anyway; until then what there is will do.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state as the screen sees it.
struct View {
    shared: Shared,
    notes: notes::Notes,
    commands: mpsc::UnboundedSender<Command>,
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
        tui::draw(frame, &mut state);
    }

    fn event(&mut self, event: &Event) -> Flow {
        let mut state = self.shared.lock();
        match keys::meaning(event, &state) {
            keys::Meaning::Nothing => Flow::Go,
            keys::Meaning::Redraw => {
                self.drawn = None;
                Flow::Go
            }
            keys::Meaning::Quit => Flow::Quit,
            keys::Meaning::Suspend => Flow::Suspend,
            keys::Meaning::View(action) => {
                state.act(action);
                Flow::Go
            }
            keys::Meaning::Collect(command) => {
                // Nobody listens any more only when all is about to end.
                let _ended = self.commands.send(command);
                Flow::Go
            }
        }
    }
}
