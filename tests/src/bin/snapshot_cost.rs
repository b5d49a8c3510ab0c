//! What a snapshot costs by the number of CPUs: reading the maps, making the snapshot of them, and writing it in each form. One
//! JSON object on standard output, for `cargo xtask bench start`.
//!
//! The kernel keeps a copy of the statistics for each CPU that is possible on this machine. More are had by loading the object
//! again and again; they are read by a system call each, where a machine with that many CPUs takes one for all.

use std::{collections::BTreeMap, error::Error, hint::black_box, process::ExitCode, time::Instant};

use jiff::Timestamp;
use serde::Serialize;
use smi_common::CpuStats;
use smi_user::{
    bpf::Bpf,
    collector::cpu_snapshot,
    kernel::{clock::Epoch, cpus::CpuList, memory, process},
    model::{
        Attribution, CounterInfo, CpuSnapshot, OwnCost, Proof, SamplerCounts, SmiCounts, Snapshot,
        StealCounts, WindowCounts,
    },
    report::{
        Ndjson, Report as _,
        prometheus::{About, Form, Served, encode},
    },
};
use tests::made_up;

/// Numbers of CPUs.
const CPUS: [u32; 3] = [2, 64, 255];
/// Rounds; the numbers of CPUs take turns in each.
const ROUNDS: usize = 15;
/// What is timed at once takes as long as this many CPUs do.
const TOGETHER: u32 = 510;

type Failure = Box<dyn Error>;

/// What is found of a number of CPUs.
#[derive(Default, Serialize)]
struct Cost {
    cpus: u32,
    /// us in each round, by what was done.
    us: BTreeMap<&'static str, Vec<f64>>,
    /// Bytes written, by form.
    bytes: BTreeMap<&'static str, usize>,
}

fn main() -> ExitCode {
    // As smilat does once all is loaded: it decides about how much memory is had anew for each snapshot.
    memory::give_back();
    match measure() {
        Ok(costs) => {
            println!("{}", serde_json::json!(costs));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("snapshot_cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A machine with some number of CPUs.
struct Made {
    objects: Vec<Bpf>,
    stats: Vec<CpuStats>,
    cost: Cost,
}

impl Made {
    /// One with so many.
    fn new(cpus: u32) -> Result<Self, Failure> {
        let possible = CpuList::highest_possible()? + 1;
        let objects = (0..cpus.div_ceil(possible))
            .map(|_| Bpf::load(cpus - 1))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            objects,
            stats: (0..cpus).map(made_up::counted).collect(),
            cost: Cost {
                cpus,
                ..Cost::default()
            },
        })
    }

    /// Times each step once more.
    fn round(&mut self) -> Result<(), Failure> {
        let times = TOGETHER / self.cost.cpus;
        let mut add = |what, took| self.cost.us.entry(what).or_default().push(took);
        add("read", timed(times, || read(&self.objects))?);
        let epoch = Epoch::now();
        let make = || Ok(snapshot(&self.stats, &epoch));
        add("make", timed(times, make)?);
        let snapshot = make()?;
        let about = About {
            started: snapshot.time,
            hardlimit: None,
            per_cpu_histograms: false,
        };
        let recent = |cpu: &CpuSnapshot| Some((cpu.cpu, cpu.gaps.max_ns?));
        let served = Served {
            recent_max_ns: snapshot.cpus.iter().filter_map(recent).collect(),
            connections_displaced: 0,
        };
        let line = || Ok(Ndjson.interval(&snapshot));
        add("NDJSON", timed(times, line)?);
        self.cost.bytes.insert("NDJSON", line()?.len());
        for (name, form) in [
            ("text", Form::Text),
            ("OpenMetrics", Form::OpenMetrics),
            ("protobuf", Form::Protobuf),
        ] {
            let page = || Ok(encode(form, &snapshot, &about, &served)?);
            add(name, timed(times, page)?);
            self.cost.bytes.insert(name, page()?.len());
        }
        Ok(())
    }
}

/// us that each of so many calls of `what` takes.
fn timed<T>(times: u32, what: impl Fn() -> Result<T, Failure>) -> Result<f64, Failure> {
    let began = Instant::now();
    for _ in 0..times {
        black_box(what()?);
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(times))
}

/// What all CPUs have counted, by the kernel.
fn read(objects: &[Bpf]) -> Result<Vec<CpuStats>, Failure> {
    let mut all = Vec::new();
    for bpf in objects {
        all.extend(bpf.stats()?);
    }
    Ok(all)
}

/// The snapshot of `stats`, as the collector makes it.
fn snapshot(stats: &[CpuStats], epoch: &Epoch) -> Snapshot {
    let cpus = (0..).zip(stats).map(|(cpu, stats)| {
        let counts = SamplerCounts {
            windows: WindowCounts {
                scheduled: stats.stretches.run,
                run: stats.stretches.run,
                skipped: 0,
            },
            stretches_given_up: 0,
        };
        CpuSnapshot {
            smis: Some(SmiCounts {
                counted: 640,
                sampled: Some(640),
                in_gaps: Some(640),
                unread: 0,
            }),
            steal: Some(StealCounts {
                sampled_ns: stats.gaps.sum_ns,
                in_gaps_ns: stats.gaps.sum_ns / 4,
            }),
            ..cpu_snapshot(cpu, counts, stats, 1, epoch)
        }
    });
    let cpus: Vec<CpuSnapshot> = cpus.collect();
    Snapshot {
        elapsed_ns: 1_000_000_000,
        interval: 1,
        attribution: Attribution {
            smi: Proof::Gap,
            nmi: Proof::Gap,
            steal: Proof::Gap,
            counter: Some(CounterInfo {
                name: "msr/smi".to_owned(),
                source: "made up".to_owned(),
                exact: true,
                caveats: Vec::new(),
            }),
        },
        own_cost: OwnCost {
            cpu_ns: process::cpu_ns(),
            resident_bytes: process::resident_bytes(),
            bpf: None,
        },
        ..Snapshot::new(
            Timestamp::now(),
            made_up::detector(stats.len() as u32),
            cpus,
        )
    }
}

/// All that is measured, the numbers of CPUs in turn.
fn measure() -> Result<Vec<Cost>, Failure> {
    let mut machines = CPUS
        .into_iter()
        .map(Made::new)
        .collect::<Result<Vec<_>, _>>()?;
    for _ in 0..ROUNDS {
        for made in &mut machines {
            made.round()?;
        }
    }
    Ok(machines.into_iter().map(|made| made.cost).collect())
}
