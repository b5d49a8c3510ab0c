//! Causes of gaps, as far as this machine can make them: no SMI can be fired here, so another counter of the CPU's, which
//! always moves, stands in for that of SMIs. Steal is the hypervisor's, when it has other work.

use std::{fs, os::fd::AsFd as _, thread, time::Duration};

use aya::{
    maps::Array,
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use smi_common::{CpuStats, GapRecord, Knobs, Sources, cause};
use smi_user::{
    bpf::Bpf,
    kernel::{cpus::CpuList, perf::count::CpuCount, pmu::Pmu, sched, steal},
    model::Proof,
};
use tests::{Lab, snapshots, take_array, two_cpus};

/// Gaps made, and how long each is.
const GAPS: u64 = 50;
const LENGTH_NS: u64 = 200_000;

/// Makes gaps with the TSC of a CPU in the place of SMIs of the CPU that is watched; what came of it.
fn make_gaps(of_other_cpu: bool) -> (CpuStats, Vec<GapRecord>) {
    let (cpu, other) = two_cpus();
    let tsc = Pmu::find("msr")
        .expect("the msr PMU")
        .event("tsc")
        .expect("its event tsc");
    let event = CpuCount::open(tsc, if of_other_cpu { other } else { cpu }).expect("it opens");
    let knobs = Knobs {
        threshold_ns: LENGTH_NS / 2,
        records_per_s: 1_000_000,
        interval: 1,
        look_ns: 0,
    };
    let mut lab = Lab::new("waits", cpu, knobs);
    let mut waits: Array<_, [u64; 2]> = take_array(&mut lab.bpf, "WAITS");
    for slot in 0..GAPS as u32 {
        waits.set(slot, [LENGTH_NS, 0], 0).expect("set");
    }
    let mut made: Array<_, [u64; 2]> = take_array(&mut lab.bpf, "MADE");
    made.set(0, [0, GAPS], 0).expect("set");
    lab.bpf
        .set_smi_event(cpu, event.as_fd())
        .expect("the map takes it");
    let sources = Sources {
        smi: 1,
        ..Sources::default()
    };
    lab.bpf.set_sources(sources).expect("set");
    while made.get(&0, 0).expect("get")[0] < GAPS {
        lab.stretch(Duration::from_millis(100));
    }
    let mut gaps = Vec::new();
    lab.bpf.take_gaps(|gap| gaps.push(gap));
    assert_eq!(gaps.len() as u64, GAPS);
    (lab.bpf.stats().expect("stats")[cpu as usize], gaps)
}

#[test]
fn a_gap_is_compared_with_the_counter_of_its_own_cpu() {
    let (stats, gaps) = make_gaps(false);
    assert_eq!(stats.counted.smi_unread, 0);
    let across: u64 = gaps.iter().map(|gap| gap.smis).sum();
    assert_eq!(stats.counted.smis.in_gaps, across);
    // From the last of them to the end.
    assert!(stats.counted.smis.sampled > across);
    let proven: Vec<&GapRecord> = gaps.iter().filter(|gap| gap.cause == cause::SMI).collect();
    assert_eq!(stats.causes[cause::SMI as usize].count, proven.len() as u64);
    // Where the hypervisor takes the CPU away after a gap, nothing is put down to the gap.
    assert!(proven.len() as u64 > GAPS * 8 / 10, "{gaps:?}");
    // All of them had the same counter, so they must agree on how fast it moves.
    let mut rates: Vec<f64> = proven
        .iter()
        .map(|gap| gap.smis as f64 / gap.duration_ns as f64)
        .collect();
    rates.sort_by(f64::total_cmp);
    let median = rates[rates.len() / 2];
    let close = rates
        .iter()
        .filter(|rate| (*rate / median - 1.0).abs() < 0.2);
    assert!(close.count() * 10 > rates.len() * 7, "{rates:?}");
    assert!((0.5..10.0).contains(&median), "no TSC runs at {median} GHz");
}

#[test]
fn a_counter_that_cannot_be_read_proves_nothing_and_is_told() {
    let (stats, gaps) = make_gaps(true);
    assert!(stats.counted.smi_unread >= GAPS);
    assert_eq!(stats.counted.smis.sampled, 0);
    assert!(gaps.iter().all(|gap| (gap.cause, gap.smis) == (0, 0)));
    assert_eq!(stats.causes[0].count, GAPS);
}

/// The program that records osnoise's gaps, run as if a gap of that length had just ended; the gap as recorded.
fn record(bpf: &mut Bpf, duration: Duration) -> GapRecord {
    run(bpf, "osnoise_sample", duration.as_nanos() as u64);
    let mut gaps = Vec::new();
    bpf.take_gaps(|gap| gaps.push(gap));
    let [gap] = gaps[..] else {
        panic!("{gaps:?}");
    };
    gap
}

/// Runs a raw tracepoint program once, by the kernel's own means for testing.
fn run(bpf: &mut Bpf, program: &str, second_argument: u64) {
    let program: &RawTracePoint = bpf
        .ebpf_mut()
        .program(program)
        .expect(program)
        .try_into()
        .expect("a raw tracepoint");
    let mut args = [0; 12];
    args[1] = second_argument;
    program
        .test_run(RawTracePointRunOptions { args, cpu: None })
        .expect("it runs");
}

#[test]
fn what_came_before_or_after_a_gap_is_not_put_down_to_it() {
    let (cpu, _) = two_cpus();
    sched::set_affinity([cpu]).expect("affinity");
    let highest = CpuList::highest_possible().expect("possible CPUs");
    let mut bpf = Bpf::load(highest).expect("the object loads");
    bpf.set_knobs(Knobs {
        threshold_ns: 1,
        records_per_s: 1_000_000,
        interval: 1,
        look_ns: 0,
    })
    .expect("knobs");
    for program in ["osnoise_sample", "nmi"] {
        bpf.verify(program).expect(program);
    }
    let tsc = Pmu::find("msr").expect("the msr PMU").event("tsc");
    let event = CpuCount::open(tsc.expect("its event tsc"), cpu).expect("it opens");
    bpf.set_smi_event(cpu, event.as_fd()).expect("taken");
    let sources = |smi, nmi| Sources {
        smi,
        nmi,
        ..Sources::default()
    };
    let (long, short) = (Duration::from_secs(100), Duration::from_micros(50));

    bpf.set_sources(sources(0, 1)).expect("set");
    record(&mut bpf, long);
    run(&mut bpf, "nmi", 0);
    assert_eq!(record(&mut bpf, long).cause, cause::NMI);
    run(&mut bpf, "nmi", 0);
    thread::sleep(Duration::from_millis(10));
    assert_eq!(record(&mut bpf, short).cause, 0, "it came before");

    // A counter that always moves, also between the gap's end and its reading: it is left to the next gap then.
    bpf.set_sources(sources(1, 0)).expect("set");
    record(&mut bpf, long);
    let left = record(&mut bpf, Duration::from_nanos(1));
    assert_eq!((left.cause, left.smis), (0, 0), "it came after");
    let next = record(&mut bpf, long);
    assert_eq!(next.cause, cause::SMI);
    assert!(next.smis > 0);
}

/// Steal of each CPU by the kernel's own account, in ns; 10 ms is the finest it shows.
fn accounted_ns(cpu: u32) -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let name = format!("cpu{cpu} ");
    let line = stat
        .lines()
        .find(|line| line.starts_with(&name))
        .expect("a line of the CPU");
    let ticks: u64 = line
        .split_whitespace()
        .nth(8)
        .and_then(|steal| steal.parse().ok())
        .expect("the eighth number");
    ticks * 10_000_000
}

