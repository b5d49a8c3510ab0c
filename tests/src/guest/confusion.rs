//! What smilat calls each gap beside what made it: SMIs, NMIs, stops from outside, or nothing. What comes out are the rows of
//! causes in `docs/accuracy.md`.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use smi_user::{
    detector::{self, Availability},
    kernel::sched,
};

use super::{
    causes::{LENGTH, counted, fire, gaps},
    host,
    measured::{RECORDING, cycles},
    smi::{self, Moment},
    state::TRACING,
    symbols::Symbols,
    truth::TRACER_LOOP,
    watch::Watch,
};
use crate::wait_until;

/// How the names of the threads begin in which the kernel's tracers sample.
const TRACERS: [&str; 2] = ["hwlatd", "osnoise/"];

/// The kernel's own record of NMIs, and of the turns of the tracers' threads, on CPU 1, by the TSC.
struct Truth(PathBuf);

impl Truth {
    fn begin() -> Self {
        let instance = Path::new(TRACING).join("instances/truth");
        fs::create_dir(&instance).expect("an instance");
        let truth = Self(instance);
        truth.write("trace_clock", "x86-tsc");
        truth.write("buffer_size_kb", "8192");
        truth.write("events/nmi/nmi_handler/enable", "1");
        let turns =
            TRACERS.map(|comm| format!("prev_comm ~ \"{comm}*\" || next_comm ~ \"{comm}*\""));
        truth.write("events/sched/sched_switch/filter", &turns.join(" || "));
        truth.write("events/sched/sched_switch/enable", "1");
        truth
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).expect(file);
    }

    /// The lines that have `mark`, each with the TSC of its event.
    fn lines(&self, mark: &str) -> Vec<(u64, String)> {
        let text = fs::read_to_string(self.0.join("per_cpu/cpu1/trace")).expect("the trace");
        assert!(!text.contains("LOST"), "the trace has holes");
        text.lines()
            .filter(|line| line.contains(mark))
            .map(|line| {
                let tsc = line
                    .split_whitespace()
                    .find_map(|word| word.strip_suffix(':')?.parse().ok());
                (
                    tsc.unwrap_or_else(|| panic!("no time in {line}")),
                    line.to_owned(),
                )
            })
            .collect()
    }

    /// When the handlers of NMIs ended.
    fn nmis(&self) -> Vec<u64> {
        let lines = self.lines(": nmi_handler:");
        lines.into_iter().map(|(tsc, _)| tsc).collect()
    }

    /// The turns of a tracer's thread that have ended.
    fn turns(&self) -> Vec<Range<u64>> {
        let mut turns = Vec::new();
        let mut began = None;
        for (tsc, line) in self.lines(": sched_switch:") {
            let is = |which: &str| {
                TRACERS
                    .iter()
                    .any(|comm| line.contains(&format!("{which}={comm}")))
            };
            if is("prev_comm")
                && let Some(began) = began.take()
            {
                turns.push(began..tsc);
            }
            if is("next_comm") {
                began = Some(tsc);
            }
        }
        turns
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.0);
    }
}

/// What was made to happen on CPU 1, by its TSC.
#[derive(Clone, Copy, Debug)]
struct Event {
    cause: &'static str,
    begin_tsc: u64,
    /// An NMI is known by the end of its handler alone.
    end_tsc: u64,
    /// It was an SMI, and found the CPU elsewhere than in a tracer's loop.
    is_elsewhere: bool,
}

/// SMIs and NMIs, of each so many, fired while a detector watches.
const EACH: usize = 200;

/// Stops of the whole machine from outside, and how long they are.
const STOPS: usize = 40;
const STOP: Duration = Duration::from_millis(20);

/// Makes all of that happen, the first two to CPU 1, in turn.
fn make(truth: &Truth) -> Vec<Event> {
    let symbols = Symbols::read();
    let mut events = Vec::new();
    for number in 0..2 * EACH {
        // Not at a fixed distance, which might keep step with the windows.
        let pause = Duration::from_millis(50 + number as u64 * 37 % 40);
        if number % (2 * EACH / STOPS) == 0 {
            thread::sleep(pause);
            let stop = host::stop(STOP);
            events.push(Event {
                cause: "stop",
                begin_tsc: stop.start,
                end_tsc: stop.end,
                is_elsewhere: false,
            });
        }
        thread::sleep(pause);
        events.push(if number % 2 == 0 {
            let smi = fire(LENGTH);
            Event {
                cause: "smi",
                begin_tsc: smi.begin_tsc,
                end_tsc: smi.end_tsc,
                is_elsewhere: !symbols.is_in(smi.rip, &TRACER_LOOP),
            }
        } else {
            smi::fire_nmi_on(1);
            let before = number / 2;
            let mut nmis = Vec::new();
            wait_until("the NMI", || {
                nmis = truth.nmis();
                nmis.len() > before
            });
            assert_eq!(nmis.len(), before + 1, "an NMI runs one handler here");
            Event {
                cause: "nmi",
                begin_tsc: nmis[before],
                end_tsc: nmis[before],
                is_elsewhere: false,
            }
        });
    }
    events
}

