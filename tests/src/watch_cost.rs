//! What it costs to have a watcher run: measured on this machine by the program `watch_cost`, in virtual ones by
//! `tests/src/guest/watching.rs`; `cargo xtask bench watching` makes tables of it.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smi_user::model::{CpuSnapshot, Snapshot};

use crate::{
    killed::Killed,
    serving::{self, free_address},
    taken::{Taken, samples},
    wait_until,
};

/// A minute in parts, to see how much they differ.
const PARTS: usize = 6;
const PART: Duration = Duration::from_secs(10);

/// How long others may take to start; the slowest, in Python on an emulated CPU, takes less. They tell of no moment from which on
/// they watch, but what starting takes would be in one part of six at most, and the median leaves that out.
const OTHERS_START: Duration = Duration::from_secs(9);

/// How often memory is looked at, and after how long each time.
const LOOKS_AT_MEMORY: usize = 6;
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);

/// How long the first snapshot may take to come, on a slow machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Of fewer intervals there is nothing to tell.
const LEAST_SNAPSHOTS: u64 = 5;

/// How often it is looked whether metrics are there.
const LOOK: Duration = Duration::from_millis(100);

/// One way to have smilat watch and report each second.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// What people read of it.
    pub name: &'static str,
    /// Options of `smilat run`, besides the interval.
    pub args: &'static [&'static str],
    /// How often its metrics are asked for; 0 where it serves none.
    pub scrapes_per_s: u64,
}

/// The form for programs.
const NDJSON: &str = "--format=ndjson";

/// Each step of the loop is a gap then.
const EVERY_STEP: &str = "--threshold=1ns";

/// The ways that are compared, on any machine.
pub const WAYS: [Way; 6] = [
    Way {
        name: "smilat, text",
        args: &[],
        scrapes_per_s: 0,
    },
    Way {
        name: "smilat, NDJSON",
        args: &[NDJSON],
        scrapes_per_s: 0,
    },
    Way {
        name: "smilat, 1 scrape/s",
        args: &["--quiet"],
        scrapes_per_s: 1,
    },
    Way {
        name: "smilat, 10 scrapes/s",
        args: &["--quiet"],
        scrapes_per_s: 10,
    },
    Way {
        name: "smilat, many gaps, NDJSON",
        args: &[NDJSON, EVERY_STEP],
        scrapes_per_s: 0,
    },
    Way {
        name: "smilat, many gaps, 10 scrapes/s",
        args: &["--quiet", EVERY_STEP],
        scrapes_per_s: 10,
    },
];

/// Has smilat watch in this way for a minute; what it took, as one JSON object.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn smilat(way: Way) -> Value {
    watched(way, minute)
}

/// The memory alone that it holds, on a machine that may be slow.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn memory(way: Way) -> Value {
    watched(way, |process| {
        let mut resident_bytes = 0;
        let mut peak_bytes = 0;
        for _ in 0..LOOKS_AT_MEMORY {
            thread::sleep(BETWEEN_LOOKS);
            let taken = Taken::by(process).expect("it runs");
            resident_bytes = resident_bytes.max(taken.resident_bytes);
            peak_bytes = taken.peak_bytes;
        }
        json!({"resident_bytes": resident_bytes, "peak_bytes": peak_bytes})
    })
}

