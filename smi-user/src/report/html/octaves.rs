//! What timeline and heat map share: durations in octaves, the scale over them, and time in columns.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use smi_common::buckets::{BUCKETS, PER_OCTAVE, lower_ns, position, upper_ns};

use super::axes::{Frame, Log};
use crate::model::{Histogram, Interval, Slot, Summary};

/// An octave of durations: eight buckets, bounded by powers of two of a second. The lowest holds all shorter durations,
/// the highest all longer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Octave(usize);

impl Octave {
    /// The one that holds a bucket.
    fn of_bucket(position: usize) -> Self {
        Self(position.div_ceil(PER_OCTAVE))
    }

    /// The one that holds a duration.
    pub(super) fn of_ns(ns: u64) -> Self {
        Self::of_bucket(position(ns))
    }

    /// Its buckets.
    pub(super) fn buckets(self) -> Range<usize> {
        let first = (self.0 * PER_OCTAVE + 1).saturating_sub(PER_OCTAVE);
        first..(self.0 * PER_OCTAVE + 1).min(BUCKETS)
    }

    /// Its bounds as they are drawn: the open ones are put an octave from the other.
    pub(super) fn bounds_ns(self) -> (f64, f64) {
        let buckets = self.buckets();
        let low = lower_ns(buckets.start) as f64;
        match upper_ns(buckets.end - 1) {
            None => (low, low * 2.0),
            Some(high) if self.0 == 0 => (high as f64 / 2.0, high as f64),
            Some(high) => (low, high as f64),
        }
    }

    /// Gaps in it.
    pub(super) fn count(self, histogram: &Histogram) -> u64 {
        histogram.counts()[self.buckets()].iter().sum()
    }

    /// All from that of the shortest gap, or of the threshold if that is lower, to that of the longest gap.
    pub(super) fn all(summary: &Summary) -> Vec<Self> {
        let counts = summary.total.histogram.counts();
        let first = counts.iter().position(|count| *count > 0);
        let last = counts.iter().rposition(|count| *count > 0);
        let threshold = Self::of_ns(summary.detector.threshold_ns);
        let low = first.map_or(threshold, |first| Self::of_bucket(first).min(threshold));
        let high = last.map_or(low, |last| Self::of_bucket(last).max(low));
        (low.0..=high.0).map(Self).collect()
    }
}

/// The scale of durations from the bottom of a chart to its top: whole octaves, with room for the hardlimit.
pub(super) fn durations(summary: &Summary, frame: &Frame) -> Log {
    let octaves = Octave::all(summary);
    let low = octaves.first().map_or(1.0, |first| first.bounds_ns().0);
    let high = octaves.last().map_or(1.0, |last| last.bounds_ns().1);
    let limit = summary
        .verdict
        .as_ref()
        .map_or(0.0, |verdict| verdict.hardlimit_ns as f64 * 1.2);
    Log::new(
        low,
        high.max(limit).max(low * 8.0),
        frame.bottom(),
        frame.top,
    )
}

/// Neighbouring slots taken together.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Which.
    pub(super) slots: Range<usize>,
    /// When the first began.
    pub(super) began: Timestamp,
    /// When the last ended.
    pub(super) ended: Timestamp,
    /// All gaps and exposure in them.
    pub(super) counts: Interval,
}

/// The slots, taken together so that there are no more than `most`.
pub(super) fn columns(timeline: &[Slot], most: usize) -> Vec<Column> {
    let group = timeline.len().div_ceil(most).max(1);
    timeline
        .chunks(group)
        .enumerate()
        .filter_map(|(number, slots)| {
            let (first, last) = (slots.first()?, slots.last()?);
            let mut counts = Interval::default();
            for slot in slots {
                counts.add(&slot.counts);
            }
            Some(Column {
                slots: number * group..number * group + slots.len(),
                began: first.began,
                ended: end(last),
                counts,
            })
        })
        .collect()
}

/// When a slot ended.
fn end(slot: &Slot) -> Timestamp {
    let length = SignedDuration::from_nanos(slot.length_ns.cast_signed());
    slot.began.checked_add(length).unwrap_or(slot.began)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::show_ns;

    #[test]
    fn octaves_hold_every_bucket_once() {
        let mut next = 0;
        for number in 0..=Octave::of_bucket(BUCKETS - 1).0 {
            let buckets = Octave(number).buckets();
            assert_eq!(buckets.start, next);
            for bucket in buckets.clone() {
                assert_eq!(Octave::of_bucket(bucket).0, number);
            }
            let (low, high) = Octave(number).bounds_ns();
            assert!(low < high && low > 0.0);
            next = buckets.end;
        }
        assert_eq!(next, BUCKETS);
    }

    #[test]
    fn octaves_are_bounded_by_powers_of_two_of_a_second() {
        for (ns, low, high) in [
            (700_000_000, "500 ms", "1.00 s"),
            (1, "30 ns", "59 ns"),
            (u64::MAX, "16.0 s", "32.0 s"),
        ] {
            let bounds = Octave::of_ns(ns).bounds_ns();
            assert_eq!(
                (show_ns(bounds.0), show_ns(bounds.1)),
                (low.into(), high.into())
            );
        }
    }
}
