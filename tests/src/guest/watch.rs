//! Runs smilat while a test does something to the machine.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
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
}

impl Watch {
    /// Starts it with a snapshot each second, and waits for the first: from then on, what happens is watched.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub(super) fn start(args: &[&str]) -> Self {
        let mut child = smilat()
            .args(["run", "--format=ndjson", "--interval=1s", "--quiet"])
            .args(args)
            .stdout(Stdio::piped())
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
        let mut watch = Self {
            child,
            snapshots,
            first: None,
        };
        let first = watch.snapshots.recv_timeout(PATIENCE);
        watch.first = Some(first.expect("a first snapshot"));
        watch
    }

    /// Ends it as Ctrl-C does; all snapshots, the first one first.
    ///
    /// # Panics
    /// When it fails, or a snapshot is missing.
    #[track_caller]
    pub(super) fn finish(mut self) -> Vec<Snapshot> {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid");
        // SAFETY: the child was not waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "smilat: {status}");
        let all: Vec<Snapshot> = self
            .first
            .take()
            .into_iter()
            .chain(self.snapshots.iter())
            .collect();
        assert!(all.last().is_some_and(|last| last.last), "no last one");
        for (expected, snapshot) in (1..).zip(&all) {
            assert_eq!(snapshot.interval, expected, "a snapshot is missing");
        }
        all
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing more to do than to reap it.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
