//! How many SMIs each detector sees, and how long it says they were: the same SMIs for all, one detector after the
//! other in the same machine. What comes out are the rows of `docs/accuracy.md`.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, SystemTime},
};

use smi_user::{kernel::sched, model::Gap};

use super::{
    measured::{Comparison, SLACK_NS, Seen, THRESHOLD, nanoseconds, overlap, span},
    peers::{Hwlatdetect, HwlatdetectSample, Hwnoise, Sampling},
    smi::{self, Moment, Smi},
    spin,
    symbols::Symbols,
    watch::Watch,
};

const LENGTH: Duration = Duration::from_millis(5);

/// Time sampled, and of how much.
const WIDTH: Duration = Duration::from_millis(36);
const WINDOW: Duration = Duration::from_millis(40);

/// Threshold of the tools that tell the longest gap of a window: above most of what emulated CPUs have of their own.
const WINDOW_THRESHOLD: Duration = Duration::from_millis(1);

/// SMIs of [`LENGTH`] that must have come while the detector sampled.
const INSIDE: usize = 200;

/// Where a CPU is while a tracer samples it: in its loop, or in the clock that the loop reads.
const TRACER_LOOP: [&str; 11] = [
    // hwlat's, with what the compiler put into it.
    "kthread_fn",
    "kthread_per_cpu_fn",
    "get_sample",
    // osnoise's.
    "run_osnoise",
    "osnoise_main",
    "kthread_should_stop",
    "rcu_momentary_eqs",
    // The clock's.
    "trace_clock_local",
    "sched_clock",
    "sched_clock_noinstr",
    "native_sched_clock",
];

/// An SMI that was fired, and when it was.
#[derive(Clone, Copy, Debug)]
struct Fired {
    smi: Smi,
    begin: SystemTime,
    end: SystemTime,
    /// Of [`LENGTH`], or without a length.
    is_long: bool,
    /// It came while the detector sampled.
    is_inside: bool,
}

impl Fired {
    fn length_ns(&self) -> u64 {
        nanoseconds(self.smi.end_tsc - self.smi.begin_tsc)
    }
}

/// From one SMI to the next, at least: one in a window at most.
const APART: Duration = Duration::from_millis(50);

/// The same for hwlatdetect, which takes one record each 100 ms.
const FAR_APART: Duration = Duration::from_millis(100);

/// Fires at CPU 1 until [`INSIDE`] long SMIs have come inside of what `functions` are, every ninth one without a length.
fn inject(symbols: &Symbols, functions: &[&str], apart: Duration) -> Vec<Fired> {
    sched::set_affinity([0]).expect("affinity");
    let mut fired: Vec<Fired> = Vec::new();
    let mut elsewhere: BTreeMap<String, u32> = BTreeMap::new();
    let mut inside = 0;
    while inside < INSIDE {
        assert!(
            fired.len() < 3 * INSIDE,
            "only {inside} SMIs of {} came while it sampled; the others were in {elsewhere:?}",
            fired.len()
        );
        let number = fired.len() as u64;
        // Not at a fixed distance, which might keep step with the windows.
        thread::sleep(apart + Duration::from_millis(number * 37 % 40));
        let is_long = !number.is_multiple_of(9);
        smi::set_length(if is_long { LENGTH } else { Duration::ZERO });
        let handler = smi::handler_count();
        smi::fire_on(1);
        smi::wait_for(handler + 1);
        let moment = Moment::now();
        let [smi] = smi::records(handler)[..] else {
            panic!("more than one SMI came");
        };
        let is_inside = !smi.interrupts_on && symbols.is_in(smi.rip, functions);
        if !is_inside && !smi.interrupts_on {
            *elsewhere
                .entry(symbols.name_of(smi.rip).to_owned())
                .or_default() += 1;
        }
        inside += usize::from(is_inside && is_long);
        fired.push(Fired {
            smi,
            begin: moment.wall_at(smi.begin_tsc),
            end: moment.wall_at(smi.end_tsc),
            is_long,
            is_inside,
        });
    }
    fired
}

/// A gap, or what a tool makes of a window, as it was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    end: SystemTime,
    duration_ns: u64,
}

impl From<&Gap> for Told {
    fn from(gap: &Gap) -> Self {
        Self {
            end: gap.end_time.into(),
            duration_ns: gap.duration_ns,
        }
    }
}

impl From<&HwlatdetectSample> for Told {
    fn from(sample: &HwlatdetectSample) -> Self {
        Self {
            end: sample.time,
            duration_ns: sample.inner_us.max(sample.outer_us) * 1_000,
        }
    }
}

/// What a tool tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Each gap, when it ended.
    Gaps,
    /// The longest gap of each window, dated by the first.
    Windows,
}

impl Told {
    /// How well this fits what `fired` made, the less the better; `None` when it cannot be that.
    fn misfit(&self, fired: &Fired, kind: Kind) -> Option<Duration> {
        let length = Duration::from_nanos(fired.length_ns());
        match kind {
            Kind::Gaps => {
                // It holds the SMI, but for what two clocks differ.
                let smi = fired.begin..fired.end;
                let common = overlap(&span(self.end, self.duration_ns), &smi)?;
                (common * 2 >= length).then(|| length.saturating_sub(common))
            }
            // Dated by the first gap of the window above the threshold. Tools that know no parts of a microsecond cut
            // them off.
            Kind::Windows => {
                let apart = apart(self.end, fired.end);
                let fits = apart <= WIDTH + LENGTH && self.duration_ns + 1_000 >= fired.length_ns();
                fits.then_some(apart)
            }
        }
    }
}

fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|error| error.duration())
}

/// Compares what was told with what was fired.
fn compare(kind: Kind, fired: &[Fired], told: &[Told]) -> Comparison {
    let mut comparison = Comparison::new(LENGTH);
    let mut used = vec![false; told.len()];
    let considered = |one: &&Fired| kind == Kind::Gaps || one.is_long;
    for one in fired.iter().filter(considered) {
        let found = (0..told.len())
            .filter(|place| !used[*place])
            .filter_map(|place| Some((told[place].misfit(one, kind)?, place)))
            .min()
            .map(|(_, place)| place);
        let seen = found.map(|place| Seen {
            length_ns: one.length_ns(),
            gap_ns: told[place].duration_ns,
        });
        match (one.is_inside, one.is_long, seen) {
            (true, true, Some(seen)) => comparison.seen(seen),
            (true, true, None) => comparison.missed(),
            // A window that has no SMI of a length tells of other gaps.
            (true, false, seen) if kind == Kind::Gaps => comparison.control(seen),
            (_, false, _) | (false, ..) => {}
        }
        if let Some(place) = found {
            used[place] = true;
        }
    }
    for (place, told) in told.iter().enumerate() {
        if !used[place] {
            comparison.noise(told.duration_ns);
        }
    }
    comparison
}

/// Runs a detector of smilat's. `control_ns` is what an SMI costs that does nothing, where it cannot tell that itself;
/// returns what it does tell.
fn smilat(
    symbols: &Symbols,
    detector: &str,
    kind: Kind,
    functions: &[&str],
    control_ns: Option<u64>,
) -> u64 {
    let width = format!("--width={}us", WIDTH.as_micros());
    let window = format!("--window={}us", WINDOW.as_micros());
    let threshold = match kind {
        Kind::Gaps => THRESHOLD,
        Kind::Windows => WINDOW_THRESHOLD,
    };
    let threshold = format!("--threshold={}us", threshold.as_micros());
    let watch = Watch::start(&[
        &format!("--detector={detector}"),
        "--mode=per-cpu",
        "--cpus=1",
        "--irqs-off-max=36ms",
        "--max-gap-records=100000",
        "--force",
        &width,
        &window,
        &threshold,
    ]);
    // The program's name has just been given to its code.
    let own = Symbols::read();
    let symbols = if detector == "spin" { &own } else { symbols };
    let fired = inject(symbols, functions, APART);
    let all = watch.finish();
    let told: Vec<Told> = all
        .iter()
        .flat_map(|one| &one.gaps)
        .map(Told::from)
        .collect();
    let last = all.last().expect("a snapshot");
    assert_eq!(told.len() as u64, last.cpus[0].gaps.count);
    let comparison = compare(kind, &fired, &told);
    println!("TABLE | smilat {detector} | {}", comparison.row());
    // Two in a hundred may be missed: what was in the clock's functions need not have been in the detector's loop.
    let control_ns = control_ns.unwrap_or_else(|| comparison.control_ns());
    comparison.check(INSIDE * 98 / 100, control_ns, SLACK_NS);
    control_ns
}

const SAMPLING: Sampling = Sampling {
    threshold: WINDOW_THRESHOLD,
    width: WIDTH,
    window: WINDOW,
};

/// `rtla hwnoise` counts what is above its threshold, whatever made it: nothing but SMIs may be.
const COUNTED: Duration = Duration::from_millis(4);

fn rtla_hwnoise(symbols: &Symbols) {
    let hwnoise = Hwnoise::start(Sampling {
        threshold: COUNTED,
        ..SAMPLING
    });
    let fired = inject(symbols, &TRACER_LOOP, APART);
    let report = hwnoise.finish();
    let lengths = fired
        .iter()
        .filter(|one| one.is_inside && one.is_long)
        .map(Fired::length_ns);
    let mean_ns = lengths.sum::<u64>() / INSIDE as u64;
    let told_ns = report.noise_us * 1_000 / report.hardware.max(1);
    println!(
        "TABLE | rtla hwnoise | {INSIDE} | {} | - | mean {} us | - | longest gap {} us | - | - | - |",
        report.hardware,
        told_ns.saturating_sub(mean_ns) / 1_000,
        report.max_single_us,
    );
}

fn hwlatdetect(symbols: &Symbols) {
    let hwlatdetect = Hwlatdetect::start(SAMPLING, Duration::from_secs(1));
    let fired = inject(symbols, &TRACER_LOOP, FAR_APART);
    let report = hwlatdetect.finish();
    let told: Vec<Told> = report.samples.iter().map(Told::from).collect();
    println!(
        "TABLE | hwlatdetect | {}",
        compare(Kind::Windows, &fired, &told).row()
    );
}

/// Each of them in turn, on the same machine.
pub(super) fn every_detector_sees_known_smis_as_long_as_they_are() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    println!("TABLE ");
    println!("TABLE ### Linux {}", release.trim());
    println!("TABLE ");
    println!("TABLE | detector | {} |", Comparison::COLUMNS.join(" | "));
    println!("TABLE |---|{}", "---:|".repeat(Comparison::COLUMNS.len()));
    let symbols = Symbols::read();
    let control_ns = smilat(&symbols, "spin", Kind::Gaps, &spin::LOOP, None);
    smilat(&symbols, "osnoise", Kind::Gaps, &TRACER_LOOP, None);
    smilat(
        &symbols,
        "hwlat",
        Kind::Windows,
        &TRACER_LOOP,
        Some(control_ns),
    );
    rtla_hwnoise(&symbols);
    hwlatdetect(&symbols);
}
