//! `smilat run --record` at work, and recordings as read, for tests.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use smi_user::{
    model::Snapshot,
    recording::{Line, Reader, Remark},
};

use crate::{killed::Killed, output, smilat, stderr, wait_until};

/// Watches one CPU half of the time.
pub const OFTEN: [&str; 6] = [
    "--cpus=0",
    "--mode=per-cpu",
    "--width=5ms",
    "--window=10ms",
    "--threshold=1us",
    "--max-gap-records=100000",
];

/// For tests of recordings that must be whole: a busy disk may take seconds.
pub const UNHURRIED: &str = "--interval=100ms";

/// A recording as read.
#[derive(Default)]
pub struct Recorded {
    /// When its run began (seconds), and the snapshot.
    pub snapshots: Vec<(String, Snapshot)>,
    /// How many files or runs begin.
    pub headers: usize,
    /// Lines that are not whole.
    pub torn: usize,
    /// What the reader has to say.
    pub remarks: Vec<Remark>,
}

impl Recorded {
    /// Reads the recording at `path`.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let mut reader = Reader::open(path).expect("it opens");
        let mut recorded = Self::default();
        let mut run = String::new();
        while let Some(line) = reader.next_line().expect("a line") {
            match line {
                Line::Header(header) => {
                    run = header.started.to_string();
                    recorded.headers += 1;
                }
                Line::Snapshot(snapshot) => recorded.snapshots.push((run.clone(), *snapshot)),
                Line::Torn { .. } => recorded.torn += 1,
            }
        }
        recorded.remarks = reader.remarks();
        recorded
    }

    /// The run and number of each interval.
    pub fn intervals(&self) -> Vec<(String, u64)> {
        let numbers = |(run, snapshot): &(String, Snapshot)| (run.clone(), snapshot.interval);
        self.snapshots.iter().map(numbers).collect()
    }
}

/// The files of the recording at `path`.
///
/// # Panics
/// When their folder cannot be listed.
pub fn files(path: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(path.parent().expect("a folder")).expect("it is listed");
    let name = path.to_string_lossy().into_owned();
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|file| file.to_string_lossy().starts_with(&name))
        .collect()
}

/// How many lines jq reads in a file that zcat or cat shows; all must be JSON.
///
/// # Panics
/// When one is not.
#[track_caller]
pub fn lines_by_jq(file: &Path) -> usize {
    let cat = if file.extension().is_some_and(|ending| ending == "gz") {
        "zcat"
    } else {
        "cat"
    };
    let shown = output(
        Command::new("sh")
            .args([
                "-c",
                "set -e; \"$1\" \"$2\" | jq -c 'has(\"cpus\")'",
                "sh",
                cat,
            ])
            .arg(file),
    );
    assert!(
        shown.status.success(),
        "{}: {}",
        file.display(),
        stderr(&shown)
    );
    String::from_utf8_lossy(&shown.stdout).lines().count()
}

/// smilat at work, with its reports and its messages in files.
pub struct Run {
    /// Its process.
    pub child: Killed,
    reports: PathBuf,
    messages: PathBuf,
}

impl Run {
    /// Starts it with `args`, to record to `record`; its reports and messages go to `folder`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Path, args: &[&str], record: &Path) -> Self {
        let (reports, messages) = (folder.join("reports"), folder.join("messages"));
        let child = Killed::start(
            smilat()
                .args(["run", "--format=ndjson"])
                .args(OFTEN)
                .args(args)
                .arg("--record")
                .arg(record)
                .stdout(File::create(&reports).expect("a file"))
                .stderr(File::create(&messages).expect("a file")),
        );
        Self {
            child,
            reports,
            messages,
        }
    }

    /// Its messages so far.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.messages).expect("messages")
    }

    /// Waits until it says `told`.
    ///
    /// # Panics
    /// When it does not, or ends.
    #[track_caller]
    pub fn wait_for_message(&mut self, told: &str) {
        wait_until(told, || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "it ended: {}", self.said());
            self.said().contains(told)
        });
    }

    /// The snapshots it has reported so far.
    ///
    /// # Panics
    /// When a line is none.
    pub fn reported(&self) -> Vec<Snapshot> {
        let text = fs::read_to_string(&self.reports).expect("reports");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("a snapshot"))
            .collect()
    }

    /// Waits until `more` further intervals were reported.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn wait_for_intervals(&mut self, more: usize) {
        let before = self.lines();
        wait_until("further intervals", || self.lines() >= before + more);
    }

    fn lines(&self) -> usize {
        let text = fs::read_to_string(&self.reports).expect("reports");
        text.matches('\n').count()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.child.signal(signal);
    }

    /// Ends it by a signal; its exit status.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn end(&mut self, signal: i32) -> ExitStatus {
        self.signal(signal);
        self.child.wait().expect("it ends")
    }
}
