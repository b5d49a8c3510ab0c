//! `smilat run --detector spin` beside SMIs whose every detail is known.

use std::{
    ops::Range,
    thread,
    time::{Duration, SystemTime},
};

use smi_user::{
    kernel::sched,
    model::{Gap, Snapshot},
};

use super::{
    measured::{Comparison, RECORDING, SLACK_NS, Seen, nanoseconds, overlap, span},
    smi::{self, Moment, Smi},
    symbols::Symbols,
    watch::Watch,
};

const LENGTH: Duration = Duration::from_millis(5);

/// Where a CPU is while the spin detector watches: in the BPF program's loop, or in what that calls. In that loop it
/// records gaps as well, and reads the clock when it has done so.
pub(super) const LOOP: [&str; 5] = [
    "spin_round",
    "bpf_loop",
    "bpf_ktime_get_ns",
    "ktime_get_mono_fast_ns",
    "read_tsc",
];

/// The BPF program's own body, which calls the loop's round and does what comes before and after: whether an SMI is
/// seen there depends on the instruction.
const EDGE: [&str; 1] = ["_spin"];

/// SMIs fired at CPU 1, half of them [`LENGTH`] long, half without a length.
const SMIS: u32 = 120;

/// Fires SMIs at CPU 1 and tells by what each interrupted whether smilat must have seen it: those in a stretch, as gaps
/// of their length, and no other.
pub(super) fn every_smi_in_a_stretch_is_a_gap_of_its_length() {
    sched::set_affinity([0]).expect("affinity");
    let handler = smi::handler_count();
    let moment = Moment::now();
    let watch = Watch::start(&[
        "--detector=spin",
        "--cpus=1",
        "--mode=per-cpu",
        "--width=800ms",
        "--window=1s",
        "--irqs-off-max=100ms",
        "--threshold=100us",
        "--max-gap-records=10000",
    ]);
    let symbols = Symbols::read();
    for fired in 0..SMIS {
        // Not a fixed time, which might keep step with something.
        thread::sleep(Duration::from_millis(50 + u64::from(fired * 37 % 50)));
        smi::set_length(if is_long(fired) {
            LENGTH
        } else {
            Duration::ZERO
        });
        smi::fire_on(1);
        // Two that wait at the same time are one.
        smi::wait_for(handler + fired + 1);
    }
    let run = Run::new(&watch.finish());
    let smis = smi::records(handler);
    assert_eq!(smis.len(), SMIS as usize);
    let mut comparison = Comparison::new(LENGTH);
    let (mut outside, mut edge, mut recording) = (0, 0, 0);
    for (fired, smi) in (0..).zip(&smis) {
        let time = moment.wall_at(smi.begin_tsc)..moment.wall_at(smi.end_tsc);
        if !smi.interrupts_on && symbols.is_in(smi.rip, &EDGE) {
            edge += 1;
            continue;
        }
        let inside = !smi.interrupts_on && symbols.is_in(smi.rip, &LOOP);
        let gap = run.gap_at(&time);
        // Whoever reads this has to find out what became of the SMI.
        let place = || {
            let near = run
                .gaps
                .iter()
                .min_by_key(|gap| apart(&span_of(gap), &time));
            format!(
                "{} us before the end, {} us long, in {}, nearest {near:?} at {:?}",
                run.end
                    .duration_since(time.start)
                    .unwrap_or_default()
                    .as_micros(),
                nanoseconds(smi.end_tsc - smi.begin_tsc) / 1000,
                symbols.name_of(smi.rip),
                near.map(|gap| apart(&span_of(gap), &time)),
            )
        };
        match (inside, is_long(fired), gap) {
            (true, true, Some(gap)) => comparison.seen(seen(smi, gap)),
            (true, true, None) if run.may_be_recording(time.start) => recording += 1,
            (true, true, None) => panic!("in a stretch, and not seen: {}", place()),
            (true, false, gap) => comparison.control(gap.map(|gap| seen(smi, gap))),
            (false, true, Some(gap)) => panic!("{gap:?} is no gap of a stretch: {}", place()),
            (false, ..) => outside += 1,
        }
    }
    for gap in &run.gaps {
        let made = |smi: &Smi| {
            overlap(
                &span_of(gap),
                &(moment.wall_at(smi.begin_tsc)..moment.wall_at(smi.end_tsc)),
            )
            .is_some()
        };
        if !smis.iter().any(made) {
            comparison.noise(gap.duration_ns);
        }
    }
    println!(
        "    {} ms of exposure in {} ms; {outside} SMIs came outside of a stretch and were not seen, {edge} at its edge, \
         {recording} while a gap was recorded",
        run.exposure.as_millis(),
        run.elapsed.as_millis(),
    );
    assert!(
        recording <= comparison.count() / 10,
        "{recording} are too many for the time that recording takes"
    );
    let control_ns = comparison.control_ns();
    comparison.check(10, control_ns, SLACK_NS);
}

fn seen(smi: &Smi, gap: &Gap) -> Seen {
    Seen {
        length_ns: nanoseconds(smi.end_tsc - smi.begin_tsc),
        gap_ns: gap.duration_ns,
    }
}

/// What smilat told.
struct Run {
    end: SystemTime,
    exposure: Duration,
    elapsed: Duration,
    gaps: Vec<Gap>,
}

impl Run {
    fn new(all: &[Snapshot]) -> Self {
        let last = all.last().expect("a snapshot");
        let cpu = &last.cpus[0];
        assert_eq!(
            (cpu.records.limited, cpu.records.lost, last.gaps_dropped),
            (0, 0, 0),
            "single gaps are missing"
        );
        let gaps: Vec<Gap> = all.iter().flat_map(|one| &one.gaps).copied().collect();
        assert_eq!(gaps.len() as u64, cpu.gaps.count, "counted are others");
        Self {
            end: last.time.into(),
            exposure: Duration::from_nanos(cpu.exposure_ns),
            elapsed: Duration::from_nanos(last.elapsed_ns),
            gaps,
        }
    }

    /// The gap that lies where the SMI lay, for the greater part. Not necessarily all of it: the dates come by two
    /// clocks, and the process that ties them together may itself be interrupted between two readings.
    fn gap_at(&self, time: &Range<SystemTime>) -> Option<&Gap> {
        let length = time.end.duration_since(time.start).expect("in order");
        self.gaps
            .iter()
            .find(|gap| overlap(&span_of(gap), time).is_some_and(|common| common * 2 >= length))
    }

    /// Whether a gap ended so short a time before that it may still have been recorded, which is not watched.
    fn may_be_recording(&self, time: SystemTime) -> bool {
        self.gaps.iter().any(|gap| {
            time.duration_since(gap.end_time.into())
                .is_ok_and(|since| since < RECORDING)
        })
    }
}

fn span_of(gap: &Gap) -> Range<SystemTime> {
    span(gap.end_time.into(), gap.duration_ns)
}

/// From the begin of one to the begin of the other.
fn apart(a: &Range<SystemTime>, b: &Range<SystemTime>) -> Duration {
    a.start
        .duration_since(b.start)
        .unwrap_or_else(|error| error.duration())
}

/// Long SMIs take turns with such that do nothing.
fn is_long(number: u32) -> bool {
    number.is_multiple_of(2)
}