/// What became of an event, by the time for which a gap, or the window it stands for, was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inside,
    Edge,
    Outside,
}

/// What happened is known by one clock and what was watched by another; they agree to within this.
const CLOCKS: Duration = Duration::from_micros(100);

/// Where `event` lies by a gap from `begin` to `end`, when the one before it ended at `last_end`.
fn by_gap(event: &Event, begin: u64, end: u64, last_end: u64) -> Place {
    let recorded = |end: u64| end..end + cycles(RECORDING);
    let middle = event.begin_tsc.midpoint(event.end_tsc);
    // osnoise's next gap may begin at once.
    let follows = begin.abs_diff(last_end) < cycles(CLOCKS);
    if (begin..end).contains(&middle) && !(follows && recorded(begin).contains(&event.begin_tsc)) {
        Place::Inside
    } else if recorded(end).contains(&event.begin_tsc)
        || event.begin_tsc < end && recorded(last_end).contains(&event.begin_tsc)
        // What ends a moment before a gap, or within it, may be that gap or what came right before it.
        || event.begin_tsc < end && begin < event.end_tsc + cycles(CLOCKS)
    {
        Place::Edge
    } else {
        Place::Outside
    }
}

/// Whether `event` came in a turn of osnoise's thread but before its loop, and the gap that began at `begin` is the first that the
/// tracer reports since. What it does not report is put down to what it reports next (ARCHITECTURE.md).
fn came_before_the_loop(event: &Event, begin: u64, last_end: u64, turns: &[Range<u64>]) -> bool {
    let since_last = last_end..begin;
    let starts =
        |turn: &Range<u64>| (turn.start..turn.start + cycles(RECORDING)).contains(&event.begin_tsc);
    event.is_elsewhere && since_last.contains(&event.begin_tsc) && turns.iter().any(starts)
}

/// Where `event` lies by a window of hwlat's that was sampled within `turn`.
fn by_turn(event: &Event, turn: &Range<u64>) -> Place {
    let margin = cycles(CLOCKS);
    let sampled = turn.start + margin..turn.start + cycles(WIDTH);
    if sampled.contains(&event.begin_tsc) && sampled.contains(&event.end_tsc) {
        Place::Inside
    } else if event.end_tsc < turn.start - margin || turn.end + margin < event.begin_tsc {
        Place::Outside
    } else {
        Place::Edge
    }
}

/// What a detector samples, of how much.
const WIDTH: Duration = Duration::from_millis(36);

const EDGE: &str = "at the edge";
const NOTHING: &str = "nothing";

