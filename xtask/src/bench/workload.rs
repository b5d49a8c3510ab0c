//! What a busy machine loses to the sampling, and what that finds: for people to choose a duty by.

mod chance;
mod machine;
mod reports;

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use self::reports::Served;
use super::{
    peers,
    table::{Cell, Section, Table, ratios},
};
use crate::sh;

/// One run of the host's half, as `tests/src/bin/workload.rs` prints it.
#[derive(Debug, Deserialize)]
struct Line {
    /// `None` where it did not run.
    smilat: Option<Setting>,
    /// Share of its time that each CPU was sampled, by smilat's own report.
    sampled: Vec<f64>,
    /// What redis-benchmark said.
    redis: String,
    /// What stress-ng said.
    computing: String,
}

/// How smilat was set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Setting {
    width_us: u64,
    window_us: u64,
    irqs_off_max_us: u64,
    mode: String,
    preset: Option<String>,
}

/// One run, understood.
struct Run {
    sampled: Vec<f64>,
    served: Served,
    /// stress-ng's operations a second.
    computed: f64,
}

impl Setting {
    fn takes_turns(&self) -> bool {
        self.mode != "per-cpu"
    }

    fn name(&self) -> String {
        let preset = self.preset.as_ref();
        format!(
            "{} / {}, {}{}",
            show_us(self.width_us),
            show_us(self.window_us),
            self.mode,
            preset.map_or(String::new(), |preset| format!(" (`{preset}`)"))
        )
    }
}

/// The section.
pub(super) fn workload(smilat: &Path) -> Result<Section> {
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests"]))?;
    let told =
        sh::read(Command::new(sh::root().join("target/release/workload")).env("SMILAT", smilat))?;
    let [costs, latencies] = of_lines(&told)?;
    Ok(Section {
        title: "What sampling takes from a busy machine, and what it finds".to_owned(),
        about: ABOUT.to_owned(),
        tables: vec![
            costs.captioned("What it costs and finds, on this machine:"),
            latencies.captioned("redis on this machine, in more detail:"),
            machine::table()?.captioned(
                "smilat beside its peers in a virtual machine (Linux 6.12 with `PREEMPT_RT`, two emulated CPUs):",
            ),
        ],
        aims: Vec::new(),
        versions: ["redis-tools", "stress-ng", "rt-tests"]
            .iter()
            .map(|package| peers::installed(package))
            .chain([peers::rtla()])
            .collect::<Result<_>>()?,
    })
}

const ABOUT: &str = "\
Three threads of redis (the server; `redis-benchmark --threads 2 -t get`, 50 connections on the loopback interface, each with \
one request under way) for some 4 s and then stress-ng (`--cpu-method int64`, a thread on each CPU, 2 s), all on two CPUs, which \
are those that are watched. Settings take turns in each of 5 rounds. Slowdown: by how much fewer requests were served in a \
second, or operations done, than with nothing in the same round; below 0, it is the machine's own noise. Sampled: by smilat's \
own last report.

What is found: the chance to see at least one of 60 SMIs, one a minute for an hour, computed from what was sampled: 1 - (1 - \
d)^60, where d is the chance to see each. For an SMI that stops all CPUs, as most do, d is the share of the time in which at \
least one CPU is sampled: the sum of the CPUs' shares in mode round-robin, where they take turns, and 1 - (1 - d1)(1 - d2)... \
in mode per-cpu, where their windows come at random. More CPUs find more so. For an SMI that stops a single CPU, d is the mean of \
the CPUs' shares.

The benchmark asks again only when it has its answer, so what waits for a window is 50 requests at most, however long it takes: \
the percentiles are of requests, not of time. On a virtual machine, the hypervisor's part is in all of this.

The virtual machine is emulated, slow and noisy: only what is compared within a round means much there. smilat, `rtla hwnoise` \
and `hwlatdetect` have the same width, window and threshold (1 ms) on both CPUs, 4 rounds. hwlatdetect has no option for it, and \
so watches one CPU after the other unless the kernel is told otherwise beforehand. smilat's spin has interrupts off for 1 ms at \
a time, all others for the whole width. Sampled is what they got: of the peers, the CPU time \
of the kernel's threads that sample, of smilat its own report.";

/// The table to choose by, and the one with redis's latencies.
fn of_lines(told: &str) -> Result<[Table; 2]> {
    let mut settings: Vec<(Option<Setting>, Vec<Run>)> = Vec::new();
    for line in told.lines() {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("workload says: {line}"))?;
        let run = Run {
            sampled: line.sampled,
            served: Served::parse(&line.redis)?,
            computed: reports::operations_a_second(&line.computing)?,
        };
        let known = settings.iter_mut().find(|(known, _)| *known == line.smilat);
        match known {
            Some((_, runs)) => runs.push(run),
            None => settings.push((line.smilat, vec![run])),
        }
    }
    let bare = settings.iter().find(|(setting, _)| setting.is_none());
    let (_, bare) = bare.context("workload tells nothing of the machine by itself")?;
    let mut costs = Table::new(&[
        "width / window, mode",
        "interrupts off, at most",
        "sampled, % of each CPU",
        "redis: slowdown, %",
        "computing: slowdown, %",
        "one of 60 SMIs on all CPUs seen, %",
        "on one CPU, %",
    ]);
    let mut latencies = Table::new(&[
        "smilat",
        "requests/s",
        "to nothing's",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "longest ms",
    ]);
    for (setting, runs) in &settings {
        ensure!(
            runs.len() == bare.len(),
            "workload tells {} rounds of {setting:?}, and {} of the machine by itself",
            runs.len(),
            bare.len()
        );
        if let Some(setting) = setting {
            costs.row(cost(setting, runs, bare));
        }
        latencies.row(latency(setting.as_ref(), runs, bare));
    }
    Ok([costs, latencies])
}

