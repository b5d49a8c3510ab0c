//! What smilat takes from a busy machine, by how it is set: one JSON object on standard output for each run, for
//! `cargo xtask bench workload`.
//!
//! All is on two CPUs, whatever the machine has, so that two threads of load and more compete for what is watched.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use smi_user::{
    kernel::{cpus::CpuList, sched},
    model::Snapshot,
};
use tests::{busy::Redis, killed::Killed, smilat, stderr};

/// Rounds; all settings take turns in each.
const ROUNDS: usize = 5;

/// How long redis is asked in each run.
const ASKED: Duration = Duration::from_secs(4);

/// How long the first snapshot may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// How smilat is set.
#[derive(Clone, Copy)]
struct Setting {
    width_us: u64,
    irqs_off_max_us: u64,
    mode: &'static str,
    /// The preset that is the same.
    preset: Option<&'static str>,
}

const WINDOW_US: u64 = 100_000;

const fn per_cpu(width_us: u64, irqs_off_max_us: u64) -> Setting {
    Setting {
        width_us,
        irqs_off_max_us,
        mode: "per-cpu",
        preset: None,
    }
}

/// From nothing at all to all that a machine can spare.
const SETTINGS: [Option<Setting>; 8] = [
    None,
    Some(Setting {
        mode: "round-robin",
        preset: Some("busy"),
        ..per_cpu(1_000, 1_000)
    }),
    Some(per_cpu(100, 1_000)),
    Some(per_cpu(1_000, 1_000)),
    Some(per_cpu(10_000, 1_000)),
    Some(per_cpu(10_000, 100)),
    Some(Setting {
        preset: Some("idle"),
        ..per_cpu(50_000, 1_000)
    }),
    Some(Setting {
        preset: Some("thorough"),
        ..per_cpu(80_000, 10_000)
    }),
];

fn main() {
    let online = CpuList::online().expect("online CPUs");
    let cpus: Vec<u32> = online.iter().skip(online.len().saturating_sub(2)).collect();
    // What is started from here stays there, and smilat watches what it may run on.
    sched::set_affinity(cpus.iter().copied()).expect("affinity");
    let redis = Redis::start();
    for round in 0..ROUNDS {
        for number in 0..SETTINGS.len() {
            let setting = (number + round) % SETTINGS.len();
            let run = run(&redis, cpus.len(), SETTINGS[setting]);
            println!("{run}");
        }
    }
}

/// The load under one setting; what came of it.
fn run(redis: &Redis, cpus: usize, setting: Option<Setting>) -> Value {
    let watching = setting.map(Watching::start);
    let share = setting.map_or(1.0, Setting::left);
    let asked = redis.ask_for(ASKED, share);
    let computed = compute(cpus);
    let (smilat, sampled) = match (setting, watching) {
        (Some(setting), Some(watching)) => (setting.json(), json!(watching.sampled())),
        _ => (Value::Null, json!([])),
    };
    json!({"smilat": smilat, "sampled": sampled, "redis": asked, "computing": computed})
}

impl Setting {
    fn json(self) -> Value {
        json!({
            "width_us": self.width_us,
            "window_us": WINDOW_US,
            "irqs_off_max_us": self.irqs_off_max_us,
            "mode": self.mode,
            "preset": self.preset,
        })
    }

    /// The share of a CPU that it leaves.
    fn left(self) -> f64 {
        1.0 - self.width_us as f64 / WINDOW_US as f64
    }
}

/// A smilat under way.
struct Watching {
    smilat: Killed,
    /// What it prints, as it comes.
    lines: Receiver<String>,
}

impl Watching {
    /// Starts it; when this returns, it watches.
    fn start(setting: Setting) -> Self {
        let mut smilat = Killed::start(
            smilat()
                .args(["run", "--quiet", "--format=ndjson", "--interval=1s"])
                .args(["--mode", setting.mode])
                .args(["--width", &format!("{}us", setting.width_us)])
                .args(["--window", &format!("{WINDOW_US}us")])
                .args(["--irqs-off-max", &format!("{}us", setting.irqs_off_max_us)])
                .stdout(Stdio::piped()),
        );
        let output = BufReader::new(smilat.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                if sender.send(line.expect("UTF-8")).is_err() {
                    break;
                }
            }
        });
        lines.recv_timeout(PATIENCE).expect("a first snapshot");
        Self { smilat, lines }
    }

    /// Ends it; the share of its time that each CPU was sampled.
    fn sampled(self) -> Vec<f64> {
        self.smilat.signal(libc::SIGINT);
        let last = self.lines.iter().last().expect("a snapshot");
        let last: Snapshot = serde_json::from_str(&last).expect("a snapshot");
        assert!(last.last, "smilat did not end as it should");
        let cpus = last.cpus.iter();
        cpus.map(|cpu| cpu.exposure_ns as f64 / last.elapsed_ns as f64)
            .collect()
    }
}

/// Computes for 2 s on each CPU; what stress-ng reports.
fn compute(cpus: usize) -> String {
    let report = tempfile::NamedTempFile::new().expect("a file");
    let done = Command::new("stress-ng")
        .args(["--cpu", &cpus.to_string(), "--cpu-method", "int64"])
        // Told to be quiet, it leaves the metrics out of the report, too.
        .args(["--timeout", "2s", "--metrics", "--yaml"])
        .arg(report.path())
        .output()
        .expect("stress-ng");
    assert!(done.status.success(), "stress-ng: {}", stderr(&done));
    fs::read_to_string(report.path()).expect("its report")
}