/// Has smilat watch in this way for as long as `measure` looks at the process, from the first snapshot on; what that found, and
/// what smilat says itself.
fn watched(way: Way, measure: impl FnOnce(u32) -> Value) -> Value {
    let mut command = crate::smilat();
    command
        .args(["run", "--interval=1s"])
        .args(way.args)
        .stdout(Stdio::piped());
    // Told to be quiet, smilat does not say which port it took.
    let address = (way.scrapes_per_s > 0).then(free_address);
    if let Some(address) = address {
        command.arg(format!("--listen={address}"));
    }
    let mut child = Killed::start(command.stderr(Stdio::null()));
    let scraper = address.map(|address| {
        // Before the first interval is over there is nothing to tell. A slow machine comes to nothing else if asked all the time.
        wait_until("metrics", || {
            thread::sleep(LOOK);
            serving::get(address, "/metrics").is_ok_and(|answer| answer.status == 200)
        });
        Scraper::start(address, way.scrapes_per_s)
    });
    let lines = Lines::read(&mut child);
    if scraper.is_none() {
        lines.wait_for_snapshot();
    }
    let mut told = measure(child.id());
    told["who"] = json!(way.name);
    if let Some(scraper) = scraper {
        scraper.end();
    }
    child.signal(libc::SIGINT);
    assert!(child.wait().expect("a child").success());
    // What it says of itself, where it does in a form for programs.
    let last = lines.last();
    if way.args.contains(&NDJSON) {
        let last = serde_json::from_str::<Snapshot>(&last).expect("a snapshot");
        assert!(
            last.interval >= LEAST_SNAPSHOTS,
            "only {} snapshots were made meanwhile",
            last.interval
        );
        let sum = |of: fn(&CpuSnapshot) -> u64| last.cpus.iter().map(of).sum::<u64>() as f64;
        let seconds = last.elapsed_ns as f64 / 1e9;
        told["gaps_per_s"] = json!(sum(|cpu| cpu.gaps.count) / seconds);
        told["lost"] = json!(sum(|cpu| cpu.records.lost));
        told["exposure_ns_per_s"] = json!(sum(|cpu| cpu.exposure_ns) / seconds);
    }
    told
}

/// What the process and its children took in the minute from now on, part by part.
///
/// # Panics
/// When it ends before the minute does.
#[must_use]
pub fn minute(process: u32) -> Value {
    let read = || Taken::by(process).expect("it runs");
    let (mut then, mut before) = (Instant::now(), read());
    let mut parts = Vec::new();
    let mut resident_bytes = before.resident_bytes;
    for _ in 0..PARTS {
        thread::sleep(PART);
        let (now, after) = (Instant::now(), read());
        let seconds = now.duration_since(then).as_secs_f64();
        let difference = |of: &dyn Fn(&Taken) -> u64| (of(&after) - of(&before)) as f64 / seconds;
        parts.push(json!({
            "cpu_ns_per_s": difference(&|taken| taken.cpu_ns(|name| !samples(name))),
            "sampling_ns_per_s": difference(&|taken| taken.cpu_ns(samples)),
            "wakeups_per_s": difference(&|taken| taken.wakeups(|name| !samples(name))),
            "sampling_wakeups_per_s": difference(&|taken| taken.wakeups(samples)),
        }));
        resident_bytes = resident_bytes.max(after.resident_bytes);
        (then, before) = (now, after);
    }
    json!({
        "parts": parts,
        "resident_bytes": resident_bytes,
        "peak_bytes": before.peak_bytes,
    })
}

/// In whatever form, a snapshot says this, and what comes before the first one does not.
const OF_A_SNAPSHOT: &str = "interval";

/// What a child prints, read to its end.
struct Lines {
    snapshot: Receiver<()>,
    last: JoinHandle<String>,
}

impl Lines {
    fn read(child: &mut Killed) -> Self {
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, snapshot) = mpsc::channel();
        let last = thread::spawn(move || {
            let mut sender = Some(sender);
            let mut last = String::new();
            for line in output.lines() {
                last = line.expect("UTF-8");
                if let Some(sender) = sender.take_if(|_| last.contains(OF_A_SNAPSHOT)) {
                    // Nobody waits for it where metrics are asked for.
                    let _unheard = sender.send(());
                }
            }
            last
        });
        Self { snapshot, last }
    }

    fn wait_for_snapshot(&self) {
        let first = self.snapshot.recv_timeout(PATIENCE);
        first.expect("a first snapshot");
    }

    /// The last one; empty where there was none.
    fn last(self) -> String {
        self.last.join().expect("a reader")
    }
}

/// Asks for metrics so many times a second.
struct Scraper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Scraper {
    fn start(address: SocketAddr, per_s: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let answer = serving::get(address, "/metrics").expect("an answer");
                assert_eq!(answer.status, 200);
                due += Duration::from_secs(1) / per_s as u32;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a scraper");
    }
}

/// Has another tool, which was just started, watch for a minute, and ends it as Ctrl-C does; what it took.
///
/// # Panics
/// When it ends before that.
#[must_use]
pub fn other(child: &mut Killed) -> Value {
    thread::sleep(OTHERS_START);
    let told = minute(child.id());
    child.signal(libc::SIGINT);
    child.wait().expect("a child");
    told
}
