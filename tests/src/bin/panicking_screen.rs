//! The screen of `smilat top`, in a program that panics while it is shown: in the thread that draws, or in the one that
//! collects, there when a key is pressed or, for a terminal that takes nothing, when a file comes to be. Nothing in smilat
//! panics when asked to, and an option that has it do so would have to be shipped.

use std::{
    env,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use ratatui::{Frame, crossterm::event::Event};
use smi_user::commands::top::screen::{Content, Flow, Screen};

/// Panics when it is drawn for the second time, if it is to; the first has been seen then.
struct Drawing {
    panics: bool,
    key: Arc<AtomicBool>,
}

impl Content for Drawing {
    fn changed(&mut self) -> bool {
        true
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        assert!(
            !self.panics || !self.key.load(Ordering::Relaxed),
            "made to panic while drawing"
        );
        frame.render_widget("a screen that will panic", frame.area());
    }

    fn event(&mut self, event: &Event) -> Flow {
        if matches!(event, Event::Key(_)) {
            self.key.store(true, Ordering::Relaxed);
        }
        Flow::Go
    }
}

fn main() -> ExitCode {
    let panics = env::args().nth(1).is_some_and(|thread| thread == "drawing");
    let key = Arc::new(AtomicBool::new(false));
    let drawing = Drawing {
        panics,
        key: Arc::clone(&key),
    };
    let mut screen = Screen::open(drawing).expect("a terminal");
    if !panics {
        let file = env::args().nth(2);
        let is_there = || file.as_ref().is_some_and(|file| Path::new(file).exists());
        while !key.load(Ordering::Relaxed) && !is_there() {
            thread::yield_now();
        }
        panic!("made to panic while collecting");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    match runtime.block_on(screen.ended()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("panicking_screen: {error:#}");
            ExitCode::from(2)
        }
    }
}
