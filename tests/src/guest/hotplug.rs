//! A CPU goes offline and comes back while it is watched.

use std::{
    fs, thread,
    time::{Duration, SystemTime},
};

use smi_user::{kernel::sched, model::Snapshot};

use super::{
    smi,
    state::{State, TRACING},
    watch::Watch,
};

const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

const LENGTH: Duration = Duration::from_millis(5);

/// SMIs while the CPU is there, before it goes and after it is back.
const SMIS: u32 = 20;

/// Fires them; how many found interrupts off, as they are while the CPU is sampled.
fn fire() -> usize {
    let handler = smi::handler_count();
    smi::set_length(LENGTH);
    for fired in 0..SMIS {
        thread::sleep(Duration::from_millis(40 + u64::from(fired * 37 % 50)));
        smi::fire_on(1);
        smi::wait_for(handler + fired + 1);
    }
    let smis = smi::records(handler);
    assert_eq!(smis.len(), SMIS as usize);
    smis.iter().filter(|smi| !smi.interrupts_on).count()
}

/// CPU 1 is watched while it goes and comes back: gaps of an SMI's length are seen before and after.
fn watch_going_and_coming(detector: &str) {
    sched::set_affinity([0]).expect("affinity");
    let argument = format!("--detector={detector}");
    let watch = Watch::start(&[
        &argument,
        "--mode=per-cpu",
        "--cpus=1",
        "--width=40ms",
        "--window=50ms",
        "--irqs-off-max=10ms",
        "--threshold=1ms",
        "--max-gap-records=10000",
    ]);
    let inside_before = fire();
    let gone = SystemTime::now();
    fs::write(SWITCH, "0").expect("offline");
    thread::sleep(Duration::from_secs(2));
    fs::write(SWITCH, "1").expect("online");
    let back = SystemTime::now();
    thread::sleep(Duration::from_secs(2));
    let inside_after = fire();
    let told = watch.end();
    assert!(told.status.success(), "{}: {}", told.status, told.words);
    let place = |what: &str| told.words.find(what);
    let went = place("CPU 1 went offline");
    assert!(
        went.is_some() && went < place("CPU 1 is back online"),
        "{}",
        told.words
    );
    totals_only_grow(&told.snapshots);

    let exposures: Vec<u64> = told
        .snapshots
        .iter()
        .map(|one| one.cpus[0].exposure_ns)
        .collect();
    assert!(
        exposures.windows(2).any(|pair| pair[0] == pair[1]),
        "it was watched while offline: {exposures:?}"
    );
    let long: Vec<SystemTime> = told
        .snapshots
        .iter()
        .flat_map(|one| &one.gaps)
        .filter(|gap| gap.duration_ns >= LENGTH.as_nanos() as u64)
        .map(|gap| gap.end_time.into())
        .collect();
    let before = long.iter().filter(|end| **end < gone).count();
    let after = long.iter().filter(|end| **end > back).count();
    println!(
        "    {detector}: of {SMIS} SMIs of 5 ms each, {inside_before} of them with interrupts off before and {inside_after} after, \
         {before} gaps as long before, {after} after; {} ms of exposure",
        exposures.last().expect("a snapshot") / 1_000_000,
    );
    // How many come while the CPU is sampled is the host's to say. hwlat tells the longest gap of a window, in which there may
    // be two, and interrupts are off for a moment elsewhere, too.
    for (inside, seen) in [(inside_before, before), (inside_after, after)] {
        assert!(inside >= 4 && seen * 2 >= inside, "{exposures:?}");
    }
}

/// hwlat's thread, which goes from CPU to CPU, may be on the one that goes: the kernel then gives up the mode for good.
pub(super) fn hwlat_keeps_taking_turns_when_a_cpu_goes() {
    let before = State::read();
    let watch = Watch::start(&[
        "--detector=hwlat",
        "--mode=round-robin",
        "--width=40ms",
        "--window=50ms",
        "--threshold=1ms",
    ]);
    for _ in 0..3 {
        fs::write(SWITCH, "0").expect("offline");
        thread::sleep(Duration::from_millis(700));
        fs::write(SWITCH, "1").expect("online");
        thread::sleep(Duration::from_millis(700));
    }
    let mode = fs::read_to_string(format!("{TRACING}/hwlat_detector/mode")).expect("the mode");
    assert!(mode.contains("[round-robin]"), "{mode}");
    let told = watch.end();
    assert!(told.status.success(), "{}: {}", told.status, told.words);
    let again = told.words.matches("had left the mode round-robin").count();
    println!("    the mode was set again {again} times");
    totals_only_grow(&told.snapshots);
    let last = told.snapshots.last().expect("a snapshot");
    assert!(last.cpus.iter().all(|cpu| cpu.exposure_ns > 0), "{last:?}");
    assert_eq!(State::read(), before);
}

fn totals_only_grow(all: &[Snapshot]) {
    for (earlier, later) in all.iter().zip(&all[1..]) {
        assert_eq!(earlier.cpus.len(), later.cpus.len());
        for (earlier, later) in earlier.cpus.iter().zip(&later.cpus) {
            assert!(later.exposure_ns >= earlier.exposure_ns);
            assert!(later.gaps.count >= earlier.gaps.count);
            assert!(later.windows.run >= earlier.windows.run);
            assert_eq!(later.histogram.total(), later.gaps.count);
        }
    }
}

pub(super) fn spin_goes_on_when_a_cpu_goes_and_comes_back() {
    watch_going_and_coming("spin");
}

pub(super) fn tracers_go_on_when_a_cpu_goes_and_comes_back() {
    for detector in ["osnoise", "hwlat", "hwlat-buffer"] {
        watch_going_and_coming(detector);
    }
}
