//! What recording a gap costs within the kernel, with and without finding its cause: one JSON object on standard output,
//! for `cargo xtask bench gap`.
//!
//! The program that records osnoise's gaps is run by the kernel's own means for testing, with arguments that make each
//! run one gap; how long it took is the kernel's count (`BPF_STATS_RUN_TIME`).

use std::{collections::BTreeMap, os::fd::AsFd as _, process::ExitCode};

use aya::{
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
    sys::{Stats, enable_stats},
};
use smi_common::{Knobs, Sources};
use smi_user::{
    bpf::Bpf,
    counter,
    kernel::{cpus::CpuList, steal},
};

/// Gaps a round.
const GAPS: u64 = 10_000;
/// Rounds; the variants take turns in each.
const ROUNDS: usize = 9;

const PROGRAM: &str = "osnoise_sample";

fn main() -> ExitCode {
    match measure() {
        Ok(variants) => {
            println!("{}", serde_json::json!(variants));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gap_cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// ns a gap in each round, by what is read.
fn measure() -> Result<BTreeMap<String, Vec<f64>>, Box<dyn std::error::Error>> {
    let cpu = CpuList::online()?.highest().ok_or("no CPU is online")?;
    smi_user::kernel::sched::set_affinity([cpu])?;
    let mut bpf = Bpf::load(CpuList::highest_possible()?)?;
    bpf.set_knobs(Knobs {
        threshold_ns: 1,
        records_per_s: 100,
        interval: 1,
        look_ns: 0,
    })?;
    bpf.verify(PROGRAM)?;
    bpf.attach_raw_tracepoint("nmi", "nmi_handler")?;
    let mut variants = vec![("no cause".to_owned(), Sources::default())];
    let nmi = Sources {
        nmi: 1,
        ..Sources::default()
    };
    variants.push(("NMIs".to_owned(), nmi));
    let mut all = nmi;
    if let Ok(path) = steal::Path::find() {
        all = Sources {
            steal: 1,
            rq: path.rq,
            rq_steal_time: path.rq_steal_time,
            ..all
        };
        variants.push(("NMIs and steal".to_owned(), all));
    }
    // Kept open: the map holds the event only as long as this does.
    let mut counting = None;
    if let Ok(counter) = counter::choose() {
        let opened = counter.open(&[cpu].into_iter().collect())?;
        for (cpu, event) in opened.events() {
            bpf.set_smi_event(cpu, event.as_fd())?;
            variants.push((
                format!("all, SMIs by {}", counter.name()),
                Sources { smi: 1, ..all },
            ));
        }
        counting = Some(opened);
    }
    let _stats = enable_stats(Stats::RunTime)?;
    let mut rounds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, sources) in &variants {
            bpf.set_sources(*sources)?;
            bpf.reset_stats()?;
            rounds.entry(name.clone()).or_default().push(run(&mut bpf)?);
            let recorded = bpf.stats()?[cpu as usize].gaps.count;
            if recorded != GAPS {
                return Err(format!("{recorded} gaps were recorded of {GAPS}").into());
            }
            bpf.take_gaps(|_| {});
        }
    }
    drop(counting);
    Ok(rounds)
}

/// Records [`GAPS`] gaps; ns each, by the kernel.
fn run(bpf: &mut Bpf) -> Result<f64, Box<dyn std::error::Error>> {
    let program: &RawTracePoint = bpf
        .ebpf_mut()
        .program(PROGRAM)
        .ok_or("no such program")?
        .try_into()?;
    let mut args = [0; 12];
    // Start and duration of the gap.
    args[1] = 50_000;
    let before = program.info()?;
    for _ in 0..GAPS {
        program.test_run(RawTracePointRunOptions { args, cpu: None })?;
    }
    let after = program.info()?;
    let took = after.run_time().saturating_sub(before.run_time());
    let ran = after.run_count() - before.run_count();
    if ran != GAPS {
        return Err(format!("the kernel counts {ran} runs of {GAPS}").into());
    }
    Ok(took.as_nanos() as f64 / ran as f64)
}
