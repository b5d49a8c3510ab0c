//! What `smilat irqsoff` costs.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    load::Load,
    peers,
    table::{Cell, Section, Table},
};

/// How long each is measured, and before that, for it to get under way.
const MEASURED: Duration = Duration::from_secs(15);
const BEFORE: Duration = Duration::from_secs(3);

/// Work of all kinds; the last makes as many timers and signals as it can.
const STRESS: [&str; 12] = [
    "--cpu", "1", "--hdd", "1", "--sock", "1", "--udp", "1", "--switch", "1", "--timer", "1",
];

/// Has the kernel count what BPF programs take; puts its setting back when dropped.
struct Counted(String);

impl Counted {
    const SETTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn begin() -> Result<Self> {
        let before =
            fs::read_to_string(Self::SETTING).context("cannot read kernel.bpf_stats_enabled")?;
        fs::write(Self::SETTING, "1").context("cannot set kernel.bpf_stats_enabled")?;
        Ok(Self(before))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _back = fs::write(Self::SETTING, &self.0);
    }
}

/// What a process and its BPF programs took so far.
#[derive(Clone, Copy, Default)]
struct Cost {
    bpf_runs: u64,
    bpf_ns: u64,
    /// CPU time of the process in ticks of a hundredth of a second (`USER_HZ`).
    process_ticks: u64,
}

impl Cost {
    fn of(process: u32) -> Result<Self> {
        let mut cost = Self::default();
        for file in fs::read_dir(format!("/proc/{process}/fdinfo"))?.flatten() {
            // One that was closed meanwhile is none of them.
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim_start_matches(':').trim().parse::<u64>().ok()
            };
            if let (Some(ns), Some(runs)) = (field("run_time_ns"), field("run_cnt")) {
                cost.bpf_ns += ns;
                cost.bpf_runs += runs;
            }
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let after_name = stat.rsplit(')').next().context("no name in stat")?;
        // utime and stime are the 14th and 15th field, the state behind the name is the third.
        let times = after_name.split_whitespace().skip(11).take(2);
        for time in times {
            cost.process_ticks += time.parse::<u64>()?;
        }
        Ok(cost)
    }
}

/// The section.
pub(super) fn irqsoff(smilat: &Path) -> Result<Section> {
    let cpus = thread::available_parallelism()?.get() as f64;
    let mut table = Table::new(&[
        "machine",
        "tick",
        "SMIs counted",
        "BPF, % of each CPU",
        "runs a second",
        "ns a run",
        "smilat itself, % of one CPU",
    ]);
    let _counted = Counted::begin()?;
    for busy in [false, true] {
        let load = busy
            .then(|| {
                Load::start(
                    Command::new("stress-ng")
                        .args(STRESS)
                        .args(["--hdd-bytes", "256M"]),
                )
            })
            .transpose()?;
        for (tick, counter) in [
            ("10ms", "auto"),
            ("10ms", "none"),
            ("1ms", "auto"),
            ("1ms", "none"),
        ] {
            let watch = Load::start(
                Command::new(smilat)
                    .args(["irqsoff", "--quiet", "--format=ndjson", "--tick", tick])
                    .args(["--counter", counter])
                    .stdout(Stdio::null()),
            )?;
            thread::sleep(BEFORE);
            let (began, before) = (Instant::now(), Cost::of(watch.id())?);
            thread::sleep(MEASURED);
            let (seconds, after) = (began.elapsed().as_secs_f64(), Cost::of(watch.id())?);
            let (runs, ns) = (
                (after.bpf_runs - before.bpf_runs) as f64,
                (after.bpf_ns - before.bpf_ns) as f64,
            );
            table.row([
                Cell::text(if busy { "busy" } else { "idle" }),
                Cell::text(tick),
                Cell::text(if counter == "auto" {
                    "where they can be"
                } else {
                    "no"
                }),
                Cell::number(ns / 1e9 / seconds / cpus * 100.0, 3),
                Cell::number(runs / seconds, 0),
                Cell::number(ns / runs, 0),
                Cell::number(
                    (after.process_ticks - before.process_ticks) as f64 / seconds,
                    2,
                ),
            ]);
            drop(watch);
        }
        drop(load);
    }
    Ok(Section {
        title: "What watching for interrupts that are off costs".to_owned(),
        about: "`smilat irqsoff` on all CPUs, for 15 s each. BPF: what its programs take by the kernel's own count \
                (kernel.bpf_stats_enabled, which adds two readings of the clock to each run), those at the kernel's tracepoints \
                included; busy, that is nearly all of it. Busy: stress-ng with computing, disk, TCP, UDP, switches between threads \
                and timers. On a virtual machine reading MSR 0x34 leaves for the hypervisor."
            .to_owned(),
        tables: vec![table],
        aims: Vec::new(),
        versions: vec![peers::installed("stress-ng")?],
    })
}
