//! The histogram as user space holds it, and the percentiles read from it.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smi_common::buckets::{self, BOUNDS, BUCKETS, FIRST_INDEX};

/// Counts in the buckets of a Prometheus native histogram, schema 3 (see [`smi_common::buckets`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram([u64; BUCKETS]);

/// One bucket that is not empty, as reports write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Prometheus's number of the bucket: durations in (2^((index-1)/8) s, 2^(index/8) s]. The lowest, -192, holds
    /// all shorter ones too; the highest, 33, all longer ones.
    pub index: i32,
    /// Upper bound in ns, inclusive; `None` for the highest.
    pub le_ns: Option<u64>,
    /// Gaps in it.
    pub count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl From<[u64; BUCKETS]> for Histogram {
    fn from(counts: [u64; BUCKETS]) -> Self {
        Self(counts)
    }
}

impl FromIterator<u64> for Histogram {
    /// Of these durations in ns.
    fn from_iter<T: IntoIterator<Item = u64>>(durations: T) -> Self {
        let mut histogram = Self::default();
        for ns in durations {
            histogram.record(ns);
        }
        histogram
    }
}

impl Histogram {
    /// Counts by position, from the shortest.
    pub fn counts(&self) -> &[u64; BUCKETS] {
        &self.0
    }

    /// Adds one duration.
    pub fn record(&mut self, ns: u64) {
        self.0[buckets::position(ns)] += 1;
    }

    /// Number of durations.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// What came since `earlier`, a former state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (now, then) in since.0.iter_mut().zip(&earlier.0) {
            *now = now.saturating_sub(*then);
        }
        since
    }

    /// The duration in ns below which the share `q` (0 to 1) of all lie; `None` when there are none.
    ///
    /// Within a bucket the durations are taken to be spread evenly on a logarithmic scale, as Prometheus's
    /// `histogram_quantile` does for native histograms. The error is below the bucket's width, 9 %.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * total as f64;
        let mut below = 0.0;
        let mut last = 0;
        for (position, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= rank {
                return Some(within(position, (rank - below) / count));
            }
            below += count;
            last = position;
        }
        Some(within(last, 1.0))
    }

    /// The buckets that are not empty, ascending.
    pub fn filled(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.0
            .iter()
            .zip(FIRST_INDEX..)
            .enumerate()
            .filter(|(_, (count, _))| **count > 0)
            .map(|(position, (count, index))| Bucket {
                index,
                le_ns: buckets::upper_ns(position),
                count: *count,
            })
    }
}

/// The duration at the share `part` (0 to 1) of the bucket at `position`.
fn within(position: usize, part: f64) -> f64 {
    let lower = buckets::lower_ns(position) as f64;
    match buckets::upper_ns(position) {
        None => lower,
        Some(upper) if position == 0 => upper as f64 * part,
        Some(upper) => lower * (upper as f64 / lower).powf(part),
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.filled())
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut histogram = Self::default();
        for bucket in Vec::<Bucket>::deserialize(deserializer)? {
            let position = usize::try_from(bucket.index - FIRST_INDEX)
                .ok()
                .filter(|position| *position <= BOUNDS)
                .ok_or_else(|| D::Error::custom(format!("no bucket has index {}", bucket.index)))?;
            histogram.0[position] = bucket.count;
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: impl IntoIterator<Item = u64>) -> Histogram {
        durations.into_iter().collect()
    }

    #[test]
    fn quantiles_lie_within_one_bucket_of_the_exact_ones() {
        let durations: Vec<u64> = (1..=10_000).map(|i| 1_000 + i * i / 10).collect();
        let histogram = of(durations.iter().copied());
        for q in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = (q * durations.len() as f64).ceil().max(1.0) as usize;
            let exact = durations[rank - 1];
            let estimate = histogram.quantile(q).expect("not empty");
            let apart =
                buckets::position(exact).abs_diff(buckets::position(estimate.round() as u64));
            assert!(apart <= 1, "q {q}: {estimate} for {exact}");
        }
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn durations_beyond_the_table_stay_at_its_ends() {
        let histogram = of([1, u64::MAX]);
        let filled: Vec<_> = histogram.filled().collect();
        assert_eq!(
            filled,
            [
                Bucket {
                    index: -192,
                    le_ns: Some(59),
                    count: 1
                },
                Bucket {
                    index: 33,
                    le_ns: None,
                    count: 1
                }
            ]
        );
        assert_eq!(histogram.quantile(1.0), Some(16e9));
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let mut now = of([100, 200]);
        let then = now.clone();
        now.add(&of([200, 300]));
        assert_eq!(now.since(&then), of([200, 300]));
    }

    #[test]
    fn json_holds_filled_buckets_only_and_reads_back() {
        let histogram = of([100, 100, 5_000_000]);
        let json = serde_json::to_string(&histogram).expect("json");
        assert_eq!(
            json,
            r#"[{"index":-186,"le_ns":100,"count":2},{"index":-61,"le_ns":5065779,"count":1}]"#
        );
        let back: Histogram = serde_json::from_str(&json).expect("read back");
        assert_eq!(back, histogram);
        let foreign = r#"[{"index":34,"le_ns":null,"count":1}]"#;
        assert!(serde_json::from_str::<Histogram>(foreign).is_err());
    }
}
