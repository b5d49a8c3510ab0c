//! The kernel's buckets as Prometheus has them: native ones unchanged, and a coarser choice for servers without.

use smi_common::buckets::{BUCKETS, FIRST_INDEX, LAST_INDEX, SCHEMA};

use crate::{model::Histogram, report::metrics::Sizes};

/// Buckets for each power of two.
const PER_POWER: i32 = 1 << SCHEMA;

/// The lowest classic bound is 2^this s, 0.95 us: less is below any threshold in use.
const LOWEST_POWER: i32 = -20;

/// Empty buckets between two filled ones that are written as zeros, since a new span would take more room.
const BRIDGED: i32 = 2;

/// Half the width of the zero bucket, which stays empty: Prometheus's own default, 2^-128. A threshold of 0 would have
/// servers take a histogram without gaps for a classic one.
pub(super) const ZERO_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52);

/// Native buckets that are filled, in Prometheus's writing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Native {
    /// Runs of consecutive buckets: how far each begins after the end of the one before (the first: its index), and its
    /// length.
    pub(super) spans: Vec<(i32, u32)>,
    /// The count of each bucket in them, as the difference from the one before.
    pub(super) deltas: Vec<i64>,
}

impl Native {
    /// The buckets of `histogram`. What is shorter than all bounds is in the lowest, -192; what is longer in the highest, 33.
    pub(super) fn of(histogram: &Histogram) -> Self {
        Self::new((FIRST_INDEX..).zip(histogram.counts().iter().copied()))
    }

    /// These counts by index, ascending.
    pub(super) fn new(counts: impl Iterator<Item = (i32, u64)>) -> Self {
        let mut native = Self::default();
        // One past the last bucket of the span that is being written.
        let mut end: Option<i32> = None;
        let mut before = 0;
        let mut push = |deltas: &mut Vec<i64>, count: u64| {
            let count = count.cast_signed();
            deltas.push(count - before);
            before = count;
        };
        for (index, count) in counts.filter(|(_, count)| *count > 0) {
            let empty = end.map(|end| index - end);
            match (empty, native.spans.last_mut()) {
                (Some(empty), Some((_, length))) if empty <= BRIDGED => {
                    for _ in 0..empty {
                        push(&mut native.deltas, 0);
                    }
                    *length += empty.cast_unsigned() + 1;
                }
                (empty, _) => native.spans.push((empty.unwrap_or(index), 1)),
            }
            push(&mut native.deltas, count);
            end = Some(index + 1);
        }
        native
    }
}

/// Upper bounds in seconds and the counts between them, not summed up; the last has no bound.
///
/// Each power of two from 0.95 us to 16 s: a subset of the kernel's bounds, so the counts are exact, and exact as binary
/// fractions, so no writing rounds them.
pub(super) fn classic(histogram: &Histogram) -> Vec<(f64, u64)> {
    let counts = histogram.counts();
    let mut from = 0;
    let mut buckets: Vec<(f64, u64)> = (LOWEST_POWER..=LAST_INDEX / PER_POWER)
        .map(|power| {
            let to = (power * PER_POWER - FIRST_INDEX) as usize + 1;
            let count = counts[from..to].iter().sum();
            from = to;
            (f64::from(power).exp2(), count)
        })
        .collect();
    buckets.push((f64::INFINITY, counts[from..BUCKETS].iter().sum()));
    buckets
}

/// Upper bounds in bytes and the counts between them, as [`classic`] has them: the kernel's own bounds.
pub(super) fn classic_sizes(sizes: &Sizes) -> Vec<(f64, u64)> {
    let bound = |power: i32| {
        if power == Sizes::BEYOND {
            f64::INFINITY
        } else {
            f64::from(power).exp2()
        }
    };
    sizes
        .all()
        .map(|(power, count)| (bound(power), count))
        .collect()
}

#[cfg(test)]
mod tests {
    use smi_common::buckets;

    use super::*;

    #[test]
    fn a_span_goes_on_over_few_empty_buckets_only() {
        let mut counts = [0; BUCKETS];
        counts[10] = 5;
        counts[11] = 3;
        counts[14] = 4;
        counts[18] = 1;
        let native = Native::of(&counts.into());
        assert_eq!(native.spans, [(-182, 5), (3, 1)]);
        assert_eq!(native.deltas, [5, -2, -3, 0, 4, -3]);
        assert_eq!(Native::of(&Histogram::default()), Native::default());
    }

    #[test]
    fn classic_bounds_are_bounds_of_the_kernels_buckets() {
        for (bound, _) in classic(&Histogram::default()) {
            if bound.is_finite() {
                let ns = (bound * 1e9).floor() as u64;
                assert_eq!(
                    buckets::upper_ns(buckets::position(ns)),
                    Some(ns),
                    "{bound} s"
                );
            }
        }
    }

    #[test]
    fn a_duration_on_a_bound_lies_below_it() {
        let mut histogram = Histogram::default();
        for ns in [1, 953, 954, 1_000_000_000, 1_000_000_001, u64::MAX] {
            histogram.record(ns);
        }
        let filled: Vec<(f64, u64)> = classic(&histogram)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            filled,
            [
                (2f64.powi(-20), 2),
                (2f64.powi(-19), 1),
                (1.0, 1),
                (2.0, 1),
                (f64::INFINITY, 1)
            ]
        );
    }

    #[test]
    fn the_zero_bucket_is_prometheus_s() {
        assert_eq!(ZERO_THRESHOLD.to_bits(), 2f64.powi(-128).to_bits());
    }
}
