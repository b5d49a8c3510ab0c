//! What a trial with SMIs fired on purpose proves of counter, detector and attribution, step by step.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    firing::outcome::Moved,
    model::{Gap, GapKind, Proof, Snapshot},
    units::show_ns,
};

/// What came of the trial.
#[derive(Debug)]
pub struct Trial {
    /// When each write was under way, on which CPU; why nothing was written, where nothing was.
    pub writes: Result<Writes, String>,
    /// The name of the counter, and each CPU's counts before and after; why there is none.
    pub counter: Result<Counted, String>,
    /// The CPU that was watched, and what the detector found there; why none was.
    pub watched: Result<Watched, String>,
}

/// The writes to the port.
#[derive(Debug)]
pub struct Writes {
    /// The CPU that wrote.
    pub cpu: u32,
    /// Each of them, from its begin to its end.
    pub times: Vec<Range<SystemTime>>,
}

/// Counts of all CPUs.
#[derive(Debug)]
pub struct Counted {
    /// What was read.
    pub source: String,
    /// Whether it counts every SMI once, by its maker's word.
    pub exact: bool,
    /// Each CPU's.
    pub cpus: Vec<Moved>,
}

/// What a detector found.
#[derive(Debug)]
pub struct Watched {
    /// The CPU.
    pub cpu: u32,
    /// Its last snapshot, with all single gaps.
    pub snapshot: Snapshot,
}

/// What a step of the trial says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is so.
    Proven,
    /// It is not so.
    Refuted,
    /// It cannot be told here.
    Unproven,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is to be proven.
    pub claim: &'static str,
    /// Whether it is.
    pub state: State,
    /// By what, or why not and what would help.
    pub evidence: String,
}

const FIRE: &str = "SMIs can be fired here";
const COUNT: &str = "a counter counts them";
const REACH: &str = "they reach the CPU that is watched";
const READ: &str = "the BPF programs read the counter";
const SEE: &str = "the detector sees them as gaps";
const CALL: &str = "those gaps are called SMIs, and no others";

/// Judges each step.
pub fn judge(trial: &Trial) -> Vec<Step> {
    let step = |claim, (state, evidence)| Step {
        claim,
        state,
        evidence,
    };
    vec![
        step(FIRE, fired(trial)),
        step(COUNT, counted(trial)),
        step(REACH, reached(trial)),
        step(READ, read(trial)),
        step(SEE, seen(trial)),
        step(CALL, called(trial)),
    ]
}

type Finding = (State, String);

fn proven(evidence: String) -> Finding {
    (State::Proven, evidence)
}

fn refuted(evidence: String) -> Finding {
    (State::Refuted, evidence)
}

fn unproven(why: impl Into<String>) -> Finding {
    (State::Unproven, why.into())
}

const NOT_FIRED: &str = "no SMI was fired";
const NONE_SAMPLED: &str = "no SMI came while the CPU was sampled; try a larger --count";
const NOT_COUNTED: &str = "no counter tells which SMIs came";

/// By how much the count of `cpu` moved.
fn moved(trial: &Trial, cpu: u32) -> Option<u64> {
    let counted = trial.counter.as_ref().ok()?;
    counted.cpus.iter().find(|one| one.cpu == cpu)?.by()
}

fn fired(trial: &Trial) -> Finding {
    let writes = match &trial.writes {
        Ok(writes) => writes,
        Err(why) => return unproven(why),
    };
    let count = writes.times.len();
    match moved(trial, writes.cpu) {
        None => unproven(format!(
            "{count} bytes were written to the port, but {NOT_COUNTED}"
        )),
        Some(0) => refuted(format!(
            "{count} bytes were written to the port, and the counter of CPU {} did not move: SMIs are disabled on this \
             machine, or nothing listens to the port",
            writes.cpu
        )),
        Some(moved) if moved < count as u64 => unproven(format!(
            "{count} bytes were written to the port, and the counter of CPU {} moved by {moved} only: SMIs may have been \
             merged, or others have come; try a longer --interval",
            writes.cpu
        )),
        Some(moved) => proven(format!(
            "{count} bytes were written to the port, and the counter of CPU {} moved by {moved}",
            writes.cpu
        )),
    }
}

