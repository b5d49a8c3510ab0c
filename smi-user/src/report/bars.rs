//! A histogram drawn in text.

use crate::{model::Histogram, units::show_ns};
use smi_common::buckets::{BUCKETS, PER_OCTAVE, lower_ns, upper_ns};

/// Rows at the most; neighbouring buckets share a row when there are more.
const MAX_ROWS: usize = 24;

/// Characters of the longest bar.
const BAR: usize = 40;

/// One row: neighbouring buckets together.
pub(super) struct Group {
    /// Durations from this on, in ns.
    pub(super) from_ns: f64,
    /// Up to this; `None`: all longer ones.
    pub(super) to_ns: Option<f64>,
    /// How many.
    pub(super) count: u64,
}

/// The buckets from the shortest gap to the longest in no more than `max_rows` groups, as long as one need not be wider
/// than `widest` buckets, a power of two.
pub(super) fn groups(histogram: &Histogram, max_rows: usize, widest: usize) -> Vec<Group> {
    let counts = histogram.counts();
    let Some(first) = counts.iter().position(|count| *count > 0) else {
        return Vec::new();
    };
    let last = counts.iter().rposition(|count| *count > 0).unwrap_or(first);
    let mut group = 1;
    while last / group - first / group >= max_rows && group < widest {
        group *= 2;
    }
    (first / group..=last / group)
        .map(|row| {
            let end = ((row + 1) * group).min(BUCKETS);
            Group {
                from_ns: lower_ns(row * group) as f64,
                to_ns: upper_ns(end - 1).map(|ns| ns as f64),
                count: counts[row * group..end].iter().sum(),
            }
        })
        .collect()
}

/// Rows of `from .. to  count  share  bar`, one for each bucket or group of them from the shortest gap to the longest.
///
/// Bars are proportional to the count; a count too small for one character still gets a dot, so that the rare long gap
/// is seen.
pub(super) fn rows(histogram: &Histogram) -> Vec<String> {
    let rows = groups(histogram, MAX_ROWS, PER_OCTAVE);
    let total = histogram.total() as f64;
    let most = rows.iter().map(|row| row.count).max().unwrap_or(1);
    rows.into_iter()
        .map(|row| {
            let to = row.to_ns.map_or_else(|| "longer".to_owned(), show_ns);
            let length = rounded(u128::from(row.count) * BAR as u128, u128::from(most));
            let bar = match (row.count, length) {
                (0, _) => String::new(),
                (_, 0) => ".".to_owned(),
                (_, length) => "#".repeat(length),
            };
            let row = format!(
                "{:>9} .. {to:>9} {:>9} {:>5.1} %  {bar}",
                show_ns(row.from_ns),
                row.count,
                row.count as f64 / total * 100.0,
            );
            row.trim_end().to_owned()
        })
        .collect()
}

/// `a / b`, rounded to the nearest whole.
fn rounded(a: u128, b: u128) -> usize {
    ((a + b / 2) / b) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: impl IntoIterator<Item = u64>) -> Histogram {
        durations.into_iter().collect()
    }

    #[test]
    fn rows_run_from_the_shortest_gap_to_the_longest() {
        let mut durations = vec![10_000; 100];
        durations.extend([11_000, 13_000]);
        assert_eq!(
            rows(&of(durations)),
            [
                "  9.89 us ..   10.8 us       100  98.0 %  ########################################",
                "  10.8 us ..   11.8 us         1   1.0 %  .",
                "  11.8 us ..   12.8 us         0   0.0 %",
                "  12.8 us ..   14.0 us         1   1.0 %  .",
            ]
        );
    }

    #[test]
    fn a_wide_range_shares_rows_and_loses_no_count() {
        let rows = rows(&of((0..40).map(|octave| 1 << octave)));
        assert!(rows.len() <= MAX_ROWS + 8, "{} rows", rows.len());
        let sum: u64 = rows
            .iter()
            .map(|row| {
                let count = row
                    .split_whitespace()
                    .nth(if row.contains("longer") { 4 } else { 5 });
                count
                    .and_then(|count| count.parse::<u64>().ok())
                    .expect("a count")
            })
            .sum();
        assert_eq!(sum, 40);
    }

    #[test]
    fn nothing_gives_no_rows() {
        assert!(rows(&Histogram::default()).is_empty());
    }
}
