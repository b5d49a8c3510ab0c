//! Sizes in bytes, counted by powers of two.

/// How many of each size there were. A bucket's number is the power of two that is its upper bound, which is its number in a
/// native histogram of schema 0, too.
#[derive(Clone, Debug)]
pub(in crate::report) struct Sizes {
    counts: [u64; Self::BUCKETS],
    sum: u64,
}

impl Sizes {
    /// Prometheus's schema of these buckets: one for each power of two.
    pub(in crate::report) const SCHEMA: i32 = 0;
    /// The lowest bucket, which holds all smaller sizes too: 4 KiB.
    const LOWEST: i32 = 12;
    /// The bucket of all sizes that are above the last bound, 1 TiB.
    pub(in crate::report) const BEYOND: i32 = 41;
    const BUCKETS: usize = (Self::BEYOND - Self::LOWEST) as usize + 1;

    /// Of upper bounds, none for what is above all of them, and how many each time; `sum` is that of all sizes.
    pub(super) fn new(counts: impl Iterator<Item = (Option<u64>, u64)>, sum: u64) -> Self {
        let mut sizes = Self {
            counts: [0; Self::BUCKETS],
            sum,
        };
        for (bound, count) in counts {
            let power = match bound {
                None => Self::BEYOND,
                Some(0 | 1) => Self::LOWEST,
                // As many bits as the next power of two has below it.
                Some(bound) => (u64::BITS - (bound - 1).leading_zeros()).cast_signed(),
            };
            let bucket = power.clamp(Self::LOWEST, Self::BEYOND) - Self::LOWEST;
            sizes.counts[bucket.cast_unsigned() as usize] += count;
        }
        sizes
    }

    /// Sum of all sizes.
    pub(in crate::report) fn sum(&self) -> u64 {
        self.sum
    }

    /// How many there were.
    pub(in crate::report) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All buckets by number, ascending.
    pub(in crate::report) fn all(&self) -> impl Iterator<Item = (i32, u64)> {
        (Self::LOWEST..).zip(self.counts)
    }

    /// Those that are not empty.
    pub(in crate::report) fn filled(&self) -> impl Iterator<Item = (i32, u64)> {
        self.all().filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_in_the_bucket_of_the_next_power_of_two() {
        let counts = [
            (Some(0), 1),
            (Some(4096), 2),
            (Some(4097), 4),
            (Some(8192), 8),
            (Some(1 << 40), 16),
            (Some(u64::MAX), 32),
            (None, 64),
        ];
        let sizes = Sizes::new(counts.into_iter(), 99);
        let filled: Vec<_> = sizes.filled().collect();
        assert_eq!(filled, [(12, 3), (13, 12), (40, 16), (41, 96)]);
        assert_eq!((sizes.total(), sizes.sum()), (127, 99));
        assert_eq!(sizes.all().count(), 30);
    }
}
