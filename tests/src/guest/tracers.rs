//! The detectors that drive the kernel's own tracers tell what the tracers saw.

use std::{fs, thread, time::Duration};

use smi_user::{
    attribution::Attribution,
    bpf::Bpf,
    collector::Collector,
    counter,
    detector::{Detector as _, osnoise::Osnoise},
    kernel::sched,
    model::{Gap, GapKind, Snapshot},
};

use super::{
    settings, smi,
    state::{State, TRACING},
    watch::Watch,
};

/// SMIs fired while a detector watches, well inside the noise's reach.
const LENGTH: Duration = Duration::from_millis(5);

/// Fires `count` SMIs of [`LENGTH`] at CPU 1; `each` is called before each of them with its number.
fn fire(count: u32, each: impl Fn(u32)) {
    smi::set_length(LENGTH);
    let handler = smi::handler_count();
    for fired in 0..count {
        thread::sleep(Duration::from_millis(20 + u64::from(fired * 37 % 40)));
        each(fired);
        smi::fire_on(1);
        smi::wait_for(handler + fired + 1);
    }
}

/// Watches CPU 1 for most of the time.
fn watch(detector: &str, mode: &str) -> Watch {
    sched::set_affinity([0]).expect("affinity");
    Watch::start(&[
        &format!("--detector={detector}"),
        &format!("--mode={mode}"),
        "--cpus=1",
        "--width=15ms",
        "--window=20ms",
        "--threshold=100us",
        "--max-gap-records=10000",
    ])
}

/// One record of hwlat, with everything that is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    cpu: u32,
    inner_us: u64,
    outer_us: u64,
    /// Wall clock, in us: the kernel's time stamp passes through the monotonic clock on its way.
    at_us: u64,
    steps_over: u64,
    nmi_us: u64,
    nmi_count: u64,
}

impl Record {
    fn told(gap: &Gap) -> Self {
        let window = gap.window.expect("hwlat's record");
        assert_eq!(gap.duration_ns, window.inner_ns.max(window.outer_ns));
        Self {
            cpu: gap.cpu,
            inner_us: window.inner_ns / 1000,
            outer_us: window.outer_ns / 1000,
            at_us: gap.end_time.as_microsecond().cast_unsigned(),
            steps_over: window.steps_over,
            nmi_us: window.nmi_ns / 1000,
            nmi_count: window.nmi_count,
        }
    }

    /// `NAME-PID [001] … inner/outer(us): 12/ 34 ts:1.000000005 count:5 nmi-total:6 nmi-count:7`, the last two only
    /// where there was an NMI (`trace_hwlat_print` in `kernel/trace/trace_output.c`).
    fn of_text(line: &str) -> Option<Self> {
        let (head, rest) = line.split_once("inner/outer(us):")?;
        let (durations, rest) = rest.split_once("ts:")?;
        let (inner, outer) = durations.split_once('/')?;
        let (at, _) = rest.split_once(' ')?;
        let (at_s, at_ns) = at.split_once('.')?;
        let (_, cpu) = head.split_once('[')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let field = |name: &str| {
            let mut words = rest.split_whitespace();
            words.find_map(|word| number(word.strip_prefix(name)?))
        };
        Some(Self {
            cpu: cpu.split(']').next()?.parse().ok()?,
            inner_us: number(inner)?,
            outer_us: number(outer)?,
            at_us: number(at_s)? * 1_000_000 + number(at_ns)? / 1000,
            steps_over: field("count:")?,
            nmi_us: field("nmi-total:").unwrap_or(0),
            nmi_count: field("nmi-count:").unwrap_or(0),
        })
    }

    /// All that wait in the trace buffer of smilat's instance, the oldest first.
    fn traced() -> Vec<Self> {
        let trace = format!("{TRACING}/instances/smilat/trace");
        let text = fs::read_to_string(trace).expect("trace");
        text.lines().filter_map(Self::of_text).collect()
    }

    /// The same but for the time stamp, which may be off by what reading two clocks takes.
    fn is_told_by(&self, told: &Self) -> bool {
        let at_us = self.at_us;
        Self { at_us, ..*told } == *self && told.at_us.abs_diff(at_us) < 1_000
    }
}

