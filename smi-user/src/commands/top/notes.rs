//! What is logged while the screen is in use: kept, shown there, and told on standard error when it is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{Level, LevelFilter, Metadata, Record};

/// Messages kept; of more, the newest are counted only.
const KEPT: usize = 1_000;

#[derive(Debug, Default)]
struct Kept {
    messages: Vec<(Level, String)>,
    dropped: u64,
    shown: usize,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(in crate::commands) struct Notes(Arc<Mutex<Kept>>);

/// Keeps all that is logged from now on.
pub(in crate::commands) fn start() -> Notes {
    let notes = Notes::default();
    if log::set_boxed_logger(Box::new(notes.clone())).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
    notes
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages that were not taken before.
    pub(in crate::commands) fn take_new(&self) -> Vec<String> {
        let mut kept = self.lock();
        let new = kept.messages[kept.shown..]
            .iter()
            .map(|(_, message)| message.clone())
            .collect();
        kept.shown = kept.messages.len();
        new
    }

    /// Prints all messages on standard error, or only errors when `quiet`.
    pub(in crate::commands) fn tell_all(&self, quiet: bool) {
        let kept = self.lock();
        let least = if quiet { Level::Error } else { Level::Warn };
        for (_, message) in kept.messages.iter().filter(|(level, _)| *level <= least) {
            eprintln!("smilat: {message}");
        }
        if kept.dropped > 0 {
            eprintln!("smilat: {} further messages were not kept", kept.dropped);
        }
    }
}

impl log::Log for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut kept = self.lock();
        if kept.messages.len() == KEPT {
            kept.dropped += 1;
        } else {
            kept.messages
                .push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}
