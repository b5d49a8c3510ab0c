//! A smilat under way whose lines of NDJSON are taken as they come.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::killed::Killed;

/// How long a line, or its end, may take: the kernel's verifier is slow on an emulated CPU.
const PATIENCE: Duration = Duration::from_mins(1);

/// See the module. Dropped, it ends: what it changed is put back by the next start.
pub(super) struct Telling<T> {
    child: Killed,
    lines: Receiver<T>,
    /// Reads standard error to its end.
    words: JoinHandle<String>,
}

/// What it told at its end.
pub(super) struct Ended<T> {
    pub(super) status: ExitStatus,
    /// Those that were not taken before, the first one first.
    pub(super) lines: Vec<T>,
    /// Standard error.
    pub(super) words: String,
}

impl<T: Send + 'static> Telling<T> {
    /// Starts `command`, each line of whose output is made a `T` by `parse`.
    #[track_caller]
    pub(super) fn start(mut command: Command, parse: fn(&str) -> T) -> Self {
        let mut child = Killed::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let output = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(parse(&line.expect("UTF-8"))).is_err() {
                    break;
                }
            }
        });
        let mut errors = child.stderr.take().expect("piped");
        let words = thread::spawn(move || {
            let mut words = String::new();
            errors.read_to_string(&mut words).expect("UTF-8");
            words
        });
        Self {
            child,
            lines,
            words,
        }
    }

    /// Its process number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal`.
    #[track_caller]
    pub(super) fn signal(&self, signal: libc::c_int) {
        self.child.signal(signal);
    }

    /// The next line.
    ///
    /// # Errors
    /// When none comes in time, or it has ended.
    pub(super) fn next(&self) -> Result<T, RecvTimeoutError> {
        self.lines.recv_timeout(PATIENCE)
    }

    /// A line that is there already.
    pub(super) fn waiting(&self) -> Option<T> {
        self.lines.try_recv().ok()
    }

    /// Waits until it has ended for whatever reason.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub(super) fn ended(mut self) -> Ended<T> {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "smilat does not end");
            thread::sleep(Duration::from_millis(10));
        };
        Ended {
            status,
            lines: self.lines.iter().collect(),
            words: self.words.join().expect("the reader of standard error"),
        }
    }
}
