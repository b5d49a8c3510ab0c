//! From a line to the interval behind it: a train of gaps has lines at all multiples of its frequency, of equal height.

use super::{
    FEWEST_CYCLES, Peak, Search,
    spectrum::{self, Spectrum},
};

/// A line may be this multiple of the frequency behind it, at the most.
const HIGHEST_MULTIPLE: u32 = 64;
/// A line at a part of the frequency is the fundamental if it is at least this high, by the first one's height.
const AS_HIGH: f64 = 0.25;
/// Probability of chance below which it is one at all.
const SURE: f64 = 3e-5;
/// Longer pieces are better as long as phase is kept in them: they may lose this much of the coherence.
const KEPT: f64 = 0.8;

/// The lowest frequency that `peak` is a multiple of and that is as strong a line.
pub(super) fn of(times: &[f64], mut peak: Peak, search: &Search<'_>) -> Peak {
    // The multiple may itself be one of several.
    while let Some(lower) = (2..=HIGHEST_MULTIPLE)
        .rev()
        .find_map(|multiple| part(times, &peak, f64::from(multiple), search))
    {
        peak = lower;
    }
    peak
}

fn part(times: &[f64], peak: &Peak, multiple: f64, search: &Search<'_>) -> Option<Peak> {
    let hz = peak.hz / multiple;
    if hz < search.lowest {
        return None;
    }
    let length = peak.length_s.max(FEWEST_CYCLES / hz);
    let spectrum = Spectrum::of(times, length, hz, hz);
    // The part is known better than the bins are apart, so it is the nearest.
    let (at, power) = spectrum.whitened(hz, hz + 0.5 / length).next()?;
    search
        .peak(&spectrum, at, power)
        .filter(|part| {
            (at - hz).abs() < 0.5 / length && part.height >= AS_HIGH * peak.height && part.p < SURE
        })
        .map(|part| Peak { hz, ..part })
}

/// A frequency as exact as the moments have it.
pub(super) struct Line {
    pub(super) hz: f64,
    pub(super) half_width_hz: f64,
    pub(super) coherence: f64,
}

/// Looks closer, in pieces that get longer as long as phase is kept in them.
pub(super) fn refined(times: &[f64], peak: Peak, span: f64) -> Line {
    let mut length = peak.length_s;
    let (mut hz, first) = closest(times, peak.hz, 1.0 / length, length);
    let mut squared = first;
    while length < span {
        let longer = (2.0 * length).min(span);
        let (at, then) = closest(times, hz, 1.0 / length, longer);
        if then < KEPT * KEPT * first {
            break;
        }
        (hz, squared, length) = (at, then, longer);
    }
    Line {
        hz,
        // Of a line seen through the taper.
        half_width_hz: 0.72 / length,
        coherence: squared.clamp(0.0, 1.0).sqrt(),
    }
}

/// The frequency within `reach` of `hz` at which coherence is highest, and its square.
fn closest(times: &[f64], hz: f64, reach: f64, length: f64) -> (f64, f64) {
    const PER_WIDTH: f64 = 8.0;
    let steps = (reach * length * PER_WIDTH).ceil() as i32;
    (-steps..=steps)
        .map(|step| hz + f64::from(step) / (PER_WIDTH * length))
        .map(|hz| (hz, spectrum::coherence_squared(times, hz, length)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((hz, 0.0))
}