fn counted(trial: &Trial) -> Finding {
    let counted = match &trial.counter {
        Ok(counted) => counted,
        Err(why) => return unproven(format!("there is no counter of SMIs here: {why}")),
    };
    let Ok(writes) = &trial.writes else {
        return unproven(format!(
            "there is one ({}), but {NOT_FIRED}",
            counted.source
        ));
    };
    let fired = writes.times.len() as u64;
    match moved(trial, writes.cpu) {
        None => unproven(format!(
            "the count of CPU {} could not be read afterwards",
            writes.cpu
        )),
        Some(moved) if moved == fired => proven(format!(
            "{}: {fired} writes, {moved} counted",
            counted.source
        )),
        Some(0) => unproven(format!(
            "there is one ({}), but it had nothing to count",
            counted.source
        )),
        Some(moved) if moved > fired => unproven(format!(
            "{}: {fired} writes, {moved} counted; others came in between, or each write raises more than one: try when \
             the machine has none of its own",
            counted.source
        )),
        Some(moved) if !counted.exact => unproven(format!(
            "{}: {fired} writes, {moved} counted; this counter is not exact",
            counted.source
        )),
        Some(moved) => refuted(format!(
            "{}: {fired} writes, only {moved} counted; SMIs may have been merged, try a longer --interval",
            counted.source
        )),
    }
}

fn reached(trial: &Trial) -> Finding {
    let watched = match &trial.watched {
        Ok(watched) => watched,
        Err(why) => return unproven(why),
    };
    let Ok(writes) = &trial.writes else {
        return unproven(NOT_FIRED);
    };
    match (moved(trial, writes.cpu), moved(trial, watched.cpu)) {
        (None, _) | (_, None) => unproven(NOT_COUNTED),
        (Some(0), _) => unproven("none came"),
        (Some(wrote), Some(0)) => unproven(format!(
            "{wrote} SMIs came to CPU {}, which wrote, and none to CPU {}, which was watched: this machine does not send \
             them to all CPUs. The CPU that writes cannot be reading the clock at that moment, so here no SMI fired by \
             hand can be seen as a gap",
            writes.cpu, watched.cpu
        )),
        (Some(_), Some(moved)) => proven(format!(
            "the counter of CPU {} moved by {moved}, while CPU {} wrote",
            watched.cpu, writes.cpu
        )),
    }
}

/// What was watched, if SMIs came there: what the steps that follow rest on.
fn came(trial: &Trial) -> Result<&Watched, Finding> {
    let watched = trial
        .watched
        .as_ref()
        .map_err(|_| unproven("no CPU was watched"))?;
    match reached(trial) {
        (State::Proven, _) => Ok(watched),
        _ => Err(unproven("no SMI is known to have come there")),
    }
}

fn read(trial: &Trial) -> Finding {
    let watched = match came(trial) {
        Ok(watched) => watched,
        Err(finding) => return finding,
    };
    let Some(smis) = watched.snapshot.cpus.first().and_then(|cpu| cpu.smis) else {
        return unproven("this run did not count SMIs");
    };
    let Some(sampled) = smis.sampled else {
        return unproven(
            "this counter is no perf event, or the detector's gaps are read after the fact: SMIs are not compared with \
             each gap here",
        );
    };
    if smis.unread > 0 {
        return refuted(format!(
            "{} readings failed: other users of perf events take turns with the counter",
            smis.unread
        ));
    }
    if sampled == 0 {
        return unproven(NONE_SAMPLED);
    }
    proven(format!(
        "of {} SMIs on CPU {}, {sampled} came within sampled time by their reading",
        smis.counted, watched.cpu
    ))
}

/// The gaps that overlap a write; of a detector that tells windows, those whose window may.
fn gaps_at_writes<'a>(trial: &'a Trial, watched: &'a Watched) -> Vec<&'a Gap> {
    let Ok(writes) = &trial.writes else {
        return Vec::new();
    };
    let detector = &watched.snapshot.detector;
    // Its record is dated by one gap of the window and has the length of another.
    let margin = Duration::from_nanos(match detector.gap_kind {
        GapKind::Gap => 0,
        GapKind::WindowMax => detector.width_ns,
    });
    let overlaps = |gap: &&Gap| {
        let end = SystemTime::from(gap.end_time);
        let begin = end - Duration::from_nanos(gap.duration_ns);
        writes
            .times
            .iter()
            .any(|write| begin - margin <= write.end && write.start <= end + margin)
    };
    watched.snapshot.gaps.iter().filter(overlaps).collect()
}

fn seen(trial: &Trial) -> Finding {
    let watched = match came(trial) {
        Ok(watched) => watched,
        Err(finding) => return finding,
    };
    let gaps = gaps_at_writes(trial, watched);
    let threshold = show_ns(watched.snapshot.detector.threshold_ns as f64);
    let smis = watched.snapshot.cpus.first().and_then(|cpu| cpu.smis);
    let longest = show_ns(gaps.iter().map(|gap| gap.duration_ns).max().unwrap_or(0) as f64);
    if let Some(finding) = lost(watched) {
        return finding;
    }
    let counts = smis.and_then(|smis| Some((smis.sampled?, smis.in_gaps?)));
    match counts {
        Some((0, _)) => unproven(NONE_SAMPLED),
        // One in ten may have come while the detector was about to begin or to end.
        Some((sampled, in_gaps)) if in_gaps * 10 < sampled * 9 => refuted(format!(
            "of {sampled} SMIs within sampled time only {in_gaps} were gaps of {threshold} and more; lower --threshold to \
             see shorter ones"
        )),
        _ if gaps.is_empty() => refuted(format!(
            "no gap of {threshold} and more lies at the time of a write"
        )),
        Some((sampled, in_gaps)) => proven(format!(
            "{in_gaps} of {sampled} SMIs within sampled time were gaps; {} gaps lie at the times of writes, the longest \
             {longest}",
            gaps.len()
        )),
        None => proven(format!(
            "{} gaps lie at the times of writes, the longest {longest}",
            gaps.len()
        )),
    }
}

