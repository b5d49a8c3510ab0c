//! Causes of gaps, as far as this machine can make them: no SMI can be fired here, so another counter of the CPU's, which
//! always moves, stands in for that of SMIs. Steal is the hypervisor's, when it has other work.

use std::{fs, time::Duration};

use smi_common::{GapRecord, Knobs, Sources, cause};
use smi_user::{
    kernel::{perf::count::CpuCount, pmu::Pmu, steal},
    model::Proof,
};
use tests::{Lab, snapshots, two_cpus};

/// Longer steps are gaps; on any machine there are some in a second.
const THRESHOLD_NS: u64 = 2_000;

/// Runs stretches with the TSC of `counted` in the place of SMIs of the CPU that is watched; what came of it.
fn watch_with_tsc(of_other_cpu: bool) -> (Lab, Vec<GapRecord>) {
    let (cpu, other) = two_cpus();
    let tsc = Pmu::find("msr")
        .expect("the msr PMU")
        .event("tsc")
        .expect("its event tsc");
    let event = CpuCount::open(tsc, if of_other_cpu { other } else { cpu }).expect("it opens");
    let mut lab = Lab::new(
        "spin",
        cpu,
        Knobs {
            threshold_ns: THRESHOLD_NS,
            records_per_s: 1_000_000,
            interval: 1,
            look_ns: 0,
        },
    );
    lab.bpf
        .set_smi_event(cpu, std::os::fd::AsFd::as_fd(&event))
        .expect("the map takes it");
    lab.bpf
        .set_sources(Sources {
            smi: 1,
            ..Sources::default()
        })
        .expect("set");
    let mut gaps = Vec::new();
    while gaps.len() < 20 {
        lab.stretch(Duration::from_millis(20));
        lab.bpf.take_gaps(|gap| gaps.push(gap));
    }
    (lab, gaps)
}

#[test]
fn a_gap_is_compared_with_the_counter_of_its_own_cpu() {
    let (lab, gaps) = watch_with_tsc(false);
    let stats = lab.bpf.stats().expect("stats")[lab.cpu as usize];
    assert_eq!(stats.counted.smi_unread, 0);
    assert_eq!(stats.causes[cause::SMI as usize].count, stats.gaps.count);
    let across: u64 = gaps.iter().map(|gap| gap.smis).sum();
    assert_eq!(stats.counted.smis.in_gaps, across);
    assert!(stats.counted.smis.sampled > across);
    // No TSC is slower than the clock that is made from it counts ns, half a GHz apart; and each gap is compared with
    // what came before it in its stretch too.
    for gap in &gaps {
        assert_eq!(gap.cause, cause::SMI);
        assert!(gap.smis > gap.duration_ns / 2, "{gap:?}");
    }
}

#[test]
fn a_counter_that_cannot_be_read_proves_nothing_and_is_told() {
    let (lab, gaps) = watch_with_tsc(true);
    let stats = lab.bpf.stats().expect("stats")[lab.cpu as usize];
    assert!(stats.counted.smi_unread > gaps.len() as u64);
    assert_eq!(stats.counted.smis.sampled, 0);
    assert!(gaps.iter().all(|gap| (gap.cause, gap.smis) == (0, 0)));
    assert_eq!(stats.causes[0].count, stats.gaps.count);
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
        std::thread::sleep(Duration::from_millis(100));
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
    for gap in all.iter().flat_map(|one| &one.gaps) {
        let steal = gap.cause.to_string().contains("steal");
        let proven = gap.steal_ns > 0 && gap.steal_ns >= gap.duration_ns / 2;
        assert_eq!(steal, proven, "{gap:?}");
    }
}