#[test]
fn steal_is_the_hypervisors_and_no_more_than_the_kernel_accounts() {
    let (cpu, _) = two_cpus();
    let before_ns = accounted_ns(cpu);
    let all = snapshots(&[
        "--preset=thorough",
        &format!("--cpus={cpu}"),
        "--duration=4s",
        "--max-gap-records=100000",
    ]);
    let last = all.last().expect("a snapshot");
    let counted = last.cpus[0].steal;
    if let Err(error) = steal::Path::find() {
        println!("this machine tells no steal: {error}");
        assert_eq!((last.attribution.steal, counted), (Proof::None, None));
    } else {
        assert_eq!(last.attribution.steal, Proof::Gap);
        let counted = counted.expect("counted");
        // The kernel adds to its account at ticks, which may come after the end.
        thread::sleep(Duration::from_millis(100));
        let accounted_ns = accounted_ns(cpu) - before_ns;
        println!(
            "steal while sampling {} ms, in gaps {} ms; accounted {} ms in all",
            counted.sampled_ns / 1_000_000,
            counted.in_gaps_ns / 1_000_000,
            accounted_ns / 1_000_000
        );
        assert!(counted.sampled_ns <= accounted_ns + 20_000_000);
        assert!(counted.in_gaps_ns <= counted.sampled_ns);
        // Where the hypervisor takes much, it takes some of it from three quarters of the time.
        assert!(counted.sampled_ns > 0 || accounted_ns < 200_000_000);
    }
    // What the hypervisor took within a gap is no more than the gap, whatever it took before.
    for gap in all.iter().flat_map(|one| &one.gaps) {
        let steal = gap.cause.to_string().contains("steal");
        let share = gap.steal_ns as f64 / gap.duration_ns as f64;
        assert!(!steal || (0.45..1.3).contains(&share), "{gap:?}");
        assert!(steal || !(0.55..1.2).contains(&share), "{gap:?}");
    }
}
