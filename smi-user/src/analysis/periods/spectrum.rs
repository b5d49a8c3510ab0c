//! How well moments keep time with a frequency, for many frequencies at once.

use std::f64::consts::{PI, TAU};

/// Bins on either side that say how high the spectrum is without a line.
pub(super) const MARGIN: usize = 150;
/// Bins next to a line that belong to it.
const LINE: usize = 6;
/// Fewer bins than these below have no median worth the name: at the low end their mean stands in.
const FEW: usize = 24;
/// Bins for each reciprocal of a piece's length. A line is four reciprocals wide, because of the taper.
const BINS: f64 = 2.0;
/// Bins so close that they tell the same.
const ALIKE: f64 = 3.0;
/// Frequencies that are worked on at once.
const LANES: usize = 4;

/// Power by frequency: of each piece, the squared length of the sum of its moments' phase vectors, by what it would be by
/// chance; then all pieces' sum. By chance alone it follows a Gamma distribution whose shape is the number of pieces.
pub(super) struct Spectrum {
    /// Length of a piece, in seconds.
    pub(super) length: f64,
    /// Pieces with two moments or more.
    pub(super) pieces: f64,
    first: usize,
    power: Vec<f64>,
}

impl Spectrum {
    /// From `from` to `to` Hz, and so much more on either side as it takes to judge that.
    pub(super) fn of(times: &[f64], length: f64, from: f64, to: f64) -> Self {
        let bin = |hz: f64| (hz * length * BINS).round() as usize;
        // Below two cycles a piece, its own length is all there is to see.
        let first = bin(from)
            .saturating_sub(MARGIN + LINE)
            .max((2.0 * BINS) as usize);
        let last = bin(to) + MARGIN + LINE;
        let count = (last + 1).saturating_sub(first).next_multiple_of(LANES);
        let mut power = vec![0.0; count];
        let mut sums = Sums::new(count);
        let mut used = 0.0;
        for piece in pieces(times, length) {
            if piece.len() < 2 {
                continue;
            }
            let squares = sums.add_up(piece, length, first);
            if squares <= 0.0 {
                continue;
            }
            used += 1.0;
            for ((power, re), im) in power.iter_mut().zip(&sums.re).zip(&sums.im) {
                *power += (re * re + im * im) / squares;
            }
        }
        Self {
            length,
            pieces: used,
            first,
            power,
        }
    }

    /// Frequencies from `from` to `to` with their power, as it would be if the spectrum were flat without the lines.
    pub(super) fn whitened(&self, from: f64, to: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
        let bin = |hz: f64| (hz * self.length * BINS).round() as usize;
        let (from, to) = (bin(from).max(self.first + LINE), bin(to));
        let usable = self.pieces > 0.0;
        let mut levels = Levels::default();
        (from..to).filter(move |_| usable).map(move |at| {
            let hz = at as f64 / (self.length * BINS);
            let here = at - self.first;
            (hz, self.power[here] / levels.at(self, here))
        })
    }
}

/// How high a spectrum is beside its lines. Neighbours share it, since it changes slowly.
#[derive(Default)]
struct Levels {
    known: Option<(usize, f64)>,
    sorted: Vec<f64>,
}

impl Levels {
    /// By what the power at `at` is to be divided; no less than 1, which pure chance gives.
    fn at(&mut self, spectrum: &Spectrum, at: usize) -> f64 {
        const SHARED: usize = 4;
        if let Some((known, level)) = self.known
            && known == at / SHARED
        {
            return level;
        }
        // The line's bins, whichever of those that share this is the line.
        let centre = at / SHARED * SHARED + SHARED / 2;
        let gap = LINE + SHARED / 2;
        let power = &spectrum.power;
        let below = &power[centre.saturating_sub(MARGIN + gap)..centre.saturating_sub(gap)];
        let above =
            &power[(centre + gap).min(power.len())..(centre + gap + MARGIN).min(power.len())];
        let level = self
            .level(below, spectrum.pieces)
            .max(self.level(above, spectrum.pieces))
            .max(1.0);
        self.known = Some((at / SHARED, level));
        level
    }

