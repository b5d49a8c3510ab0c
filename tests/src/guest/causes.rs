//! Causes of gaps: SMIs and NMIs of known number and time, beside what smilat puts down to them.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use smi_user::{
    kernel::sched,
    model::{Gap, Proof, Snapshot},
};

use super::{
    measured::cycles,
    smi::{self, Moment, Smi},
    state::TRACING,
    watch::Watch,
};
use crate::{output, smilat, stderr, wait_until};

/// Length of SMIs that are meant to be seen.
const LENGTH: Duration = Duration::from_millis(5);

/// The newest snapshot's SMIs of the only CPU watched.
fn counted(all: &[Snapshot]) -> smi_user::model::SmiCounts {
    let last = all.last().expect("a snapshot");
    last.cpus[0].smis.expect("they are counted")
}

fn gaps(all: &[Snapshot]) -> Vec<Gap> {
    let gaps: Vec<Gap> = all.iter().flat_map(|one| &one.gaps).copied().collect();
    let cpu = &all.last().expect("a snapshot").cpus[0];
    assert_eq!(gaps.len() as u64, cpu.gaps.count, "{:?}", cpu.records);
    let by_cause: u64 = cpu.causes.iter().map(|of| of.count).sum();
    assert_eq!(by_cause, cpu.gaps.count);
    gaps
}

/// Fires one SMI of `length` at CPU 1, and waits for its end.
fn fire(length: Duration) -> Smi {
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

/// The kernel's own record of NMIs, and of the turns of hwlat's thread, on CPU 1, by the TSC.
struct Truth(PathBuf);

impl Truth {
    fn begin() -> Self {
        let instance = Path::new(TRACING).join("instances/truth");
        fs::create_dir(&instance).expect("an instance");
        let truth = Self(instance);
        truth.write("trace_clock", "x86-tsc");
        truth.write("buffer_size_kb", "8192");
        truth.write("events/nmi/nmi_handler/enable", "1");
        let turns = r#"prev_comm ~ "hwlatd*" || next_comm ~ "hwlatd*""#;
        truth.write("events/sched/sched_switch/filter", turns);
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

    /// The turns of hwlat's thread that have ended.
    fn turns(&self) -> Vec<Range<u64>> {
        let mut turns = Vec::new();
        let mut began = None;
        for (tsc, line) in self.lines(": sched_switch:") {
            if line.contains("prev_comm=hwlatd")
                && let Some(began) = began.take()
            {
                turns.push(began..tsc);
            }
            if line.contains("next_comm=hwlatd") {
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
}

/// SMIs and NMIs, of each so many, fired while a detector watches.
const EACH: usize = 200;

/// Fires them at CPU 1, in turn.
fn fire_both(truth: &Truth) -> Vec<Event> {
    let mut events = Vec::new();
    for number in 0..2 * EACH {
        // Not at a fixed distance, which might keep step with the windows.
        thread::sleep(Duration::from_millis(50 + number as u64 * 37 % 40));
        events.push(if number % 2 == 0 {
            let smi = fire(LENGTH);
            Event {
                cause: "smi",
                begin_tsc: smi.begin_tsc,
                end_tsc: smi.end_tsc,
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

/// How long after a gap recording it and reading the counters may take. An emulated CPU that was stopped by its host takes
/// what waited for it meanwhile in that time, be it an SMI, and not within the gap.
const RECORDING: Duration = Duration::from_millis(2);

/// Where `event` lies by a gap from `begin` to `end`, when the one before it ended at `last_end`.
fn by_gap(event: &Event, begin: u64, end: u64, last_end: u64) -> Place {
    let recorded = |end: u64| end..end + cycles(RECORDING);
    let middle = event.begin_tsc.midpoint(event.end_tsc);
    // osnoise's next gap may begin at once.
    let follows = begin.abs_diff(last_end) < cycles(Duration::from_micros(100));
    if (begin..end).contains(&middle) && !(follows && recorded(begin).contains(&event.begin_tsc)) {
        Place::Inside
    } else if recorded(end).contains(&event.begin_tsc)
        || event.begin_tsc < end && recorded(last_end).contains(&event.begin_tsc)
    {
        Place::Edge
    } else {
        Place::Outside
    }
}

/// Where `event` lies by a window of hwlat's that was sampled within `turn`.
fn by_turn(event: &Event, turn: &Range<u64>) -> Place {
    let margin = cycles(Duration::from_micros(100));
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
        let causes = [("smi", "smi"), ("nmi", "nmi"), (NOTHING, "unknown")];
        for made in ["smi", "nmi", NOTHING, EDGE] {
            let cells = Self::SAID.map(|said| self.of(made, said).to_string());
            println!(
                "TABLE | smilat {detector} | {made} | {} |",
                cells.join(" | ")
            );
        }
        let listed: usize = ["smi", "nmi", NOTHING, EDGE]
            .iter()
            .flat_map(|made| Self::SAID.map(|said| self.of(made, said)))
            .sum();
        assert_eq!(listed, self.0.values().sum::<usize>(), "{:?}", self.0);
        for (made, right) in causes {
            let of_right = self.of(made, right);
            // Nine tenths of the time are sampled.
            assert!(of_right > EACH / 2, "{:?}", self.0);
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
        assert!(edge < EACH / 5, "{:?}", self.0);
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
    let events = fire_both(&truth);
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
                .map(|event| (by_gap(event, begin, end, last_end_before), event.cause))
                .collect()
        };
        let near: Vec<&(Place, &str)> = places
            .iter()
            .filter(|(place, _)| *place != Place::Outside)
            .collect();
        let made = match near[..] {
            [] => NOTHING,
            [(Place::Inside, "smi")] => "smi",
            [(Place::Inside, _)] => "nmi",
            _ => EDGE,
        };
        let said = gap.cause.to_string();
        if made != EDGE && made != said && !(made == NOTHING && gap.cause.is_unknown()) {
            // Whoever reads this has to find out why.
            let us = |tsc: u64| (tsc as i64 - begin as i64) * 1_000_000 / smi::tsc_hz() as i64;
            let nearest = events
                .iter()
                .min_by_key(|event| event.end_tsc.abs_diff(end))
                .map(|event| (event.cause, us(event.begin_tsc), us(event.end_tsc)));
            println!(
                "    made {made}, said {said}: {} us, {} SMIs, from its begin in us: before {}, nearest {nearest:?}",
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

pub(super) fn every_gap_gets_its_cause() {
    for detector in ["spin", "osnoise", "hwlat"] {
        confusion(detector);
    }
}
