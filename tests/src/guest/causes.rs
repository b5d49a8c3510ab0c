//! SMIs of known number and time, beside what smilat puts down to them and counts of them.

use std::{
    fs, thread,
    time::{Duration, SystemTime},
};

use smi_user::{
    detector,
    kernel::sched,
    model::{Gap, Proof, SmiCounts, Snapshot},
};

use super::{
    smi::{self, Smi},
    spin,
    symbols::Symbols,
    watch::Watch,
};
use crate::{output, smilat, stderr};

/// Length of SMIs that are meant to be seen.
pub(super) const LENGTH: Duration = Duration::from_millis(5);

/// The newest snapshot's SMIs of the only CPU watched.
pub(super) fn counted(all: &[Snapshot]) -> SmiCounts {
    let last = all.last().expect("a snapshot");
    last.cpus[0].smis.expect("they are counted")
}

/// Those while it sampled, and those across gaps.
fn within(counts: &SmiCounts) -> (u64, u64) {
    let known = "the programs read the counter";
    (counts.sampled.expect(known), counts.in_gaps.expect(known))
}

pub(super) fn gaps(all: &[Snapshot]) -> Vec<Gap> {
    let gaps: Vec<Gap> = all.iter().flat_map(|one| &one.gaps).copied().collect();
    let cpu = &all.last().expect("a snapshot").cpus[0];
    assert_eq!(gaps.len() as u64, cpu.gaps.count, "{:?}", cpu.records);
    let by_cause: u64 = cpu.causes.iter().map(|of| of.count).sum();
    assert_eq!(by_cause, cpu.gaps.count);
    gaps
}

/// Fires one SMI of `length` at CPU 1, and waits for its end.
pub(super) fn fire(length: Duration) -> Smi {
    smi::set_length(length);
    let handler = smi::handler_count();
    smi::fire_on(1);
    smi::wait_for(handler + 1);
    let [smi] = smi::records(handler)[..] else {
        panic!("more than one SMI came");
    };
    smi
}

pub(super) fn a_thousand_smis_of_fire_are_a_thousand_within_the_programs() {
    const SMIS: u64 = 1000;
    smi::set_length(Duration::ZERO);
    let watch = Watch::start(&["--detector=spin", "--cpus=0", "--preset=idle"]);
    let fired = output(
        smilat()
            .args(["fire", "--yes", "--interval=0", "--cpu=0"])
            .arg(format!("--count={SMIS}")),
    );
    assert_eq!(fired.status.code(), Some(0), "{}", stderr(&fired));
    // Two snapshots more: between the last, smilat reads the counter by its programs only.
    thread::sleep(Duration::from_millis(2_500));
    let all = watch.finish();
    let [.., within, last] = &all[..] else {
        panic!("{} snapshots", all.len());
    };
    assert_eq!(within.attribution.smi, Proof::Gap);
    let [within, last] = [within, last].map(|one| one.cpus[0].smis.expect("counted"));
    println!(
        "    {SMIS} SMIs by smilat fire: {} as read by BPF programs, {} by the perf event",
        within.counted, last.counted
    );
    assert_eq!((within.counted, within.unread), (SMIS, 0));
    assert_eq!(last.counted, SMIS);
}

/// Arguments to have spin watch CPU 1 in long stretches, half of the time.
fn spin(threshold: &str) -> [&str; 8] {
    [
        "--detector=spin",
        "--mode=per-cpu",
        "--cpus=1",
        "--width=500ms",
        "--window=1s",
        "--irqs-off-max=100ms",
        "--max-gap-records=100000",
        threshold,
    ]
}

/// A step that is no gap, but long enough for an SMI, has the counter read anew.
pub(super) fn short_smis_are_not_put_down_to_the_gap_after_them() {
    const PAIRS: u64 = 150;
    sched::set_affinity([0]).expect("affinity");
    let watch = Watch::start(&spin("--threshold=4ms"));
    let symbols = Symbols::read();
    let mut inside = 0;
    for number in 0..PAIRS {
        thread::sleep(Duration::from_millis(10 + number * 37 % 20));
        for length in [Duration::from_millis(1), LENGTH] {
            inside += u64::from(in_loop(&fire(length), &symbols));
        }
    }
    let all = watch.finish();
    let floor_ns = all[0].detector.noise_floor_ns;
    assert!(2 * floor_ns < 1_000_000, "the shorter are within the noise");
    let gaps = gaps(&all);
    let counts = counted(&all);
    let by_smis = |smis| gaps.iter().filter(|gap| gap.smis == smis).count() as u64;
    println!(
        "    {PAIRS} SMIs of 1 ms, each before one of 5 ms, {inside} of them all in the loop: {counts:?}; {} gaps with one \
         SMI, {} with two",
        by_smis(1),
        by_smis(2)
    );
    assert_eq!((counts.counted, counts.unread), (2 * PAIRS, 0));
    // Half of the time is sampled.
    assert!(by_smis(1) > PAIRS / 5);
    let more = gaps.iter().filter(|gap| gap.smis > 1).count() as u64;
    // Two may wait for a CPU that the host has stopped, and be within one gap.
    assert!(more < PAIRS / 20, "{more} gaps with more than one SMI");
    // The shorter ones are within sampled time as well, and most of them in no gap: the host lengthens some.
    let (sampled, in_gaps) = within(&counts);
    assert!(sampled >= inside * 9 / 10);
    assert!(sampled > in_gaps + in_gaps / 5);
}

