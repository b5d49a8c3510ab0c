//! Single gaps, as many as can be kept.

use super::{clock::Clock, timeline::Timeline};
use crate::model::Gap;

/// Single gaps kept at the most.
const MOST: usize = 20_000;

/// See the module: where there are too many, the longest of each slot of the time line stay.
#[derive(Default)]
pub(super) struct Kept {
    /// With their positions on the time line.
    gaps: Vec<(i128, Gap)>,
    left_out: u64,
}

impl Kept {
    /// Takes the gaps of one line.
    pub(super) fn add(&mut self, gaps: &[Gap], timeline: &Timeline, clock: &Clock) {
        self.gaps
            .extend(gaps.iter().map(|gap| (clock.position(gap.end_time), *gap)));
        if self.gaps.len() >= 2 * MOST {
            self.thin(timeline);
        }
    }

    /// The gaps kept, oldest first, at the times that they have on the time line, and how many were not.
    pub(super) fn finish(mut self, timeline: &Timeline, clock: &Clock) -> (Vec<Gap>, u64) {
        if self.gaps.len() > MOST {
            self.thin(timeline);
        }
        self.gaps
            .sort_by_key(|(position, gap)| (*position, gap.cpu));
        let gaps = self.gaps.into_iter().map(|(position, gap)| Gap {
            end_time: clock.time(position),
            ..gap
        });
        (gaps.collect(), self.left_out)
    }

    fn thin(&mut self, timeline: &Timeline) {
        let place = |(position, _): &(i128, Gap)| timeline.place(*position);
        self.gaps
            .sort_by_cached_key(|gap| (place(gap), std::cmp::Reverse(gap.1.duration_ns)));
        // What slots with few gaps leave, those with many may take.
        let mut sizes: Vec<usize> = self
            .gaps
            .chunk_by(|a, b| place(a) == place(b))
            .map(<[(i128, Gap)]>::len)
            .collect();
        sizes.sort_unstable();
        let mut room = MOST;
        let mut each = 0;
        for (done, size) in sizes.iter().enumerate() {
            each = room / (sizes.len() - done);
            if *size > each {
                break;
            }
            room -= size;
        }
        let before = self.gaps.len();
        let (mut slot, mut taken) = (usize::MAX, 0);
        self.gaps.retain(|gap| {
            let at = place(gap);
            if at != slot {
                (slot, taken) = (at, 0);
            }
            taken += 1;
            taken <= each
        });
        self.left_out += (before - self.gaps.len()) as u64;
    }
}
