//! Fixed intervals at which gaps came, found as lines in the spectrum of their moments.
//!
//! The gaps seen are those that met a window, on whatever CPU, mixed with others; a fixed interval shows all the same, as
//! a frequency at which the moments' phases agree. For each octave of frequencies the recording is cut into pieces of so
//! many cycles that a clock which drifts a little still keeps phase within one; the pieces' powers are added up. What is
//! not a line but a hill (bursts, slow changes, the windows' own rhythm) is divided out by the medians on both sides.
//! `docs/report.md` says more, with the limits.

mod fundamental;
mod spectrum;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, thread};

use fastrand::Rng;
use statrs::function::gamma::gamma_ur;

use super::events::Moments;
use crate::{
    model::{DetectorInfo, Period, PeriodSearch},
    settings::Mode,
};
use spectrum::{MARGIN, Spectrum};

/// The highest frequency tried: 1 ms.
const HIGHEST_HZ: f64 = 1_000.0;
/// A rhythm is one only if there is time for so many turns.
const FEWEST_CYCLES: f64 = 8.0;
/// Fewer events have no rhythm.
const FEWEST_EVENTS: usize = 20;
/// Cycles of the lowest frequency of an octave in which phase must be kept.
const CYCLES: [f64; 3] = [128.0, 512.0, 2_048.0];
/// Probability of chance, all trials considered, below which an interval is named.
const SURE: f64 = 1e-4;
/// Intervals named of one kind of gaps.
const MOST: usize = 3;
/// Intervals that agree to this part are one.
const ALIKE: f64 = 2e-3;
/// Windows that remember no more than this of each other's phase make no hill worth the name.
const FAINT: f64 = 0.25;
/// Choices are the same each time.
const SEED: u64 = 0x0dd_ba11;

/// The rhythm that the sampling itself has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sampling {
    window_s: f64,
    /// The pauses vary at random by this; 0 where they do not.
    spread_s: f64,
    /// Windows until a CPU has its next.
    turn: f64,
}

impl Sampling {
    /// Of a detector that watches so many CPUs.
    pub(super) fn of(detector: &DetectorInfo, cpus: usize) -> Self {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let varies = detector.name == "spin";
        Self {
            window_s: seconds(detector.window_ns),
            spread_s: if varies {
                seconds(detector.window_ns.saturating_sub(detector.width_ns))
            } else {
                0.0
            },
            turn: match detector.mode {
                Mode::RoundRobin => cpus.max(1) as f64,
                Mode::None | Mode::PerCpu => 1.0,
            },
        }
    }

    /// The highest frequency that can be told from the windows'.
    fn highest_hz(&self) -> f64 {
        if self.spread_s > 0.0 || self.window_s <= 0.0 {
            HIGHEST_HZ
        } else {
            HIGHEST_HZ.min(1.0 / (3.0 * self.turn * self.window_s))
        }
    }

    /// Whether the windows' own rhythm may look like a line at `hz` in pieces of `length_s`.
    ///
    /// The pauses' random part has the windows forget their phase by the factor `memory` from one to the next, which
    /// widens their lines to hills. A hill much wider than what the medians are taken of is divided out by them.
    fn may_be(&self, hz: f64, length_s: f64) -> bool {
        let sinc = |x: f64| {
            if x.abs() < 1e-9 {
                1.0
            } else {
                (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x)
            }
        };
        [1.0, self.turn].into_iter().any(|turn| {
            let period = turn * self.window_s;
            let cycles = hz * period;
            let harmonic = cycles.round();
            if harmonic < 1.0 {
                return false;
            }
            let memory = sinc(hz * self.spread_s).abs().powf(turn);
            let half_width = (1.0 - memory) / std::f64::consts::TAU;
            // Of CPUs in turn, the hills are narrow and so high that their slopes reach far, the more so the more gaps a
            // window has: five are allowed for.
            let slope = if turn > 1.0 {
                (0.84 * (1.0 - memory)).sqrt()
            } else {
                0.0
            };
            let reach = (4.0 * half_width).max(0.02 * harmonic).max(slope);
            let near = (cycles - harmonic).abs() < reach;
            let divided_out = half_width / period > MARGIN as f64 / (2.0 * length_s);
            memory > FAINT && near && !divided_out
        })
    }
}

