//! What the kernel side counted, as reports have it.

use smi_common::irqsoff::{IrqsoffStats, Kind};

use crate::model::irqsoff::{CpuCounts, KindCounts};

/// What `stats` say of `cpu`.
pub fn counts(cpu: u32, stats: &IrqsoffStats) -> CpuCounts {
    CpuCounts {
        cpu,
        ticks: stats.ticks,
        missed: stats.missed,
        smis_unread: stats.smis_unread,
        watched_ns: stats.watched_ns,
        late_max_ns: stats.late_max_ns,
        kinds: Kind::ALL
            .into_iter()
            .zip(&stats.kinds)
            .filter(|(_, totals)| totals.count + totals.exempt > 0)
            .map(|(kind, totals)| KindCounts {
                kind,
                count: totals.count,
                sum_ns: totals.sum_ns,
                max_ns: totals.max_ns,
                exempt: totals.exempt,
                exempt_ns: totals.exempt_ns,
                histogram: totals.histogram.into(),
            })
            .collect(),
        records_sent: stats.records_sent,
        records_lost: stats.records_lost,
    }
}
