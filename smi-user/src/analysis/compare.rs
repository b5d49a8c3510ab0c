//! How one recording differs from another, and whether by more than chance. `docs/report.md` explains the method.

use smi_common::buckets::{self, BUCKETS};

use super::statistics::{self, Block, Ratio};
use crate::{
    model::{
        Cause, CauseStats, Comparison, DetectorInfo, Difference, GapKind, Histogram, Interval,
        Machine, Summary,
    },
    units::show_ns,
};

/// A difference less probable than this is more than chance.
const CHANCE: f64 = 0.01;
/// Fewer gaps have no distribution.
const FEWEST_GAPS: u64 = 10;

/// Compares `after` with `before`.
pub fn compare(before: &Summary, after: &Summary) -> Comparison {
    let (was, is) = (&before.detector, &after.detector);
    let lowest = first_bucket([before.threshold_range_ns, after.threshold_range_ns]);
    let comparable =
        was.gap_kind == is.gap_kind && !before.gap_kinds_mixed && !after.gap_kinds_mixed;
    let mut kinds = vec![None];
    for of in before.causes.iter().chain(&after.causes) {
        if of.count > 0 && !kinds.contains(&Some(of.cause)) {
            kinds.push(Some(of.cause));
        }
    }
    let mut rows: Vec<Difference> = kinds
        .into_iter()
        .map(|cause| {
            let side = |summary| Side::of(summary, cause, lowest);
            row(cause, &side(before), &side(after), comparable)
        })
        .collect();
    let probabilities: Vec<Option<f64>> = rows
        .iter()
        .flat_map(|row| [row.rate_p_value, row.duration_p_value])
        .collect();
    let sure = statistics::holm(&probabilities, CHANCE);
    for (row, sure) in rows.iter_mut().zip(sure.chunks_exact(2)) {
        (row.rate_differs, row.durations_differ) = (sure[0], sure[1]);
    }
    Comparison {
        before: before.name.clone(),
        after: after.name.clone(),
        rows,
        remarks: remarks(before, after, lowest),
    }
}

/// Position of the first bucket that holds only gaps which no threshold dropped, neither in the one recording nor in the
/// other; 0 where there was but one threshold.
fn first_bucket(ranges: [(u64, u64); 2]) -> usize {
    let [(lowest, highest), (other_lowest, other_highest)] = ranges;
    let (lowest, highest) = (lowest.min(other_lowest), highest.max(other_highest));
    if lowest == highest {
        0
    } else {
        (buckets::position(highest) + 1).min(BUCKETS - 1)
    }
}

/// What is compared of one recording: all of it from the time line, so that rates, probabilities and ranges are of the same
/// gaps. What lies at no known time is left out.
struct Side {
    count: u64,
    exposure_ns: u64,
    histogram: Histogram,
    max_ns: Option<u64>,
    /// Exposure and gaps by duration of each slot.
    slots: Vec<(u64, Option<Histogram>)>,
}

impl Side {
    fn of(summary: &Summary, cause: Option<Cause>, lowest: usize) -> Self {
        let slots: Vec<(u64, Option<Histogram>)> = summary
            .timeline
            .iter()
            .map(|slot| {
                let histogram = match cause {
                    None => Some(&slot.counts.histogram),
                    Some(_) => of_cause(&slot.causes, cause).map(|of| &of.histogram),
                };
                let histogram = histogram.map(|histogram| above(histogram, lowest));
                (slot.counts.exposure_ns, histogram)
            })
            .collect();
        let mut histogram = Histogram::default();
        for slot in slots.iter().filter_map(|(_, histogram)| histogram.as_ref()) {
            histogram.add(slot);
        }
        Self {
            count: histogram.total(),
            exposure_ns: slots.iter().map(|(exposure_ns, _)| exposure_ns).sum(),
            max_ns: longest(summary, cause).filter(|_| histogram.total() > 0),
            histogram,
            slots,
        }
    }

    fn rate(&self) -> Option<f64> {
        (self.exposure_ns > 0).then(|| self.count as f64 * 1e9 / self.exposure_ns as f64)
    }

    fn p50_p99(&self) -> Option<(f64, f64)> {
        let top = self.max_ns? as f64;
        let quantile = |q| Some(self.histogram.quantile(q)?.min(top));
        Some((quantile(0.5)?, quantile(0.99)?))
    }

    /// Gaps in exposure.
    fn counts(&self) -> Option<Ratio> {
        let blocks: Vec<Block> = self
            .slots
            .iter()
            .map(|(exposure_ns, histogram)| Block {
                much: histogram.as_ref().map_or(0, Histogram::total) as f64,
                of: *exposure_ns as f64 / 1e9,
            })
            .collect();
        Ratio::of(&blocks, blocks.iter().map(|block| block.much).sum())
    }