/// A line in the spectrum.
#[derive(Clone, Copy, Debug)]
struct Peak {
    hz: f64,
    /// Length of the pieces in which phase is kept.
    length_s: f64,
    /// Above what chance gives, in units of its deviation.
    height: f64,
    /// Probability of chance, at this frequency alone.
    p: f64,
}

/// The fixed intervals among the moments of each kind, in a recording of `span_ns`; and where they were looked for.
/// `samplings` are all that were at work in it: what may be the doing of one of them is no interval.
pub(super) fn find(
    kinds: Vec<Moments>,
    span_ns: u64,
    samplings: &[Sampling],
) -> (Vec<Period>, Option<PeriodSearch>) {
    let span = span_ns as f64 / 1e9;
    let (lowest, highest) = (
        FEWEST_CYCLES / span,
        samplings
            .iter()
            .map(Sampling::highest_hz)
            .fold(HIGHEST_HZ, f64::min),
    );
    let events = kinds.first().map_or(0, |all| all.times.len());
    if events < FEWEST_EVENTS || lowest >= highest {
        return (Vec::new(), None);
    }
    let enough: Vec<Moments> = kinds
        .into_iter()
        .filter(|kind| kind.times.len() >= FEWEST_EVENTS)
        .collect();
    let search = Search {
        span,
        lowest,
        highest,
        samplings,
        kinds: enough.len() as f64,
    };
    let mut periods: Vec<Period> = thread::scope(|scope| {
        let running: Vec<_> = enough
            .iter()
            .map(|kind| scope.spawn(|| search.periods(kind)))
            .collect();
        running
            .into_iter()
            .flat_map(|thread| match thread.join() {
                Ok(periods) => periods,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    // Once each, by those who keep time best.
    periods.sort_by(|a, b| b.coherence.total_cmp(&a.coherence));
    let mut once: Vec<Period> = Vec::new();
    for period in periods {
        if !once.iter().any(|surer| same(surer, &period)) {
            once.push(period);
        }
    }
    once.sort_by(|a, b| {
        a.p_value
            .total_cmp(&b.p_value)
            .then(b.coherence.total_cmp(&a.coherence))
    });
    let searched = PeriodSearch {
        shortest_ns: 1e9 / highest,
        longest_ns: 1e9 / lowest,
        events: events as u64,
    };
    (once, Some(searched))
}

struct Search<'a> {
    span: f64,
    lowest: f64,
    highest: f64,
    samplings: &'a [Sampling],
    kinds: f64,
}

impl Search<'_> {
    fn periods(&self, kind: &Moments) -> Vec<Period> {
        let mut times = kind.times.clone();
        let mut found: Vec<Period> = Vec::new();
        while found.len() < MOST && times.len() >= FEWEST_EVENTS {
            let (Some(peak), trials) = self.highest_peak(&times) else {
                break;
            };
            let p_value = (peak.p * trials * self.kinds).min(1.0);
            if p_value > SURE {
                break;
            }
            let peak = fundamental::of(&times, peak, self);
            let line = fundamental::refined(&times, peak, self.span);
            let interval_ns = 1e9 / line.hz;
            if found
                .iter()
                .any(|before| related(before.interval_ns, interval_ns))
            {
                break;
            }
            found.push(Period {
                cause: kind.cause,
                longer_than_ns: kind.longer_than_ns,
                interval_ns,
                uncertainty_ns: interval_ns * line.half_width_hz / line.hz,
                gaps: times.len() as u64,
                coherence: line.coherence,
                p_value,
            });
            times = without(&times, &peak);
        }
        found
    }

    /// The least probable line, and how many frequencies were tried.
    fn highest_peak(&self, times: &[f64]) -> (Option<Peak>, f64) {
        let mut best: Option<Peak> = None;
        let mut trials = 0.0;
        let mut from = self.lowest;
        while from < self.highest {
            let to = (2.0 * from).min(self.highest);
            for cycles in CYCLES {
                let length = (cycles / from).min(self.span);
                let spectrum = Spectrum::of(times, length, from, to);
                for (hz, power) in spectrum.whitened(from, to) {
                    trials += 1.0;
                    let Some(peak) = self.peak(&spectrum, hz, power) else {
                        continue;
                    };
                    if best.is_none_or(|best| order(&peak, &best) == Ordering::Less) {
                        best = Some(peak);
                    }
                }
                if length >= self.span {
                    break;
                }
            }
            from = to;
        }
        (best, trials)
    }

    /// `None` for what is not above chance, or may be the sampling's doing.
    fn peak(&self, spectrum: &Spectrum, hz: f64, power: f64) -> Option<Peak> {
        let deviation = spectrum.pieces.sqrt();
        let height = (power - spectrum.pieces) / deviation;
        let sampled = || {
            self.samplings
                .iter()
                .any(|sampling| sampling.may_be(hz, spectrum.length))
        };
        (height > 4.0 && !sampled()).then(|| Peak {
            hz,
            length_s: spectrum.length,
            height,
            p: gamma_ur(spectrum.pieces, power).max(f64::MIN_POSITIVE),
        })
    }
}

/// The surer one first.
fn order(a: &Peak, b: &Peak) -> Ordering {
    a.p.total_cmp(&b.p).then(b.height.total_cmp(&a.height))
}

/// Whether `period` says no more than `surer`, of other gaps: the same interval, or in part of the same gaps one of which it
/// is a faint multiple in frequency.
fn same(surer: &Period, period: &Period) -> bool {
    let multiple = (surer.interval_ns / period.interval_ns).round();
    let apart = (surer.interval_ns - multiple * period.interval_ns).abs();
    let near = apart < surer.uncertainty_ns + multiple * period.uncertainty_ns
        || apart < ALIKE * surer.interval_ns;
    let overlap = surer.cause.is_none() || period.cause.is_none();
    let faint = period.coherence < 0.5 * surer.coherence;
    near && ((0.5..1.5).contains(&multiple)
        || (overlap && faint && (2.0..=16.0).contains(&multiple)))
}

/// Whether one interval is a small multiple of the other, as what is left of a rhythm taken out would be.
fn related(a: f64, b: f64) -> bool {
    let ratio = (a / b).max(b / a);
    ratio < 8.5 && (ratio / ratio.round() - 1.0).abs() < ALIKE
}

/// The moments without those that the line stands for: where more lie around its phase than elsewhere, as many are taken
/// out at random as are too many, and the rest is spread evenly.
fn without(times: &[f64], peak: &Peak) -> Vec<f64> {
    const BINS: usize = 20;
    let mut random = Rng::with_seed(SEED);
    let mut left = Vec::with_capacity(times.len());
    for piece in spectrum::pieces(times, peak.length_s) {
        let phase = spectrum::phase(piece, peak.hz);
        // The line is in the middle.
        let turns = |time: &f64| {
            let turns = time * peak.hz - phase + 0.5;
            turns - turns.floor()
        };
        let bin = |time: &f64| ((turns(time) * BINS as f64) as usize).min(BINS - 1);
        let mut counts = [0_usize; BINS];
        for time in piece {
            counts[bin(time)] += 1;
        }
        let near = BINS / 4..BINS - BINS / 4;
        let around: usize = counts[near.clone()].iter().sum();
        let each = (piece.len() - around) as f64 / (BINS - near.len()) as f64;
        for time in piece {
            let at = bin(time);
            if !near.contains(&at) || counts[at] as f64 <= each {
                left.push(*time);
            } else if random.f64() * (counts[at] as f64) < each {
                let turns_on = (at as f64 + random.f64()) / BINS as f64 - turns(time);
                left.push(time + turns_on / peak.hz);
            }
        }
    }
    left.sort_unstable_by(f64::total_cmp);
    left
}