    fn level(&mut self, powers: &[f64], pieces: f64) -> f64 {
        if powers.is_empty() {
            return 0.0;
        }
        let count = powers.len() as f64;
        if powers.len() < FEW {
            return powers.iter().sum::<f64>() / count / pieces;
        }
        self.sorted.clear();
        self.sorted.extend_from_slice(powers);
        let middle = powers.len() / 2;
        let (_, median, _) = self.sorted.select_nth_unstable_by(middle, f64::total_cmp);
        // The median of a Gamma distribution, and what the median of so few may be too low by.
        let expected = pieces - 1.0 / 3.0 + 0.027 / pieces;
        let unsure = 1.0 + 2.0 * (ALIKE / (count * pieces)).sqrt();
        *median / expected * unsure
    }
}

/// Sums of phase vectors by frequency.
struct Sums {
    re: Vec<f64>,
    im: Vec<f64>,
}

impl Sums {
    fn new(count: usize) -> Self {
        Self {
            re: vec![0.0; count],
            im: vec![0.0; count],
        }
    }

    /// Sums up a piece from the bin `first` on; the sum of its weights' squares.
    fn add_up(&mut self, piece: &[f64], length: f64, first: usize) -> f64 {
        self.re.fill(0.0);
        self.im.fill(0.0);
        let mut squares = 0.0;
        for time in piece {
            let weight = weight(*time, length);
            squares += weight * weight;
            let step = TAU * time / length.max(f64::MIN_POSITIVE) / BINS;
            let mut cos = [0.0; LANES];
            let mut sin = [0.0; LANES];
            for lane in 0..LANES {
                let (s, c) = ((step * (first + lane) as f64) % TAU).sin_cos();
                (cos[lane], sin[lane]) = (weight * c, weight * s);
            }
            let (turn_sin, turn_cos) = (step * LANES as f64).sin_cos();
            let lanes = self
                .re
                .chunks_exact_mut(LANES)
                .zip(self.im.chunks_exact_mut(LANES));
            for (re, im) in lanes {
                for lane in 0..LANES {
                    re[lane] += cos[lane];
                    im[lane] += sin[lane];
                    let turned = cos[lane] * turn_cos - sin[lane] * turn_sin;
                    sin[lane] = cos[lane] * turn_sin + sin[lane] * turn_cos;
                    cos[lane] = turned;
                }
            }
        }
        squares
    }
}

/// Moments in pieces of `length`, without the empty ones.
pub(super) fn pieces(times: &[f64], length: f64) -> impl Iterator<Item = &[f64]> {
    times.chunk_by(move |a, b| (a / length) as u64 == (b / length) as u64)
}

/// A piece tapers off at both ends (Hann), so that its ends do not show.
fn weight(time: f64, length: f64) -> f64 {
    let part = time / length;
    (PI * (part - part.floor())).sin().powi(2)
}

/// The phase at which a piece keeps time with `hz`, in turns.
pub(super) fn phase(piece: &[f64], hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for time in piece {
        let (sin, cos) = ((TAU * hz * time) % TAU).sin_cos();
        re += cos;
        im += sin;
    }
    im.atan2(re) / TAU
}

/// The squared length of the mean phase vector at `hz`, without what chance adds: over all pairs of one piece.
pub(super) fn coherence_squared(times: &[f64], hz: f64, length: f64) -> f64 {
    let (mut together, mut pairs) = (0.0, 0.0);
    for piece in pieces(times, length).filter(|piece| piece.len() > 1) {
        let (mut re, mut im, mut sum, mut squares) = (0.0, 0.0, 0.0, 0.0);
        for time in piece {
            let weight = weight(*time, length);
            let (sin, cos) = ((TAU * hz * time) % TAU).sin_cos();
            re += weight * cos;
            im += weight * sin;
            sum += weight;
            squares += weight * weight;
        }
        together += re * re + im * im - squares;
        pairs += sum * sum - squares;
    }
    if pairs > 0.0 { together / pairs } else { 0.0 }
}
