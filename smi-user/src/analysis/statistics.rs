//! The difference of two means of what comes in bursts.
//!
//! Gaps that come together are not so many independent ones. So the recordings are cut into blocks of time, and what the
//! blocks differ by, beyond what chance has them differ by if all gaps were independent, says how unsure a mean is.

use statrs::{
    distribution::{ContinuousCDF as _, StudentsT},
    function::beta::beta_reg,
};

/// Fewer blocks of time do not say how much they differ.
pub(super) const FEWEST_BLOCKS: usize = 8;
/// With fewer bursts than these in all, or than `FEW_OF_ONE` in one of the two, chance is reckoned exactly: so few do not
/// say how much they vary.
const FEW: f64 = 50.0;
const FEW_OF_ONE: f64 = 5.0;

/// What came in one block of time: so much, in so much. Gaps in exposure, or a score in gaps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    /// Above the line.
    pub(super) much: f64,
    /// Below it.
    pub(super) of: f64,
}

/// A ratio of sums, `much / of`, and how sure it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    pub(super) much: f64,
    pub(super) of: f64,
    /// Variance of `much` around what `of` has one expect.
    pub(super) variance: f64,
    /// What that variance rests on.
    pub(super) freedom: f64,
}

impl Ratio {
    /// `None` with too few blocks that have something below the line. `independent` is the variance of `much` if there
    /// were no bursts; it is never taken to be less.
    pub(super) fn of(blocks: &[Block], independent: f64) -> Option<Self> {
        let mut blocks: Vec<Block> = blocks.iter().copied().filter(|b| b.of > 0.0).collect();
        if blocks.len() < FEWEST_BLOCKS {
            return None;
        }
        let much: f64 = blocks.iter().map(|block| block.much).sum();
        let of: f64 = blocks.iter().map(|block| block.of).sum();
        // Bursts may be longer than a block: longer blocks, and the largest variance of all.
        let mut best = (0.0, 1.0);
        while blocks.len() >= FEWEST_BLOCKS {
            let freedom = blocks.len() as f64 - 1.0;
            let squares: f64 = blocks
                .iter()
                .map(|block| (block.much - much / of * block.of).powi(2))
                .sum();
            let variance = squares * blocks.len() as f64 / freedom;
            if variance > best.0 {
                best = (variance, freedom);
            }
            blocks = blocks
                .chunks(2)
                .map(|pair| Block {
                    much: pair.iter().map(|block| block.much).sum(),
                    of: pair.iter().map(|block| block.of).sum(),
                })
                .collect();
        }
        let (variance, freedom) = if best.0 > independent {
            best
        } else {
            (independent, f64::MAX)
        };
        Some(Self {
            much,
            of,
            variance,
            freedom,
        })
    }

    fn value(&self) -> f64 {
        self.much / self.of
    }
}

/// Two-sided probability that chance has `z` standard errors, which rest on `freedom`, between two means.
fn two_sided(z: f64, freedom: f64) -> f64 {
    // With so many, it is the normal distribution.
    StudentsT::new(0.0, 1.0, freedom.min(1e6)).map_or(1.0, |t| (2.0 * t.sf(z.abs())).min(1.0))
}

/// Welch and Satterthwaite: what a sum of two variances rests on.
fn freedom(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 + b.0).powi(2) / (a.0.powi(2) / a.1 + b.0.powi(2) / b.1)
}

/// How two rates of counts differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RateDifference {
    pub(super) p: f64,
    /// The 95 % interval of `after / before`.
    pub(super) range: Option<(f64, f64)>,
}

/// Compares counts; `None` when there are none.
pub(super) fn rates(before: &Ratio, after: &Ratio) -> Option<RateDifference> {
    let counts = before.much + after.much;
    if counts <= 0.0 {
        return None;
    }
    // One that has few says little of its bursts: the other's stand for both.
    let bursts = [before, after]
        .into_iter()
        .map(|one| {
            if one.much > 0.0 {
                one.variance / one.much
            } else {
                1.0
            }
        })
        .fold(1.0, f64::max);
    if counts / bursts < FEW || before.much.min(after.much) / bursts < FEW_OF_ONE {
        return Some(exact(before, after, bursts));
    }
    let relative = |one: &Ratio| (one.variance / one.much.powi(2), one.freedom);
    let (of_before, of_after) = (relative(before), relative(after));
    let error = (of_before.0 + of_after.0).sqrt();
    let ratio = after.value() / before.value();
    let freedom = freedom(of_before, of_after);
    Some(RateDifference {
        p: two_sided(ratio.ln() / error, freedom),
        range: StudentsT::new(0.0, 1.0, freedom.min(1e6)).ok().map(|t| {
            let reach = (t.inverse_cdf(0.975) * error).exp();
            (ratio / reach, ratio * reach)
        }),
    })
}

/// Given how many there are in all, those after are binomial if the rates are the same. Bursts count as one each.
fn exact(before: &Ratio, after: &Ratio, bursts: f64) -> RateDifference {
    let (before_count, after_count) = (before.much / bursts, after.much / bursts);
    let share = after.of / (before.of + after.of);
    let p = 2.0
        * at_least(after_count, before_count, share).min(at_least(
            before_count,
            after_count,
            1.0 - share,
        ));
    let range = (before.much > 0.0 && after.much > 0.0).then(|| {
        // Clopper and Pearson's interval of the share, turned into one of the ratio.
        let odds = |share: f64| share / (1.0 - share) * before.of / after.of;
        let low = bisect(|share| at_least(after_count, before_count, share) >= 0.025);
        let high = bisect(|share| at_least(before_count, after_count, 1.0 - share) < 0.025);
        (odds(low), odds(high))
    });
    RateDifference {
        p: p.min(1.0),
        range,
    }
}

/// Probability of `count` or more, of `count + others`, each with the probability `share`.
fn at_least(count: f64, others: f64, share: f64) -> f64 {
    if count <= 0.0 {
        1.0
    } else {
        beta_reg(count, others + 1.0, share.clamp(0.0, 1.0))
    }
}

/// The least share for which `is` holds, of a condition that goes on holding.
fn bisect(is: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if is(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Two-sided probability that chance has two means of scores differ so much.
pub(super) fn means(before: &Ratio, after: &Ratio) -> f64 {
    let squared = |one: &Ratio| (one.variance / one.of.powi(2), one.freedom);
    let (of_before, of_after) = (squared(before), squared(after));
    let error = (of_before.0 + of_after.0).sqrt();
    if error <= 0.0 {
        return 1.0;
    }
    two_sided(
        (after.value() - before.value()) / error,
        freedom(of_before, of_after),
    )
}

/// Which of several probabilities are below `level` after Holm's correction (Scand. J. Statist. 6, 1979): the smallest is
/// held against `level` by their number, the next by one less, until one is not below.
pub(super) fn holm(probabilities: &[Option<f64>], level: f64) -> Vec<Option<bool>> {
    let mut order: Vec<(usize, f64)> = probabilities
        .iter()
        .enumerate()
        .filter_map(|(at, p)| Some((at, (*p)?)))
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut sure: Vec<Option<bool>> = probabilities.iter().map(|p| p.map(|_| false)).collect();
    let count = order.len();
    for (rank, (at, p)) in order.into_iter().enumerate() {
        if p * (count - rank) as f64 >= level {
            break;
        }
        sure[at] = Some(true);
    }
    sure
}
