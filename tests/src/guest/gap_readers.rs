//! What a gap of the osnoise tracer costs under each of those who read them: `cargo xtask bench gap` makes a table of what this
//! prints (`xtask/src/bench/gap_readers.rs`).
//!
//! The machine has one CPU, whose clock counts instructions and takes each for so long that every step of the tracer's loop is
//! above the tracer's least threshold. What recording a gap takes lengthens the step after it; so the time of a window, divided
//! by the gaps that the tracer itself says it made in it, is what a step and its recording take.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use smi_user::model::Snapshot;

use super::{
    cpu_time::{children_ns, family_ns},
    instance::Instance,
    noise::{self, Window},
    state::{State, TRACING},
    telling::Telling,
};
use crate::{killed::Killed, smilat, stderr};

const ROUNDS: usize = 5;

/// Windows of a round.
const WINDOWS: usize = 10;
const WIDTH: Duration = Duration::from_millis(400);
/// A tenth of the gaps.
const SHORT_WIDTH: Duration = Duration::from_millis(40);
/// Long enough for the slowest reader to have read all of a window before the next.
const WINDOW: Duration = Duration::from_secs(8);
/// How long anything may take by the clock of this slow machine.
const PATIENCE: Duration = Duration::from_mins(20);

const PERF_DATA: &str = "/tmp/perf.data";

/// Who reads.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Nobody,
    Smilat,
    /// smilat, without the counter of SMIs.
    SmilatWithoutCounter,
    /// That with a tenth of the gaps.
    SmilatAndFew,
    TracePipe,
    Perf,
}

const READERS: [(Reader, &str); 6] = [
    (Reader::Nobody, "nobody"),
    (Reader::Smilat, "smilat"),
    (Reader::SmilatWithoutCounter, "smilat-no-counter"),
    (Reader::SmilatAndFew, "smilat-few"),
    (Reader::TracePipe, "trace_pipe"),
    (Reader::Perf, "perf"),
];

/// What a round took.
struct Measured {
    windows: Vec<Window>,
    /// CPU time of the reader's processes, from the first of these windows on: to their end, but smilat's while it watches, since
    /// it does the same in each second, and ends once.
    own_ns: u64,
    /// For how long that was measured; all else has to do with the number of gaps only.
    lasted: Option<Duration>,
    /// Gaps that the reader saw.
    seen: u64,
}

pub(super) fn a_gap_costs_so_much_under_each_who_reads() {
    let before = State::read();
    for round in 0..ROUNDS {
        for number in 0..READERS.len() {
            let (reader, name) = READERS[(number + round) % READERS.len()];
            let measured = measure(reader);
            assert_eq!(before.put_back(), [], "not put back");
            let told = json!({
                "reader": name,
                "gaps": noise::gaps(&measured.windows),
                "sampled_ns": noise::runtime_ns(&measured.windows),
                "own_ns": measured.own_ns,
                "lasted_ns": measured.lasted.map(|lasted| lasted.as_nanos() as u64),
                "seen": measured.seen,
            });
            println!("    BENCH {told}");
        }
    }
}

fn measure(reader: Reader) -> Measured {
    match reader {
        Reader::Nobody => under_nobody(),
        Reader::Smilat => under_smilat(WIDTH, &[]),
        Reader::SmilatWithoutCounter => under_smilat(WIDTH, &["--counter=none"]),
        Reader::SmilatAndFew => under_smilat(SHORT_WIDTH, &["--counter=none"]),
        Reader::TracePipe => under_trace_pipe(),
        Reader::Perf => under_perf(),
    }
}

/// Waits for what this slow machine is slow at, without keeping it from it.
#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until the tracer has told of so many windows in that instance; there is a pause before the next then.
#[track_caller]
fn wait_for_windows(instance: &Path, number: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    wait_for("windows", || {
        windows = noise::windows(instance);
        windows.len() >= number
    });
    assert_eq!(windows.len(), number, "the pause was missed");
    windows
}

/// Has the tracer make gaps; what it says of them.
fn make_gaps() -> Vec<Window> {
    let tracer = noise::start();
    wait_for_windows(tracer.path(), WINDOWS)
}

fn under_nobody() -> Measured {
    noise::set(WIDTH, WINDOW);
    let windows = make_gaps();
    Measured {
        own_ns: 0,
        lasted: None,
        seen: noise::gaps(&windows),
        windows,
    }
}

