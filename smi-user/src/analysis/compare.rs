//! How one recording differs from another, and whether by more than chance. `docs/report.md` explains the method.

use smi_common::buckets::{self, BUCKETS};

use super::statistics::{self, Block, Ratio};
use crate::{
    model::{
        Cause, CauseStats, Comparison, DetectorInfo, Difference, GapKind, Histogram, Machine, Slot,
        Summary,
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
    let lowest = first_bucket(was.threshold_ns, is.threshold_ns);
    let comparable = was.gap_kind == is.gap_kind;
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

/// Position of the first bucket that holds only gaps which neither threshold dropped; 0 where both are the same.
fn first_bucket(a_ns: u64, b_ns: u64) -> usize {
    if a_ns == b_ns {
        0
    } else {
        (buckets::position(a_ns.max(b_ns)) + 1).min(BUCKETS - 1)
    }
}

/// What is compared of one recording.
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
        let find = |causes: &[CauseStats]| -> Option<(Histogram, u64)> {
            causes
                .iter()
                .find(|of| Some(of.cause) == cause)
                .map(|of| (of.histogram.clone(), of.max_ns))
        };
        let (whole, longest) = match cause {
            None => (Some(summary.total.histogram.clone()), summary.total.max_ns),
            Some(_) => find(&summary.causes).unzip(),
        };
        let histogram = above(&whole.unwrap_or_default(), lowest);
        let of_slot = |slot: &Slot| match cause {
            None => Some(above(&slot.counts.histogram, lowest)),
            Some(_) => find(&slot.causes).map(|(histogram, _)| above(&histogram, lowest)),
        };
        Self {
            count: histogram.total(),
            exposure_ns: summary.total.exposure_ns,
            max_ns: longest.filter(|_| histogram.total() > 0),
            histogram,
            slots: summary
                .timeline
                .iter()
                .map(|slot| (slot.counts.exposure_ns, of_slot(slot)))
                .collect(),
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
    if lowest > 0 {
        remarks.push(format!(
            "the thresholds differ, {} and {}: only gaps above {} are compared, the end of the first bucket that neither cut",
            show_ns(was.threshold_ns as f64),
            show_ns(is.threshold_ns as f64),
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
                let name =
                    |name: Option<&String>| name.map_or("unknown", String::as_str).to_owned();
                remarks.push(format!(
                    "{what} differ: {} before, {} after",
                    name(was),
                    name(is)
                ));
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

type Named<'a> = (&'static str, Option<&'a String>, Option<&'a String>);

fn machines<'a>(was: &'a Machine, is: &'a Machine) -> [Named<'a>; 7] {
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