/// Gaps by what was made and by what smilat says.
#[derive(Default)]
struct Matrix(BTreeMap<(&'static str, String), usize>);

impl Matrix {
    const SAID: [&str; 4] = ["smi", "nmi", "smi+nmi", "unknown"];

    fn of(&self, made: &str, said: &str) -> usize {
        let is = |key: &(&str, String)| key.0 == made && key.1 == said;
        self.0
            .iter()
            .filter(|(key, _)| is(key))
            .map(|(_, count)| count)
            .sum()
    }

    /// Prints the rows of `docs/accuracy.md`, and checks that everything is where it belongs.
    fn check(&self, detector: &str) {
        let rows = [
            ("smi", "smi", EACH / 2),
            ("nmi", "nmi", EACH / 2),
            // Not all of a stop lies in what hwlat sampled of its window.
            ("stop", "unknown", STOPS / 20),
            (NOTHING, "unknown", 0),
        ];
        for made in ["smi", "nmi", "stop", NOTHING, EDGE] {
            let cells = Self::SAID.map(|said| self.of(made, said).to_string());
            println!(
                "CAUSES | smilat {detector} | {made} | {} |",
                cells.join(" | ")
            );
        }
        let listed: usize = ["smi", "nmi", "stop", NOTHING, EDGE]
            .iter()
            .flat_map(|made| Self::SAID.map(|said| self.of(made, said)))
            .sum();
        assert_eq!(listed, self.0.values().sum::<usize>(), "{:?}", self.0);
        for (made, right, least) in rows {
            let of_right = self.of(made, right);
            // Nine tenths of the time are sampled.
            assert!(of_right > least, "{made}: {:?}", self.0);
            for said in Self::SAID {
                // Nothing is called what it is not. What is proven is less than what is: where the host stops the
                // emulator after a gap, nothing is put down to that gap.
                let allowed = match said {
                    _ if said == right => of_right,
                    "unknown" => of_right / 20,
                    _ => 0,
                };
                assert!(
                    self.of(made, said) <= allowed,
                    "{detector}: {made} was called {said}: {:?}",
                    self.0
                );
            }
        }
        let edge: usize = ["smi", "nmi", "smi+nmi"]
            .map(|said| self.of(EDGE, said))
            .iter()
            .sum();
        assert!(edge < EACH / 2, "{:?}", self.0);
    }
}

/// Watches by `detector` while SMIs and NMIs are fired.
fn confusion(detector: &str) {
    sched::set_affinity([0]).expect("affinity");
    let truth = Truth::begin();
    let width = format!("--width={}us", WIDTH.as_micros());
    let watch = Watch::start(&[
        &format!("--detector={detector}"),
        "--mode=per-cpu",
        "--cpus=1",
        &width,
        "--window=40ms",
        "--irqs-off-max=36ms",
        "--threshold=50us",
        "--max-gap-records=100000",
        "--force",
    ]);
    let before = Moment::now();
    let events = make(&truth);
    let after = Moment::now();
    let all = watch.finish();
    let turns = truth.turns();
    let mut matrix = Matrix::default();
    let mut last_end = 0;
    for gap in &gaps(&all) {
        let end = Moment::tsc_between(&before, &after, gap.end_time.into());
        let begin = end - cycles(Duration::from_nanos(gap.duration_ns));
        let last_end_before = std::mem::replace(&mut last_end, end);
        let places: Vec<(Place, &str)> = if gap.window.is_some() {
            // The record stands for a window, and is dated somewhere in it.
            let Some(turn) = turns.iter().find(|turn| turn.contains(&end)) else {
                continue;
            };
            events
                .iter()
                .map(|event| (by_turn(event, turn), event.cause))
                .collect()
        } else {
            events
                .iter()
                .map(|event| {
                    let before_loop = came_before_the_loop(event, begin, last_end_before, &turns);
                    let place = match by_gap(event, begin, end, last_end_before) {
                        Place::Outside if before_loop => Place::Edge,
                        place => place,
                    };
                    (place, event.cause)
                })
                .collect()
        };
        let near: Vec<&(Place, &str)> = places
            .iter()
            .filter(|(place, _)| *place != Place::Outside)
            .collect();
        let made = match near[..] {
            [] => NOTHING,
            [(Place::Inside, cause)] => cause,
            _ => EDGE,
        };
        let said = gap.cause.to_string();
        let right = match made {
            "smi" | "nmi" => made,
            _ => "unknown",
        };
        if made != EDGE && said != right {
            // Whoever reads this has to find out why.
            let us = |tsc: u64| (tsc as f64 - begin as f64) * 1e6 / smi::tsc_hz();
            let nearest = events
                .iter()
                .min_by_key(|event| event.end_tsc.abs_diff(end))
                .map(|event| (event.cause, us(event.begin_tsc), us(event.end_tsc)));
            println!(
                "    made {made}, said {said}: {} us, {} SMIs, from its begin in us: before {:.0}, nearest {nearest:.0?}",
                gap.duration_ns / 1000,
                gap.smis,
                us(last_end_before),
            );
        }
        *matrix.0.entry((made, said)).or_default() += 1;
    }
    println!("    {detector}: {:?}, {:?}", matrix.0, counted(&all));
    matrix.check(detector);
}

/// Each detector that runs here in turn, on the same machine.
pub(super) fn every_gap_gets_its_cause() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    println!("CAUSES ");
    println!("CAUSES ### Linux {}", release.trim());
    println!("CAUSES ");
    println!("CAUSES | detector | made | {} |", Matrix::SAID.join(" | "));
    println!("CAUSES |---|---|{}", "---:|".repeat(Matrix::SAID.len()));
    for detector in detector::detectors() {
        if detector.probe() == Availability::Ready {
            confusion(detector.name());
        }
    }
}