    /// Scores in gaps; `variance` is that of a gap's score.
    fn scores(&self, scores: &[f64; BUCKETS], variance: f64) -> Option<Ratio> {
        let blocks: Vec<Block> = self
            .slots
            .iter()
            .filter_map(|(_, histogram)| histogram.as_ref())
            .map(|histogram| Block {
                much: histogram
                    .counts()
                    .iter()
                    .zip(scores)
                    .map(|(count, score)| *count as f64 * score)
                    .sum(),
                of: histogram.total() as f64,
            })
            .collect();
        Ratio::of(&blocks, variance * self.count as f64)
    }
}

fn of_cause(causes: &[CauseStats], cause: Option<Cause>) -> Option<&CauseStats> {
    causes.iter().find(|of| Some(of.cause) == cause)
}

/// The longest gap on the time line: that of all totals, which is exact, where these have nothing that the line has not.
fn longest(summary: &Summary, cause: Option<Cause>) -> Option<u64> {
    let of = |counts: &Interval, causes: &[CauseStats]| {
        if cause.is_none() {
            (counts.count, counts.max_ns)
        } else {
            of_cause(causes, cause).map_or((0, None), |of| (of.count, Some(of.max_ns)))
        }
    };
    let slots: Vec<(u64, Option<u64>)> = summary
        .timeline
        .iter()
        .map(|slot| of(&slot.counts, &slot.causes))
        .collect();
    let (total, max_ns) = of(&summary.total, &summary.causes);
    if slots.iter().map(|(count, _)| count).sum::<u64>() == total {
        max_ns
    } else {
        slots.into_iter().filter_map(|(_, max_ns)| max_ns).max()
    }
}

/// The part of a histogram from the bucket at `lowest` on.
fn above(histogram: &Histogram, lowest: usize) -> Histogram {
    let mut counts = *histogram.counts();
    counts[..lowest].fill(0);
    counts.into()
}

fn row(cause: Option<Cause>, before: &Side, after: &Side, comparable: bool) -> Difference {
    let rates = match (before.counts(), after.counts()) {
        (Some(before), Some(after)) if comparable => statistics::rates(&before, &after),
        _ => None,
    };
    let (rate_before, rate_after) = (before.rate(), after.rate());
    Difference {
        cause,
        rate_before,
        rate_after,
        ratio: match (rate_before, rate_after) {
            (Some(before), Some(after)) if before > 0.0 => Some(after / before),
            _ => None,
        },
        ratio_range: rates.and_then(|rates| rates.range),
        rate_p_value: rates.map(|rates| rates.p),
        rate_differs: None,
        p50_p99_before: before.p50_p99(),
        p50_p99_after: after.p50_p99(),
        max_before: before.max_ns,
        max_after: after.max_ns,
        duration_p_value: durations(before, after).filter(|_| comparable),
        durations_differ: None,
    }
}

/// Mann and Whitney's test on the buckets: each gap's score is the share of all gaps that are shorter, those of the same
/// bucket counting half. The means' errors are those of blocks of time, since gaps of one burst are of one length.
fn durations(before: &Side, after: &Side) -> Option<f64> {
    if before.count.min(after.count) < FEWEST_GAPS {
        return None;
    }
    let mut scores = [0.0; BUCKETS];
    let total = (before.count + after.count) as f64;
    let (mut shorter, mut squares) = (0.0, 0.0);
    let counts = before
        .histogram
        .counts()
        .iter()
        .zip(after.histogram.counts());
    for (score, (a, b)) in scores.iter_mut().zip(counts) {
        let here = (a + b) as f64;
        *score = (shorter + here / 2.0) / total;
        squares += here * (*score - 0.5).powi(2);
        shorter += here;
    }
    let variance = squares / total;
    if variance <= 0.0 {
        return Some(1.0);
    }
    Some(statistics::means(
        &before.scores(&scores, variance)?,
        &after.scores(&scores, variance)?,
    ))
}