/// Records to compare, at least.
const RECORDS: usize = 100;

/// What smilat tells of hwlat's windows is what the kernel's own text says of them, record by record and field by
/// field. `told` and `traced` begin with the same record.
fn compare(name: &str, last: &Snapshot, told: &[Record], traced: &[Record]) {
    assert_eq!(last.detector.name, "hwlat");
    assert_eq!(last.detector.gap_kind, GapKind::WindowMax);
    // Windows may end between the reading of the trace and the end of the run.
    assert!(told.len() >= traced.len(), "{} told", told.len());
    for (told, traced) in told.iter().zip(traced) {
        assert!(traced.is_told_by(told), "{traced:?} was told as {told:?}");
    }
    let with_nmi = traced.iter().filter(|record| record.nmi_count > 0).count();
    let cpu = &last.cpus[0];
    let longest = |record: &&Record| record.inner_us.max(record.outer_us);
    let long = told
        .iter()
        .filter(|record| longest(record) >= 5_000)
        .count();
    println!(
        "    {name}: {} records equal the trace buffer's in every field, {with_nmi} of them with NMIs; {long} of {} over \
         5 ms; {} windows, {} ms of exposure in {} ms",
        traced.len(),
        told.len(),
        cpu.windows.run,
        cpu.exposure_ns / 1_000_000,
        last.elapsed_ns / 1_000_000,
    );
    assert!(with_nmi > 0, "no NMI was seen");
    assert!(long >= RECORDS / 5, "SMIs are missing");
    assert!(cpu.exposure_ns > 0 && cpu.windows.run > 0, "{cpu:?}");
}

fn single(all: &[Snapshot]) -> Vec<Gap> {
    all.iter().flat_map(|one| &one.gaps).copied().collect()
}

/// Fires SMIs, every fifth one with an NMI, until there are [`RECORDS`] of them in the trace buffer; all that are there.
fn fire_with_nmis() -> Vec<Record> {
    for _ in 0..20 {
        fire(30, |fired| {
            if fired.is_multiple_of(5) {
                smi::fire_nmi_on(1);
            }
        });
        let traced = Record::traced();
        if traced.len() >= RECORDS {
            return traced;
        }
    }
    panic!("600 SMIs left {} records only", Record::traced().len());
}

pub(super) fn hwlat_by_breakpoint_agrees_with_the_trace_buffer() {
    for mode in ["per-cpu", "round-robin", "none"] {
        let watch = watch("hwlat", mode);
        let traced = fire_with_nmis();
        let all = watch.finish();
        let told: Vec<Record> = single(&all).iter().map(Record::told).collect();
        let last = all.last().expect("a snapshot");
        assert_eq!(last.cpus[0].gaps.count, told.len() as u64);
        compare(&format!("hwlat, {mode}"), last, &told, &traced);
    }
}

/// Reading empties the buffer, so smilat is stopped while records gather in it; it must tell them all when it goes on.
pub(super) fn hwlat_by_buffer_agrees_with_the_trace_buffer() {
    for mode in ["per-cpu", "round-robin", "none"] {
        let watch = watch("hwlat-buffer", mode);
        watch.signal(libc::SIGSTOP);
        let traced = fire_with_nmis();
        watch.signal(libc::SIGCONT);
        let all = watch.finish();
        let told: Vec<Record> = single(&all).iter().map(Record::told).collect();
        let last = all.last().expect("a snapshot");
        assert_eq!(last.cpus[0].gaps.count, told.len() as u64);
        let first = traced.first().expect("a record");
        let begin = told.iter().position(|told| first.is_told_by(told));
        let begin = begin.unwrap_or_else(|| panic!("{first:?} was not told: {told:?}"));
        compare(
            &format!("hwlat-buffer, {mode}"),
            last,
            &told[begin..],
            &traced,
        );
    }
}

