//! How many SMIs each detector sees, and how long it says they were: the same SMIs for all, one detector after the
//! other in the same machine. What comes out are the rows of `docs/accuracy.md`.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use smi_user::kernel::sched;

use super::{
    measured::{Comparison, SLACK_NS, Seen, THRESHOLD},
    peers::{Hwlatdetect, Hwnoise, Sampling},
    smi::{self, Moment},
    spin,
    symbols::Symbols,
    truth::{AllTold, Fired, Kind, TRACER_LOOP, Told, WIDTH, WINDOW},
    watch::Watch,
};

const LENGTH: Duration = Duration::from_millis(5);

/// Threshold of the tools that tell the longest gap of a window: above most of what emulated CPUs have of their own.
const WINDOW_THRESHOLD: Duration = Duration::from_millis(1);

/// SMIs of [`LENGTH`] that must have come while the detector sampled.
const INSIDE: usize = 200;

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
        let one = Fired::new(smi, is_long, &moment, symbols, functions);
        if !one.is_inside && !smi.interrupts_on {
            *elsewhere
                .entry(symbols.name_of(smi.rip).to_owned())
                .or_default() += 1;
        }
        inside += usize::from(one.is_inside && is_long);
        fired.push(one);
    }
    fired
}

/// Compares what was told with what was fired.
fn compare(kind: Kind, fired: &[Fired], told: Vec<Told>) -> Comparison {
    let told = AllTold::new(kind, told);
    let mut comparison = Comparison::new(LENGTH);
    let mut used = vec![false; told.as_slice().len()];
    let considered = |one: &&Fired| kind == Kind::Gaps || one.is_long;
    let considered: Vec<&Fired> = fired.iter().filter(considered).collect();
    let found = told.of_each(considered.iter().copied());
    for (one, found) in considered.into_iter().zip(found) {
        let seen = found.map(|place| Seen {
            length_ns: one.length_ns(),
            gap_ns: told.as_slice()[place].duration_ns,
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
    for (told, used) in told.as_slice().iter().zip(used) {
        if !used {
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
    let comparison = compare(kind, &fired, told);
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
        compare(Kind::Windows, &fired, told).row()
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