/// Nothing is to be concluded when gaps are missing.
fn lost(watched: &Watched) -> Option<Finding> {
    let of = &watched.snapshot;
    let lost = of.gaps_dropped + of.sum(|cpu| cpu.records.lost + cpu.records.limited);
    (lost > 0).then(|| {
        unproven(format!(
            "{lost} single gaps were not passed on, so not all can be compared; raise --threshold"
        ))
    })
}

fn called(trial: &Trial) -> Finding {
    let watched = match came(trial) {
        Ok(watched) => watched,
        Err(finding) => return finding,
    };
    if watched.snapshot.attribution.smi != Proof::Gap {
        return unproven("causes are not known gap by gap here");
    }
    if let Some(finding) = lost(watched) {
        return finding;
    }
    let smi = |gap: &&&Gap| gap.cause.has_smi();
    let at_writes = gaps_at_writes(trial, watched);
    let called = at_writes.iter().filter(smi).count();
    let all = watched
        .snapshot
        .gaps
        .iter()
        .filter(|gap| gap.cause.has_smi())
        .count();
    match (called, all - called) {
        (0, _) if at_writes.is_empty() => unproven("no gap lies at the time of a write"),
        (0, _) => refuted("no gap at the time of a write was called an SMI".to_owned()),
        (called, 0) => proven(format!(
            "{called} gaps at the times of writes have the cause smi; none of the other {} has",
            watched.snapshot.gaps.len() - called
        )),
        (called, others) => unproven(format!(
            "{called} gaps at the times of writes have the cause smi, and so have {others} others: the machine has SMIs of \
             its own, or the counter is wrong; try when it has none"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        made_up::{self, BEGAN},
        model::{Cause, CpuSnapshot, SmiCounts},
    };

    fn trial(counts: &[(u32, u64)]) -> Trial {
        let began = SystemTime::from(BEGAN);
        let write = began..began + Duration::from_millis(1);
        Trial {
            writes: Ok(Writes {
                cpu: 0,
                times: vec![write; 3],
            }),
            counter: Ok(Counted {
                source: "a counter".to_owned(),
                exact: true,
                cpus: counts
                    .iter()
                    .map(|(cpu, moved)| Moved {
                        cpu: *cpu,
                        before: 7,
                        after: Some(7 + moved),
                    })
                    .collect(),
            }),
            watched: Err("there is no other CPU to watch".to_owned()),
        }
    }

    fn told(trial: &Trial, claim: &str) -> (State, String) {
        let steps = judge(trial);
        assert_eq!(steps.len(), 6);
        let step = steps.into_iter().find(|step| step.claim == claim);
        let step = step.expect("such a step");
        (step.state, step.evidence)
    }

    #[test]
    fn a_counter_that_stands_still_refutes_the_firing_and_proves_no_counter_wrong() {
        let still = trial(&[(0, 0)]);
        let (state, evidence) = told(&still, FIRE);
        assert_eq!(state, State::Refuted);
        assert!(evidence.contains("SMIs are disabled"), "{evidence}");
        assert_eq!(told(&still, COUNT).0, State::Unproven);
    }

    #[test]
    fn a_count_is_proven_by_the_exact_number_only() {
        for (moved, count, fire) in [
            (3, State::Proven, State::Proven),
            (2, State::Refuted, State::Unproven),
            // On a machine that has SMIs of its own.
            (4, State::Unproven, State::Proven),
        ] {
            let trial = trial(&[(0, moved)]);
            assert_eq!(told(&trial, COUNT).0, count, "{moved}");
            assert_eq!(told(&trial, FIRE).0, fire, "{moved}");
        }
        let mut inexact = trial(&[(0, 2)]);
        if let Ok(counted) = &mut inexact.counter {
            counted.exact = false;
        }
        assert_eq!(told(&inexact, COUNT).0, State::Unproven);
    }

    /// A trial in which CPU 1 was watched, with gaps that ended so many us after the first write began, of 200 us each,
    /// and were called SMIs or not.
    fn watched(sampled: u64, in_gaps: u64, gaps: &[(u64, bool)]) -> Trial {
        let cpu = CpuSnapshot {
            smis: Some(SmiCounts {
                counted: 3,
                sampled: Some(sampled),
                in_gaps: Some(in_gaps),
                unread: 0,
            }),
            ..CpuSnapshot::new(1)
        };
        let mut snapshot = Snapshot::new(BEGAN, made_up::detector(), vec![cpu]);
        snapshot.attribution.smi = Proof::Gap;
        snapshot.gaps.extend(gaps.iter().map(|(end_us, smi)| {
            let end = BEGAN + Duration::from_micros(*end_us);
            let cause = [Cause::UNKNOWN, Cause::SMI][usize::from(*smi)];
            Gap::new(1, end, 200_000, cause)
        }));
        Trial {
            watched: Ok(Watched { cpu: 1, snapshot }),
            ..trial(&[(0, 3), (1, 3)])
        }
    }

    #[test]
    fn every_step_is_proven_by_gaps_at_the_writes_that_are_called_smis() {
        let steps = judge(&watched(1, 1, &[(500, true), (9_000, false)]));
        let states: Vec<State> = steps.iter().map(|step| step.state).collect();
        assert_eq!(states, [State::Proven; 6], "{steps:?}");
    }

    #[test]
    fn what_is_seen_and_called_is_judged_by_the_gaps() {
        for (trial, see, call) in [
            // Shorter than the threshold.
            (watched(3, 0, &[]), State::Refuted, State::Unproven),
            // None came while it sampled.
            (watched(0, 0, &[]), State::Unproven, State::Unproven),
            // Seen, and not called so.
            (
                watched(1, 1, &[(500, false)]),
                State::Proven,
                State::Refuted,
            ),
            // Others were, too: the machine may have SMIs of its own.
            (
                watched(2, 2, &[(500, true), (9_000, true)]),
                State::Proven,
                State::Unproven,
            ),
            // Only at other times.
            (
                watched(1, 1, &[(9_000, true)]),
                State::Refuted,
                State::Unproven,
            ),
        ] {
            assert_eq!((told(&trial, SEE).0, told(&trial, CALL).0), (see, call));
        }
    }

    #[test]
    fn a_counter_that_the_programs_do_not_read_is_not_called_still() {
        let mut trial = watched(1, 1, &[(500, true)]);
        if let Ok(watched) = &mut trial.watched {
            watched.snapshot.cpus[0].smis = Some(SmiCounts {
                counted: 3,
                ..SmiCounts::default()
            });
        }
        let (state, why) = told(&trial, READ);
        assert_eq!(state, State::Unproven);
        assert!(why.contains("not compared with each gap"), "{why}");
    }

    #[test]
    fn a_window_is_dated_anywhere_in_it() {
        let mut trial = watched(1, 1, &[(9_000, true)]);
        if let Ok(watched) = &mut trial.watched {
            watched.snapshot.detector.gap_kind = GapKind::WindowMax;
            watched.snapshot.detector.width_ns = 10_000_000;
        }
        assert_eq!(told(&trial, SEE).0, State::Proven);
        assert_eq!(told(&trial, CALL).0, State::Proven);
    }

    #[test]
    fn missing_gaps_and_smis_of_the_writing_cpu_alone_prove_nothing() {
        let mut trial = watched(1, 1, &[(500, true)]);
        if let Ok(watched) = &mut trial.watched {
            watched.snapshot.gaps_dropped = 1;
        }
        assert_eq!(told(&trial, SEE).0, State::Unproven);
        assert_eq!(told(&trial, CALL).0, State::Unproven);
        let mut trial = watched(1, 1, &[(500, true)]);
        if let Ok(counted) = &mut trial.counter {
            counted.cpus[1].after = Some(counted.cpus[1].before);
        }
        let (state, why) = told(&trial, REACH);
        assert_eq!(state, State::Unproven);
        assert!(why.contains("does not send them to all CPUs"), "{why}");
        assert_eq!(told(&trial, SEE).0, State::Unproven);
    }

    #[test]
    fn what_was_not_done_proves_nothing_and_says_why() {
        let unable = Trial {
            writes: Err("there is no /dev/port".to_owned()),
            ..trial(&[(0, 0)])
        };
        assert_eq!(
            told(&unable, FIRE),
            (State::Unproven, "there is no /dev/port".to_owned())
        );
        for claim in [COUNT, REACH, READ, SEE, CALL] {
            let (state, why) = told(&unable, claim);
            assert_eq!(state, State::Unproven, "{claim}: {why}");
        }
        let uncounted = Trial {
            counter: Err("only CPUs of Intel".to_owned()),
            ..trial(&[])
        };
        let (state, why) = told(&uncounted, COUNT);
        assert_eq!(state, State::Unproven);
        assert!(why.contains("only CPUs of Intel"), "{why}");
        assert_eq!(told(&uncounted, FIRE).0, State::Unproven);
    }
}