fn cost(setting: &Setting, runs: &[Run], bare: &[Run]) -> Vec<Cell> {
    let each = |value: &dyn Fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
    let computed = |runs: &[Run]| runs.iter().map(|run| run.computed).collect::<Vec<f64>>();
    let on_all = |run: &Run| chance::any(&run.sampled, setting.takes_turns());
    let percent_seen = |each: f64| chance::within_an_hour(each) * 100.0;
    vec![
        Cell::text(setting.name()),
        Cell::text(show_us(setting.irqs_off_max_us.min(setting.width_us))),
        Cell::rounds(&each(&|run| chance::mean(&run.sampled) * 100.0), 2),
        Cell::rounds(&slowdowns(&ratios(&rates(runs), &rates(bare))), 1),
        Cell::rounds(&slowdowns(&ratios(&computed(runs), &computed(bare))), 1),
        Cell::rounds(&each(&|run| percent_seen(on_all(run))), 1),
        Cell::rounds(&each(&|run| percent_seen(chance::mean(&run.sampled))), 1),
    ]
}

fn latency(setting: Option<&Setting>, runs: &[Run], bare: &[Run]) -> Vec<Cell> {
    let each = |value: fn(&Served) -> f64| {
        let values: Vec<f64> = runs.iter().map(|run| value(&run.served)).collect();
        Cell::rounds(&values, 2)
    };
    vec![
        Cell::text(setting.map_or_else(
            || "nothing".to_owned(),
            |setting| {
                let irqs_off = show_us(setting.irqs_off_max_us.min(setting.width_us));
                format!("{}, interrupts off {irqs_off}", setting.name())
            },
        )),
        Cell::rounds(&rates(runs), 0),
        match setting {
            Some(_) => Cell::rounds(&ratios(&rates(runs), &rates(bare)), 3),
            None => Cell::text("1"),
        },
        each(|served| served.p50_ms),
        each(|served| served.p99_ms),
        each(|served| served.p99_9_ms),
        each(|served| served.max_ms),
    ]
}

/// Requests a second.
fn rates(runs: &[Run]) -> Vec<f64> {
    runs.iter().map(|run| run.served.rate).collect()
}

/// By how many percent less was done, of what was done to what there would have been.
fn slowdowns(to_bare: &[f64]) -> Vec<f64> {
    to_bare.iter().map(|ratio| (1.0 - ratio) * 100.0).collect()
}

fn show_us(us: u64) -> String {
    if us.is_multiple_of(1000) {
        format!("{} ms", us / 1000)
    } else {
        format!("{us} us")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(smilat: &Value, sampled: [f64; 2], rate: f64) -> String {
        let redis = format!(
            "99.902% <= 7.5 milliseconds (cumulative count 9)\n\
             throughput summary: {rate} requests per second\n\
             avg min p50 p95 p99 max\n1 2 3 4 5 6\n"
        );
        let computing = format!("bogo-ops-per-second-real-time: {rate}");
        let line =
            json!({"smilat": smilat, "sampled": sampled, "redis": redis, "computing": computing});
        line.to_string() + "\n"
    }

    #[test]
    fn settings_are_compared_with_nothing_in_the_same_round() {
        let setting = json!({
            "width_us": 500, "window_us": 100_000, "irqs_off_max_us": 1000, "mode": "round-robin", "preset": "busy",
        });
        let mut told = String::new();
        for rate in [1000.0, 2000.0] {
            told += &line(&Value::Null, [0.0, 0.0], rate);
            told += &line(&setting, [0.004, 0.006], rate * 0.75);
        }
        let [costs, latencies] = of_lines(&told).expect("tables");
        let costs = costs.to_string();
        assert!(
            costs.contains(
                "\n| 500 us / 100 ms, round-robin (`busy`) | 500 us | 0.50 (0.50 to 0.50) | 25.0 (25.0 to 25.0) \
                 | 25.0 (25.0 to 25.0) | 45.3 (45.3 to 45.3) | 26.0 (26.0 to 26.0) |\n"
            ),
            "{costs}"
        );
        let latencies = latencies.to_string();
        assert!(
            latencies
                .contains("\n| nothing | 2000 (1000 to 2000) | 1 | 3.00 (3.00 to 3.00) | 5.00"),
            "{latencies}"
        );
        assert!(
            latencies
                .contains(" interrupts off 500 us | 1500 (750 to 1500) | 0.750 (0.750 to 0.750) |"),
            "{latencies}"
        );
        told += &line(&setting, [0.004, 0.006], 1.0);
        assert!(of_lines(&told).is_err(), "a round more of one");
    }
}
