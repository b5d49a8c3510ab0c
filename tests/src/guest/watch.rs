//! Runs smilat while a test does something to the machine.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use smi_user::model::Snapshot;

use crate::smilat;

/// How long the first snapshot may take: the kernel's verifier is slow on an emulated CPU.
const PATIENCE: Duration = Duration::from_mins(1);

/// A `smilat run` under way. Dropped, it ends.
pub(super) struct Watch {
    child: Child,
    snapshots: Receiver<Snapshot>,
    first: Option<Snapshot>,
    /// Reads standard error to its end.
    words: Option<JoinHandle<String>>,
}

/// What smilat told, from its start to its end.
pub(super) struct Told {
    pub(super) status: ExitStatus,
    /// The first one first.
    pub(super) snapshots: Vec<Snapshot>,
    /// Standard error.
    pub(super) words: String,
}

impl Watch {
    /// Starts it with a snapshot each second, and waits for the first: from then on, what happens is watched.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub(super) fn start(args: &[&str]) -> Self {
        Self::start_by(smilat(), args)
    }

    /// The same by `command`, which is smilat.
    ///
    /// # Panics
    /// As [`Watch::start`].
    #[track_caller]
    pub(super) fn start_by(mut command: Command, args: &[&str]) -> Self {
        let mut child = command
            .args(["run", "--format=ndjson", "--interval=1s"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("smilat starts");
        let output = child.stdout.take().expect("piped");
        let (sender, snapshots) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.expect("UTF-8");
                let snapshot = serde_json::from_str(&line).expect("a snapshot");
                if sender.send(snapshot).is_err() {
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
        let mut watch = Self {
            child,
            snapshots,
            first: None,
            words: Some(words),
        };
        watch.first = watch.snapshots.recv_timeout(PATIENCE).ok();
        assert!(
            watch.first.is_some(),
            "no first snapshot; {}",
            watch.end().words
        );
        watch
    }

    /// Its process number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal`.
    #[track_caller]
    pub(super) fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.id()).expect("a pid");
        // SAFETY: the child was not waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends it as Ctrl-C does; all snapshots, the first one first.
    ///
    /// # Panics
    /// When it fails, or a snapshot is missing.
    #[track_caller]
    pub(super) fn finish(self) -> Vec<Snapshot> {
        let told = self.end();
        assert!(told.status.success(), "{}: {}", told.status, told.words);
        told.snapshots
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Panics
    /// When it does not end, or a snapshot is missing.
    #[track_caller]
    pub(super) fn end(self) -> Told {
        self.signal(libc::SIGINT);
        self.ended()
    }

    /// Waits until it has ended for whatever reason.
    ///
    /// # Panics
    /// When a snapshot is missing.
    #[track_caller]
    pub(super) fn ended(mut self) -> Told {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "smilat does not end");
            thread::sleep(Duration::from_millis(10));
        };
        let words = self.words.take().expect("not joined before");
        let told = Told {
            status,
            snapshots: self
                .first
                .take()
                .into_iter()
                .chain(self.snapshots.iter())
                .collect(),
            words: words.join().expect("the reader of standard error"),
        };
        let last = told.snapshots.last();
        assert!(last.is_none_or(|last| last.last), "no last one");
        for (expected, snapshot) in (1..).zip(&told.snapshots) {
            assert_eq!(snapshot.interval, expected, "a snapshot is missing");
        }
        told
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing more to do than to reap it, and to let the next start
        // put back what it changed.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
