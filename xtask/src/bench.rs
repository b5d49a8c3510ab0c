//! `cargo xtask bench`: smilat beside its peers, in one run on one machine.

mod iommu;
mod irqsoff;

use std::{
    fmt::Write as _,
    fs,
    io::{BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::Value;

use crate::{run, setup, sh};

/// The benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Nanoseconds of one step of the spin loop, beside oslat
    Step,
    /// Lateness of a timer while smilat runs, by length of the stretches, as cyclictest sees it
    Lateness,
    /// Windows kept and exposure, idle and busy
    Exposure,
    /// Nanoseconds to record a gap within the kernel, with and without its cause
    Gap,
    /// CPU time that `smilat irqsoff` takes, idle and busy
    Irqsoff,
    /// Instructions of a map or unmap under `smilat iommu`, beside the trace buffer's readers
    Iommu,
}

/// Rounds of a comparison; its members take turns, so that a slow spell of the machine hits all.
const ROUNDS: usize = 9;

/// Runs one benchmark and prints it, or all and writes `docs/bench.md`.
pub(crate) fn bench(name: Option<Name>) -> Result<()> {
    anyhow::ensure!(
        sh::is_root(),
        "benchmarks set priorities and load BPF; run `cargo xtask bench` as root"
    );
    let peers = ["oslat", "cyclictest", "stress-ng"];
    if peers.iter().any(|peer| sh::find(peer).is_none()) {
        setup::install_packages(&["rt-tests", "stress-ng"])?;
    }
    let smilat = run::build()?;
    let run = |name| match name {
        Name::Step => step(&smilat),
        Name::Lateness => lateness(&smilat),
        Name::Exposure => exposure(&smilat),
        Name::Gap => gap(),
        Name::Irqsoff => irqsoff::irqsoff(&smilat),
        Name::Iommu => iommu::iommu(),
    };
    if let Some(name) = name {
        print!("{}", run(name)?);
        return Ok(());
    }
    let mut text = machine()?;
    for name in Name::value_variants() {
        text += "\n";
        text += &run(*name)?;
    }
    let file = sh::root().join("docs/bench.md");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    Ok(())
}

fn machine() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let virtual_machine = cpuinfo.contains(" hypervisor ");
    Ok(format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench`; nothing here is typed by hand.\n\n\
         Machine: {cpu}, {} CPUs{}, Linux {}, smilat {}.\n",
        std::thread::available_parallelism()?,
        if virtual_machine {
            ", a virtual machine"
        } else {
            ""
        },
        sh::read(Command::new("uname").arg("-r"))?,
        env!("CARGO_PKG_VERSION"),
    ))
}

/// The CPU measured on: the last, since the first has most of the machine's interrupts.
fn cpu() -> Result<String> {
    Ok((std::thread::available_parallelism()?.get() - 1).to_string())
}

fn step(smilat: &Path) -> Result<String> {
    let cpu = cpu()?;
    let (mut spin, mut oslat) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let snapshot = last_snapshot(
            Command::new(smilat)
                .args(["run", "--quiet", "--format", "ndjson", "--duration", "1s"])
                .args(["--cpus", &cpu, "--mode", "per-cpu"])
                .args([
                    "--width",
                    "90ms",
                    "--window",
                    "100ms",
                    "--irqs-off-max",
                    "10ms",
                ]),
        )?;
        let watched = &snapshot["cpus"][0];
        spin.push(number(&watched["exposure_ns"])? / number(&watched["stretches"]["steps"])?);

        let json = sh::root().join("target/oslat.json");
        sh::run(
            Command::new("oslat")
                .args(["--cpu-list", &cpu, "--duration", "1s", "--rtprio", "1"])
                .arg(format!("--json={}", json.display()))
                .stdout(Stdio::null()),
        )?;
        let report: Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
        let thread = &report["thread"]["0"];
        let steps: f64 = thread["histogram"]
            .as_object()
            .context("oslat's report has no histogram")?
            .values()
            .filter_map(Value::as_f64)
            .sum();
        oslat.push(number(&thread["duration"])? * 1e9 / steps);
    }
    let ratios: Vec<f64> = spin
        .iter()
        .zip(&oslat)
        .map(|(spin, oslat)| spin / oslat)
        .collect();
    Ok(format!(
        "## One step of the loop\n\n\
         Time spent divided by readings taken, on CPU {cpu}, {ROUNDS} rounds of 1 s each in turn. smilat reads the \
         kernel's clock from BPF with interrupts off; oslat reads the TSC in user space and can be interrupted.\n\n\
         | | median ns | lowest | highest |\n| --- | --- | --- | --- |\n{}{}\n\
         smilat to oslat, pair by pair: median {:.2}, {:.2} to {:.2}.\n",
        row("smilat spin", &spin),
        row("oslat", &oslat),
        median(&ratios),
        lowest(&ratios),
        highest(&ratios),
    ))
}

fn lateness(smilat: &Path) -> Result<String> {
    let cpu = cpu()?;
    let mut text = format!(
        "## What waits because of smilat\n\n\
         Lateness of a 1 ms timer on CPU {cpu} (cyclictest, SCHED_FIFO 80, 20 s), while smilat samples 50 ms of every \
         100 ms there with different stretches. The first line is the machine's own. On a virtual machine the \
         hypervisor adds its part to the last columns: compare `smilat run --cpus {cpu}`. Hangs are the cases in which \
         the kernel found its timers overdue three times in one interrupt and put all of the CPU's off by as long as \
         that had taken (`nr_hangs` in /proc/timer_list); stretches are those that smilat ran meanwhile.\n\n\
         | smilat | median us | 90 % us | 99 % us | worst us | stretches | hangs |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for stretch in [None, Some("100us"), Some("1ms"), Some("10ms"), Some("50ms")] {
        let hangs = timer_hangs()?;
        let load = stretch.map(|stretch| {
            Load::start(
                Command::new(smilat)
                    .args(["run", "--quiet", "--format", "ndjson", "--cpus", &cpu])
                    .args(["--mode", "per-cpu", "--width", "50ms", "--window", "100ms"])
                    .args(["--irqs-off-max", stretch])
                    .stdout(Stdio::piped()),
            )
        });
        let load = load.transpose()?;
        let json = sh::root().join("target/cyclictest.json");
        sh::run(
            Command::new("cyclictest")
                .args(["--quiet", "--mlockall", "--priority=80", "--interval=1000"])
                .args(["--threads=1", "--duration=20s", "--histogram=100000"])
                .arg(format!("--affinity={cpu}"))
                .arg(format!("--json={}", json.display()))
                .stdout(Stdio::null()),
        )?;
        let stretches = match load {
            Some(load) => load.last_snapshot()?["cpus"][0]["stretches"]["run"].to_string(),
            None => "-".to_owned(),
        };
        let report: Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
        let thread = &report["thread"]["0"];
        let [median, p90, p99] = percentiles(&thread["histogram"], [0.5, 0.9, 0.99])?;
        writeln!(
            text,
            "| {} | {median} | {p90} | {p99} | {} | {stretches} | {} |",
            stretch.map_or_else(|| "not running".to_owned(), |s| format!("stretches of {s}")),
            thread["max"],
            timer_hangs()? - hangs,
        )?;
    }
    Ok(text)
}

/// Timer interrupts of all CPUs since boot that the kernel gave up on.
fn timer_hangs() -> Result<u64> {
    let timers = fs::read_to_string("/proc/timer_list").context("cannot read /proc/timer_list")?;
    Ok(timers
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".nr_hangs")?.split(':').nth(1))
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum())
}

fn exposure(smilat: &Path) -> Result<String> {
    let mut text = "## Windows kept and exposure\n\n\
         20 s at --width 100ms --window 500ms --mode per-cpu; exposure is the share of windows run times width. \
         Busy: two threads a CPU that never sleep.\n\n\
         | machine | stretch | cpu | windows scheduled | run | skipped | exposure |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for busy in [false, true] {
        let loads = if busy {
            let threads = std::thread::available_parallelism()?.get() * 2;
            (0..threads)
                .map(|_| Load::start(Command::new("sh").args(["-c", "while :; do :; done"])))
                .collect::<Result<Vec<_>>>()?
        } else {
            Vec::new()
        };
        for stretch in ["100ms", "1ms"] {
            let snapshot = last_snapshot(
                Command::new(smilat)
                    .args(["run", "--quiet", "--format", "ndjson", "--duration", "20s"])
                    .args(["--width", "100ms", "--window", "500ms", "--mode", "per-cpu"])
                    .args(["--irqs-off-max", stretch]),
            )?;
            for watched in snapshot["cpus"].as_array().context("no CPUs")? {
                let windows = &watched["windows"];
                let run = number(&windows["run"])?;
                writeln!(
                    text,
                    "| {} | {stretch} | {} | {} | {run} | {} | {:.1} % |",
                    if busy { "busy" } else { "idle" },
                    watched["cpu"],
                    windows["scheduled"],
                    windows["skipped"],
                    number(&watched["exposure_ns"])? / run / 1e8 * 100.0,
                )?;
            }
        }
        drop(loads);
    }
    Ok(text)
}

/// The last line of NDJSON that `command` prints.
fn last_snapshot(command: &mut Command) -> Result<Value> {
    let lines = sh::read(command)?;
    let last = lines.lines().last().context("no snapshot")?;
    Ok(serde_json::from_str(last)?)
}

/// A program that runs until dropped.
struct Load(Child);

impl Load {
    fn start(command: &mut Command) -> Result<Self> {
        let load = command
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        // Start-up is not what is measured.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self(load))
    }
}

impl Load {
    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as Ctrl-C would; the last line of NDJSON it printed.
    fn last_snapshot(mut self) -> Result<Value> {
        let pid = libc::pid_t::try_from(self.0.id())?;
        // SAFETY: the child was not waited for, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGINT) };
        let mut lines = String::new();
        let output = self.0.stdout.take().context("the output is not piped")?;
        BufReader::new(output).read_to_string(&mut lines)?;
        let last = lines.lines().last().context("no snapshot")?;
        Ok(serde_json::from_str(last)?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing more to do than to reap it.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Percentiles of a histogram as rt-tests writes it: counts by microseconds.
fn percentiles<const N: usize>(histogram: &Value, shares: [f64; N]) -> Result<[u64; N]> {
    let mut buckets = histogram
        .as_object()
        .context("the report has no histogram")?
        .iter()
        .map(|(us, count)| Ok((us.parse::<u64>()?, number(count)?)))
        .collect::<Result<Vec<_>>>()?;
    buckets.sort_unstable_by_key(|(us, _)| *us);
    let total: f64 = buckets.iter().map(|(_, count)| count).sum();
    Ok(shares.map(|share| {
        let mut left = share * total;
        for (us, count) in &buckets {
            left -= count;
            if left <= 0.0 {
                return *us;
            }
        }
        buckets.last().map_or(0, |(us, _)| *us)
    }))
}

fn number(value: &Value) -> Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("a report has {value} where a number should be"))
}

fn row(name: &str, values: &[f64]) -> String {
    format!(
        "| {name} | {:.1} | {:.1} | {:.1} |\n",
        median(values),
        lowest(values),
        highest(values)
    )
}

fn gap() -> Result<String> {
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests"]))?;
    let told = sh::read(&mut Command::new(
        sh::root().join("target/release/gap_cost"),
    ))?;
    let variants: serde_json::Map<String, Value> =
        serde_json::from_str(&told).context("gap_cost did not print an object")?;
    let mut rows = Vec::new();
    for (name, rounds) in &variants {
        let rounds = rounds.as_array().context("no rounds")?;
        let rounds = rounds.iter().map(number).collect::<Result<Vec<f64>>>()?;
        rows.push((name, rounds));
    }
    rows.sort_by(|a, b| median(&a.1).total_cmp(&median(&b.1)));
    let mut text = String::from(
        "## What a gap costs within the kernel\n\nBy the kernel's own count of the time its programs take \
         (BPF_STATS_RUN_TIME, which adds two readings of the clock), 9 rounds of 10,000 gaps in turn, all by the program \
         that records osnoise's gaps; spin's reads the sources of causes twice. On a virtual machine reading MSR 0x34 \
         leaves for the hypervisor.\n\n| what is read for the cause | median ns a gap | lowest | highest |\n\
         | --- | --- | --- | --- |\n",
    );
    for (name, rounds) in &rows {
        writeln!(
            text,
            "| {name} | {:.0} | {:.0} | {:.0} |",
            median(rounds),
            lowest(rounds),
            highest(rounds)
        )?;
    }
    Ok(text)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn lowest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
