//! The gaps among which fixed intervals are looked for: moments, as many as can be kept, chosen so that the choice has no
//! rhythm of its own.

use super::clock::Clock;
use crate::model::{Cause, Gap};
use fastrand::Rng;

/// Moments kept of each kind at the most.
const MOST: usize = 4_096;
/// Longest gaps kept at the most.
const LONGEST: usize = 1_024;
/// The longest gaps are those among the longest one in so many.
const ONE_IN: u64 = 10;
/// Gaps that begin within this time of one another are one event: the same SMI stops all CPUs, at nearly the same time.
const SAME_NS: i128 = 200_000;
/// Choices are the same each time.
const SEED: u64 = 0x5eed_0f91;

/// Moments at which gaps of one kind began.
pub(super) struct Moments {
    /// Which gaps.
    pub(super) cause: Option<Cause>,
    /// Those longer than this only.
    pub(super) longer_than_ns: Option<u64>,
    /// Seconds since the beginning, ascending.
    pub(super) times: Vec<f64>,
}

/// See the module.
pub(super) struct Events {
    all: Sample,
    causes: Vec<(Cause, Sample)>,
    longest: Vec<(u64, i128)>,
    /// The newest event: it may yet turn out longer on another CPU.
    newest: Option<(u64, i128)>,
}

impl Events {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            all: Sample::new(),
            causes: Vec::new(),
            longest: Vec::new(),
            newest: None,
        }
    }

    /// Takes the gaps of an interval, all that came in it.
    pub(super) fn add(&mut self, gaps: &[Gap], clock: &Clock) {
        let mut gaps: Vec<(i128, &Gap)> = gaps
            .iter()
            .map(|gap| {
                let began = clock.position(gap.end_time) - i128::from(gap.duration_ns);
                (began, gap)
            })
            .collect();
        gaps.sort_by_key(|(began, _)| *began);
        for (began, gap) in gaps {
            if self.all.add(began) {
                self.longest
                    .extend(self.newest.replace((gap.duration_ns, began)));
                if self.longest.len() >= 2 * LONGEST {
                    self.keep_longest(LONGEST);
                }
            } else if let Some((ns, _)) = &mut self.newest {
                *ns = gap.duration_ns.max(*ns);
            }
            let of_cause = self.causes.iter_mut().find(|(of, _)| *of == gap.cause);
            if let Some((_, sample)) = of_cause {
                sample.add(began);
            } else {
                let mut sample = Sample::new();
                sample.add(began);
                self.causes.push((gap.cause, sample));
            }
        }
    }

    /// The moments of each kind: all, each cause unless nearly all are of it, and the longest.
    pub(super) fn finish(mut self) -> Vec<Moments> {
        let total = self.all.seen;
        self.longest.extend(self.newest);
        let longest = usize::try_from(total / ONE_IN)
            .unwrap_or(LONGEST)
            .min(LONGEST);
        self.keep_longest(longest);
        let shortest = self.longest.iter().map(|(ns, _)| *ns).min();
        let mut kinds = vec![Moments {
            cause: None,
            longer_than_ns: None,
            times: seconds(self.all.moments),
        }];
        kinds.extend(
            self.causes
                .into_iter()
                .filter(|(_, sample)| sample.seen * 20 < total * 19)
                .map(|(cause, sample)| Moments {
                    cause: Some(cause),
                    longer_than_ns: None,
                    times: seconds(sample.moments),
                }),
        );
        if let Some(shortest) = shortest {
            kinds.push(Moments {
                cause: None,
                longer_than_ns: Some(shortest.saturating_sub(1)),
                times: seconds(self.longest.into_iter().map(|(_, began)| began).collect()),
            });
        }
        kinds
    }

    fn keep_longest(&mut self, count: usize) {
        self.longest
            .sort_unstable_by_key(|longest| std::cmp::Reverse(*longest));
        self.longest.truncate(count);
    }
}

fn seconds(moments: Vec<i128>) -> Vec<f64> {
    let mut times: Vec<f64> = moments.into_iter().map(|ns| ns as f64 / 1e9).collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

/// A random sample of moments. Each has the same chance to be in it, so that what is periodic stays so; leaving out
/// stretches of time would make a rhythm where there is none.
struct Sample {
    moments: Vec<i128>,
    /// One of 2^this is kept.
    halvings: u32,
    last: Option<i128>,
    seen: u64,
    random: Rng,
}

impl Sample {
    fn new() -> Self {
        Self {
            moments: Vec::new(),
            halvings: 0,
            last: None,
            seen: 0,
            random: Rng::with_seed(SEED),
        }
    }

    /// False when it is of the same event as the one before.
    fn add(&mut self, moment: i128) -> bool {
        if self
            .last
            .is_some_and(|last| moment - last < SAME_NS && moment >= last - SAME_NS)
        {
            return false;
        }
        self.last = Some(moment);
        self.seen += 1;
        if (0..self.halvings).all(|_| self.random.bool()) {
            self.moments.push(moment);
        }
        if self.moments.len() >= 2 * MOST {
            let random = &mut self.random;
            self.moments.retain(|_| random.bool());
            self.halvings += 1;
        }
        true
    }
}