/// Whether the CPU was reading its clock for spin.
fn in_loop(smi: &Smi, symbols: &Symbols) -> bool {
    !smi.interrupts_on && symbols.is_in(smi.rip, &spin::LOOP)
}

/// SMIs while the detector samples and while it does not; what each interrupted tells which are which.
pub(super) fn smis_inside_and_outside_of_sampling_add_up() {
    const SMIS: u32 = 500;
    sched::set_affinity([0]).expect("affinity");
    let handler = smi::handler_count();
    let watch = Watch::start(&spin("--threshold=100us"));
    let symbols = Symbols::read();
    smi::set_length(Duration::from_millis(1));
    for fired in 0..SMIS {
        thread::sleep(Duration::from_millis(10 + u64::from(fired) * 37 % 20));
        smi::fire_on(1);
        smi::wait_for(handler + fired + 1);
    }
    let all = watch.finish();
    let counts = counted(&all);
    let smis = smi::records(handler);
    let inside = smis.iter().filter(|smi| in_loop(smi, &symbols)).count() as u64;
    // With interrupts off, but not in the loop: as likely as not the program around it.
    let elsewhere = |smi: &&Smi| !smi.interrupts_on && !in_loop(smi, &symbols);
    let elsewhere = smis.iter().filter(elsewhere).count() as u64;
    let across: u64 = gaps(&all).iter().map(|gap| gap.smis).sum();
    println!(
        "    {SMIS} SMIs, {inside} of them in the loop and {elsewhere} elsewhere with interrupts off: {counts:?}, {across} \
         across single gaps"
    );
    assert_eq!((counts.counted, counts.unread), (u64::from(SMIS), 0));
    // All: those in the loop and those not, but for the few that came where it is begun and ended, and for those after
    // which the host stopped the emulator, so that nothing is put down to their gap.
    let (sampled, in_gaps) = within(&counts);
    assert!(sampled <= inside + elsewhere);
    assert!(sampled >= inside * 98 / 100);
    // Each is ten times as long as the threshold.
    assert_eq!(in_gaps, across);
    assert!((inside * 98 / 100..=sampled).contains(&in_gaps));
    assert!(inside > u64::from(SMIS) / 5, "too few to tell");
}

/// By the module's file, and by a detector whose records are read from a buffer.
pub(super) fn a_counter_that_is_no_perf_event_is_compared_by_the_interval() {
    const SMIS: u64 = 50;
    sched::set_affinity([0]).expect("affinity");
    let mut ways = vec![("--counter=msr-device", "--detector=spin")];
    if detector::choose(detector::Choice::HwlatBuffer).is_ok() {
        ways.push(("--counter=auto", "--detector=hwlat-buffer"));
    }
    for (counter, detector) in ways {
        let watch = Watch::start(&[
            counter,
            detector,
            "--mode=per-cpu",
            "--cpus=1",
            "--width=80ms",
            "--window=100ms",
            "--threshold=1ms",
        ]);
        for number in 0..SMIS {
            thread::sleep(Duration::from_millis(20 + number * 37 % 20));
            fire(LENGTH);
        }
        let told = watch.end();
        assert!(told.status.success(), "{}", told.words);
        let last = told.snapshots.last().expect("a snapshot");
        assert_eq!(last.attribution.smi, Proof::Interval);
        let times = told.words.matches("attribution = interval").count();
        assert_eq!(times, 1, "{}", told.words);
        let cpu = &last.cpus[0];
        let counts = cpu.smis.expect("counted");
        assert_eq!((counts.counted, counts.sampled), (SMIS, None));
        assert!(cpu.gaps.count > SMIS / 4, "{:?}", cpu.gaps);
        let of_smis = cpu.causes.iter().filter(|of| of.cause.has_smi()).count();
        assert_eq!(of_smis, 0, "{:?}", cpu.causes);
    }
}

/// Off for so long that it is noticed, and so short a time that it is not, but for what the counter then says.
pub(super) fn smis_are_counted_again_when_a_cpu_is_back() {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
    const SMIS: u64 = 20;
    sched::set_affinity([0]).expect("affinity");
    let watch = Watch::start(&spin("--threshold=1ms"));
    let fire_all = || {
        for _ in 0..SMIS {
            thread::sleep(Duration::from_millis(30));
            fire(LENGTH);
        }
    };
    let mut last_back = SystemTime::now();
    for off in [Duration::from_millis(500), Duration::ZERO] {
        fire_all();
        // A stretch more, which reads the counter.
        thread::sleep(Duration::from_millis(1_100));
        fs::write(SWITCH, "0").expect("offline");
        thread::sleep(off);
        fs::write(SWITCH, "1").expect("online");
        // Stretches whose readings fail, and two snapshots: the second sees that the counter's clock stands still.
        thread::sleep(Duration::from_millis(4_500));
        last_back = SystemTime::now();
    }
    fire_all();
    let told = watch.end();
    assert!(told.status.success(), "{}", told.words);
    let counts = counted(&told.snapshots);
    println!(
        "    {SMIS} SMIs before CPU 1 went offline, {SMIS} before it did so again, and {SMIS} after: {counts:?}"
    );
    assert!(
        told.words.contains("SMIs of CPU 1 are not counted"),
        "{}",
        told.words
    );
    assert_eq!(counts.counted, 3 * SMIS, "{}", told.words);
    let proven = |gap: &&Gap| gap.cause.has_smi() && SystemTime::from(gap.end_time) > last_back;
    assert!(
        gaps(&told.snapshots).iter().any(|gap| proven(&gap)),
        "none is a gap's cause any more"
    );
}
