//! Rows of the table of CPUs, and their order.

use std::cmp::Ordering;

use super::data::Data;
use crate::units::show_ns;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Number of the CPU.
    Cpu,
    /// Gaps.
    Gaps,
    /// Gaps per second of exposure.
    Rate,
    /// Median duration.
    P50,
    /// 99th percentile of the durations.
    P99,
    /// Longest.
    Max,
    /// Longest of the last interval.
    IntervalMax,
    /// The newest gap.
    Last,
    /// SMIs counted.
    Smis,
    /// Time really spent sampling.
    Exposure,
}

impl Column {
    /// All, as they stand from left to right.
    pub const ALL: [Self; 10] = [
        Self::Cpu,
        Self::Gaps,
        Self::Rate,
        Self::P50,
        Self::P99,
        Self::Max,
        Self::IntervalMax,
        Self::Last,
        Self::Smis,
        Self::Exposure,
    ];

    /// Its heading.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Gaps => "gaps",
            Self::Rate => "gaps/s",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Max => "max",
            Self::IntervalMax => "now max",
            Self::Last => "last",
            Self::Smis => "SMIs",
            Self::Exposure => "exposure",
        }
    }

    /// Characters it takes at least, with room for the mark of the order.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Cpu => 5,
            Self::Smis => 6,
            Self::Gaps | Self::Exposure | Self::IntervalMax => 9,
            Self::Rate | Self::P50 | Self::P99 | Self::Max | Self::Last => 8,
        }
    }

    /// How soon it gives way where the terminal is narrow: the lowest first.
    pub(super) fn importance(self) -> u8 {
        match self {
            Self::Exposure => 0,
            Self::Last => 1,
            Self::P50 => 2,
            Self::Smis => 3,
            Self::Rate => 4,
            Self::P99 => 5,
            Self::IntervalMax => 6,
            Self::Gaps => 7,
            Self::Cpu | Self::Max => 8,
        }
    }

    /// The one `by` places further among `shown`, from the last to the first and back.
    pub(super) fn moved(self, by: isize, shown: &[Self]) -> Self {
        let at = shown.iter().position(|column| *column == self);
        let next = at.map_or(0, |at| {
            (at.cast_signed() + by)
                .rem_euclid(shown.len().cast_signed())
                .cast_unsigned()
        });
        shown.get(next).copied().unwrap_or(self)
    }
}

/// One CPU since the reset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) cpu: u32,
    gaps: u64,
    rate: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<u64>,
    interval_max: Option<u64>,
    last: Option<u64>,
    smis: Option<u64>,
    exposure_ns: u64,
}

impl Row {
    /// What it is sorted by; `None` comes last in either order.
    fn value(&self, column: Column) -> Option<f64> {
        let exact = |value: Option<u64>| value.map(|value| value as f64);
        match column {
            Column::Cpu => Some(self.cpu.into()),
            Column::Gaps => Some(self.gaps as f64),
            Column::Rate => self.rate,
            Column::P50 => self.p50,
            Column::P99 => self.p99,
            Column::Max => exact(self.max),
            Column::IntervalMax => exact(self.interval_max),
            Column::Last => exact(self.last),
            Column::Smis => exact(self.smis),
            Column::Exposure => Some(self.exposure_ns as f64),
        }
    }

    /// As it is shown.
    pub(super) fn text(&self, column: Column) -> String {
        let Some(value) = self.value(column) else {
            return "-".to_owned();
        };
        match column {
            Column::Cpu => self.cpu.to_string(),
            Column::Gaps => count(self.gaps),
            Column::Smis => count(self.smis.unwrap_or(0)),
            Column::Rate => rate(value),
            _ => show_ns(value),
        }
    }
}

/// The rows by `column`; those that are alike by CPU.
pub(super) fn rows(data: &Data, column: Column, descending: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = data
        .watched()
        .into_iter()
        .map(|cpu| {
            let since = data.since_reset(cpu);
            Row {
                cpu: cpu.cpu,
                gaps: since.count,
                rate: since.rate(),
                p50: since.quantile_ns(0.5),
                p99: since.quantile_ns(0.99),
                max: since.max_ns,
                interval_max: cpu.gaps.interval_max_ns,
                last: cpu.gaps.last_ns,
                smis: data.smis(cpu),
                exposure_ns: since.exposure_ns,
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        let order = match (a.value(column), b.value(column)) {
            (Some(a), Some(b)) if descending => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => {
                if a.is_some() == b.is_some() {
                    Ordering::Equal
                } else if a.is_some() {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        };
        order.then(a.cpu.cmp(&b.cpu))
    });
    rows
}

/// A count in at most seven characters.
pub(super) fn count(count: u64) -> String {
    match count {
        0..10_000_000 => count.to_string(),
        10_000_000..10_000_000_000 => format!("{:.1}M", count as f64 / 1e6),
        _ => format!("{:.3e}", count as f64),
    }
}

/// A rate in at most seven characters, with at least two significant digits.
pub(super) fn rate(rate: f64) -> String {
    if rate >= 1e7 {
        format!("{rate:.1e}")
    } else if rate >= 100.0 || rate == 0.0 {
        format!("{rate:.0}")
    } else if rate >= 1.0 {
        format!("{rate:.1}")
    } else if rate >= 0.01 {
        format!("{rate:.3}")
    } else {
        format!("{rate:.1e}")
    }
}