fn under_smilat(width: Duration, args: &[&str]) -> Measured {
    let micros = |time: Duration| format!("{}us", time.as_micros());
    let mut command = smilat();
    command
        .args(["run", "--format=ndjson", "--quiet", "--detector=osnoise"])
        .args(["--mode=per-cpu", "--cpus=0", "--threshold=1us"])
        .arg(format!("--width={}", micros(width)))
        .arg(format!("--window={}", micros(WINDOW)))
        .args(args);
    let telling = Telling::<Snapshot>::start(command, |line| {
        serde_json::from_str(line).expect("a snapshot")
    });
    let instance = Path::new(TRACING).join("instances/smilat");
    let runs = || fs::read_to_string(instance.join("current_tracer"));
    wait_for("smilat", || {
        runs().is_ok_and(|text| text.trim() == "osnoise")
    });
    // Its start may reach into the first window.
    let first = wait_for_windows(&instance, 1);
    let (began, started) = (Instant::now(), family_ns(telling.id()));
    let mut windows = wait_for_windows(&instance, 1 + WINDOWS);
    let (lasted, own_ns) = (began.elapsed(), family_ns(telling.id()) - started);
    telling.signal(libc::SIGINT);
    let ended = telling.ended();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.words);
    let last = ended.lines.last().expect("a snapshot");
    let cpu = &last.cpus[0];
    let records = &cpu.records;
    assert_eq!(records.lost, 0, "{records:?}");
    assert_eq!(
        records.sent + records.limited,
        cpu.gaps.count,
        "{records:?}"
    );
    windows.remove(0);
    Measured {
        windows,
        own_ns,
        lasted: Some(lasted),
        seen: cpu.gaps.count - noise::gaps(&first),
    }
}

/// As hwlatdetect does: formatted text, read as it comes, with the room that the kernel gives it. This reader does nothing
/// with it.
fn under_trace_pipe() -> Measured {
    noise::set(WIDTH, WINDOW);
    let trace = Instance::make("read", &["osnoise/sample_threshold"]);
    let ended_before = children_ns();
    let mut cat = trace.read_by_cat();
    let started = family_ns(cat.id());
    let windows = make_gaps();
    wait_for("all to be read", || trace.stat("entries") == 0);
    cat.signal(libc::SIGTERM);
    cat.wait().expect("a child");
    let seen = trace.stat("read events");
    assert_eq!(seen + trace.lost(), noise::gaps(&windows));
    Measured {
        windows,
        own_ns: children_ns() - ended_before - started,
        lasted: None,
        seen,
    }
}

/// As people do who look at it later, with perf's own settings.
fn under_perf() -> Measured {
    noise::set(WIDTH, WINDOW);
    let ended_before = children_ns();
    let mut recording = Killed::start(
        Command::new("/usr/bin/perf")
            .args(["record", "--quiet", "--all-cpus"])
            .args(["--event=osnoise:sample_threshold", "--output", PERF_DATA])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let call = format!("/proc/{}/syscall", recording.id());
    let poll = format!("{} ", libc::SYS_poll);
    wait_for("perf to wait for events", || {
        fs::read_to_string(&call).is_ok_and(|call| call.starts_with(&poll))
    });
    let started = family_ns(recording.id());
    let windows = make_gaps();
    recording.signal(libc::SIGINT);
    recording.wait().expect("a child");
    let own_ns = children_ns() - ended_before - started;
    let report = Command::new("/usr/bin/perf")
        .args(["report", "--stats", "--input", PERF_DATA])
        .output()
        .expect("a report");
    let text = String::from_utf8_lossy(&report.stdout);
    let seen = samples(&text).unwrap_or_else(|| panic!("no samples: {text}{}", stderr(&report)));
    fs::remove_file(PERF_DATA).expect("a recording");
    Measured {
        windows,
        own_ns,
        lasted: None,
        seen,
    }
}

/// Of the line `SAMPLE events:        491  (38.6%)`.
fn samples(report: &str) -> Option<u64> {
    let line = report
        .lines()
        .find_map(|line| line.trim().strip_prefix("SAMPLE events:"))?;
    line.split_whitespace().next()?.parse().ok()
}