/// What makes the two hard to compare.
fn remarks(before: &Summary, after: &Summary, lowest: usize) -> Vec<String> {
    let mut remarks = Vec::new();
    let (was, is) = (&before.detector, &after.detector);
    if was.gap_kind != is.gap_kind {
        remarks.push(
            "one recording counts every gap, the other the longest of each window (hwlat): their rates and durations cannot be compared"
                .to_owned(),
        );
    }
    for summary in [before, after] {
        if summary.gap_kinds_mixed {
            remarks.push(format!(
                "{} counts every gap for a part of the time, and the longest of each window (hwlat) for another: rates and \
                 durations cannot be compared",
                summary.name
            ));
        }
        remarks.extend(not_compared(summary));
    }
    if lowest > 0 {
        remarks.push(format!(
            "the thresholds differ, {} and {}: only gaps above {} are compared, the end of the first bucket that none cut",
            show_range(before.threshold_range_ns),
            show_range(after.threshold_range_ns),
            show_ns(buckets::lower_ns(lowest) as f64)
        ));
    }
    for (what, was, is) in settings(was, is) {
        if was != is {
            remarks.push(format!("{what} differ: {was} before, {is} after"));
        }
    }
    if was.gap_kind == GapKind::WindowMax && was.width_ns != is.width_ns {
        remarks.push(
            "hwlat tells one gap of a window: with other widths its rates cannot be compared"
                .to_owned(),
        );
    }
    if before.attribution.smi != after.attribution.smi
        || before.attribution.nmi != after.attribution.nmi
        || before.attribution.steal != after.attribution.steal
    {
        remarks.push(
            "causes were not proven in the same way: a cause may differ because it could be seen in one only"
                .to_owned(),
        );
    }
    if let (Some(was), Some(is)) = (&before.header, &after.header) {
        for (what, was, is) in machines(&was.machine, &is.machine) {
            if was != is {
                remarks.push(differ(what, was, is));
            }
        }
    }
    let few = |summary: &Summary| {
        summary
            .timeline
            .iter()
            .filter(|slot| slot.counts.exposure_ns > 0)
            .count()
            < statistics::FEWEST_BLOCKS
    };
    for summary in [before, after] {
        if few(summary) {
            remarks.push(format!(
                "{} has fewer than {} intervals: too few to tell chance from difference",
                summary.name,
                statistics::FEWEST_BLOCKS
            ));
        }
    }
    remarks
}

/// What differs, in words.
pub(super) fn differ(what: &str, was: Option<&String>, is: Option<&String>) -> String {
    let name = |name: Option<&String>| name.map_or("unknown", String::as_str).to_owned();
    format!("{what} differ: {} before, {} after", name(was), name(is))
}

/// What lies at no known time.
fn not_compared(summary: &Summary) -> Option<String> {
    let exposure_ns: u64 = summary
        .timeline
        .iter()
        .map(|slot| slot.counts.exposure_ns)
        .sum();
    let gaps: u64 = summary.timeline.iter().map(|slot| slot.counts.count).sum();
    (gaps < summary.total.count || exposure_ns < summary.total.exposure_ns).then(|| {
        format!(
            "{} gaps in {} of exposure are not compared: what {} had counted before the first line that is left of a run \
             came at no known time",
            summary.total.count.saturating_sub(gaps),
            show_ns(summary.total.exposure_ns.saturating_sub(exposure_ns) as f64),
            summary.name
        )
    })
}

fn show_range((lowest, highest): (u64, u64)) -> String {
    if lowest == highest {
        show_ns(lowest as f64)
    } else {
        format!("{} to {}", show_ns(lowest as f64), show_ns(highest as f64))
    }
}

fn settings(was: &DetectorInfo, is: &DetectorInfo) -> [(&'static str, String, String); 5] {
    let pair = |of: fn(&DetectorInfo) -> String| (of(was), of(is));
    let all = [
        ("the detectors", pair(|of| of.name.clone())),
        ("the widths", pair(|of| show_ns(of.width_ns as f64))),
        ("the windows", pair(|of| show_ns(of.window_ns as f64))),
        ("the modes", pair(|of| of.mode.to_string())),
        ("the watched CPUs", pair(|of| of.cpus.clone())),
    ];
    all.map(|(what, (was, is))| (what, was, is))
}

pub(super) type Named<'a> = (&'static str, Option<&'a String>, Option<&'a String>);

/// What tells two machines, or one machine at two times, apart.
pub(super) fn machines<'a>(was: &'a Machine, is: &'a Machine) -> [Named<'a>; 7] {
    [
        ("the machines", was.hostname.as_ref(), is.hostname.as_ref()),
        ("the products", was.product.as_ref(), is.product.as_ref()),
        ("the CPU models", was.cpu.as_ref(), is.cpu.as_ref()),
        ("the firmwares", was.firmware.as_ref(), is.firmware.as_ref()),
        (
            "the microcodes",
            was.microcode.as_ref(),
            is.microcode.as_ref(),
        ),
        ("the kernels", was.kernel.as_ref(), is.kernel.as_ref()),
        (
            "the hypervisors",
            was.hypervisor.as_ref(),
            is.hypervisor.as_ref(),
        ),
    ]
}

#[cfg(test)]
mod tests;
