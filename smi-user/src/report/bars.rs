//! A histogram drawn in text.

use crate::{model::Histogram, units::show_ns};
use smi_common::buckets::{BUCKETS, PER_OCTAVE, lower_ns, upper_ns};

/// Rows at the most; neighbouring buckets share a row when there are more.
const MAX_ROWS: usize = 24;

/// Characters of the longest bar.
const BAR: usize = 40;

/// Rows of `from .. to  count  share  bar`, one for each bucket or group of them from the shortest gap to the longest.
///
/// Bars are proportional to the count; a count too small for one character still gets a dot, so that the rare long gap
/// is seen.
pub(super) fn rows(histogram: &Histogram) -> Vec<String> {
    let counts = histogram.counts();
    let Some(first) = counts.iter().position(|count| *count > 0) else {
        return Vec::new();
    };
    let last = counts.iter().rposition(|count| *count > 0).unwrap_or(first);
    let mut group = 1;
    while last / group - first / group >= MAX_ROWS && group < PER_OCTAVE {
        group *= 2;
    }
    let rows: Vec<(usize, u64)> = (first / group..=last / group)
        .map(|row| {
            let end = ((row + 1) * group).min(BUCKETS);
            (row, counts[row * group..end].iter().sum())
        })
        .collect();
    let total = histogram.total() as f64;
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
    rows.into_iter()
        .map(|(row, count)| {
            let from = lower_ns(row * group) as f64;
            let to = upper_ns(((row + 1) * group).min(BUCKETS) - 1)
                .map_or_else(|| "longer".to_owned(), |ns| show_ns(ns as f64));
            let length = rounded(u128::from(count) * BAR as u128, u128::from(most));
            let bar = match (count, length) {
                (0, _) => String::new(),
                (_, 0) => ".".to_owned(),
                (_, length) => "#".repeat(length),
            };
            let row = format!(
                "{:>9} .. {to:>9} {count:>9} {:>5.1} %  {bar}",
                show_ns(from),
                count as f64 / total * 100.0,
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
        let mut histogram = Histogram::default();
        for ns in durations {
            histogram.record(ns);
        }
        histogram
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