/// With interrupts off, osnoise reports each SMI as one gap.
pub(super) fn osnoise_tells_smis() {
    const SMIS: u32 = 60;
    let watch = watch("osnoise", "per-cpu");
    fire(SMIS, |_| ());
    let all = watch.finish();
    let gaps = single(&all);
    let long = gaps
        .iter()
        .filter(|gap| gap.duration_ns >= 5_000_000)
        .count();
    let last = all.last().expect("a snapshot");
    let cpu = &last.cpus[0];
    println!(
        "    osnoise: {SMIS} SMIs, {long} gaps of 5 ms and more among {}; {} windows, {} ms of exposure in {} ms",
        gaps.len(),
        cpu.windows.run,
        cpu.exposure_ns / 1_000_000,
        last.elapsed_ns / 1_000_000,
    );
    // Of those that come while three quarters of the time are watched.
    assert!(long >= SMIS as usize / 2, "{gaps:?}");
    assert_eq!(gaps.len() as u64, cpu.gaps.count);
}

/// As on kernels whose osnoise tracer cannot keep interrupts off (5.15): here it is told not to.
pub(super) fn osnoise_with_interrupts_on_estimates_smis() {
    const SMIS: u32 = 60;
    sched::set_affinity([0]).expect("affinity");
    let before = State::read();
    // Before the tracer runs: to switch an event on, the kernel replaces an instruction of the tracer's loop, which a CPU
    // that is just there does not always survive where it is emulated.
    let instance = format!("{TRACING}/instances/raw");
    fs::create_dir(&instance).expect("an instance");
    fs::write(
        format!("{instance}/events/osnoise/sample_threshold/enable"),
        "1",
    )
    .expect("the event");
    let detector = Osnoise { estimate: true };
    let settings = settings::of_cpu_1(Duration::from_millis(15), Duration::from_millis(20));
    let mut bpf = Bpf::load(1).expect("the object loads");
    let attribution =
        Attribution::start(&mut bpf, counter::Choice::Auto, &settings.cpus).expect("it starts");
    let running = detector.start(&mut bpf, &settings).expect("it starts");
    let mut collector = Collector::new(bpf, running, attribution, &detector, &settings);
    let options = fs::read_to_string(format!("{TRACING}/osnoise/options")).expect("the options");
    assert!(options.contains("NO_OSNOISE_IRQ_DISABLE"), "{options}");
    let warnings = collector.warnings();
    assert!(
        warnings
            .iter()
            .any(|told| told.contains("gaps are estimates")),
        "{warnings:?}"
    );
    fire(SMIS, |_| ());
    // In this order, what is estimated is part of what is in the trace.
    let seen = collector.snapshot().expect("the maps");
    let trace = fs::read_to_string(format!("{instance}/trace")).expect("trace");
    let (_, stopped) = collector.finish().expect("the maps");
    stopped.expect("it stops");
    fs::remove_dir(&instance).expect("removed");
    // `sample_threshold: start 12.345678901 duration 5055589 ns interference 2`
    let raw: Vec<u64> = trace
        .lines()
        .filter_map(|line| {
            let (_, rest) = line
                .split_once("sample_threshold:")?
                .1
                .split_once("duration ")?;
            rest.split(' ').next()?.parse().ok()
        })
        .collect();
    let at_least = |all: &[u64], ns: u64| -> Vec<u64> {
        all.iter().copied().filter(|one| *one >= ns).collect()
    };
    let estimates: Vec<u64> = seen.gaps.iter().map(|gap| gap.duration_ns).collect();
    // What follows an SMI at once, such as the timer's interrupt, is taken off, and no more than that.
    let (long, raw_smis) = (at_least(&estimates, 4_500_000), at_least(&raw, 5_000_000));
    let raw_long = at_least(&raw, 4_500_000);
    let sum_us = |all: &[u64]| all.iter().sum::<u64>() / 1_000;
    println!(
        "    osnoise, interrupts on: {SMIS} SMIs of 5 ms, {} gaps of 4.5 ms and more, {} us in all, out of {} stretches of {} us",
        long.len(),
        sum_us(&long),
        raw_long.len(),
        sum_us(&raw_long),
    );
    assert!(raw_smis.len() >= SMIS as usize / 2, "{trace}");
    assert!(long.len() * 10 >= raw_smis.len() * 8, "{long:?} of {raw:?}");
    assert!(sum_us(&long) < sum_us(&raw_long), "nothing was taken off");
    assert_eq!(State::read(), before);
}
