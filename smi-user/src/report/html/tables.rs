//! Gaps by cause, by CPU, and the longest one by one.

use maud::{Markup, html};

use super::{
    chart::{heads, table, word_heads},
    figures::{Place, about_ns, count, ns, or_none, rate, share, span, time},
    histogram::QUANTILES,
    look::{look, symbol},
};
use crate::model::{CauseStats, CpuSnapshot, Summary};

/// Gaps in the table of the longest.
const LONGEST: usize = 20;

/// Gaps by what is proven of them.
pub(super) fn causes(summary: &Summary, place: &Place) -> Markup {
    let row = |index: usize, of: &CauseStats| {
        let here = place.at("causes").at(index);
        let part = of.count as f64 / summary.total.count.max(1) as f64;
        let exposure = summary.total.exposure_ns;
        let per_second = (exposure > 0).then(|| of.count as f64 * 1e9 / exposure as f64);
        html! {
            tr {
                th scope="row" { (symbol(of.cause)) (of.cause) }
                td { (count(&here.at("count"), of.count)) }
                td { (share(&here.figure("share"), part)) }
                td { (or_none(per_second, |value| rate(&here.figure("rate"), value))) }
                td { (ns(&here.at("sum_ns"), of.sum_ns)) }
                @for (name, q) in &QUANTILES[..3] {
                    @let quantile = of.histogram.quantile(*q).map(|ns| ns.min(of.max_ns as f64));
                    td { (or_none(quantile, |value| about_ns(&here.figure(name), value))) }
                }
                td { (ns(&here.at("max_ns"), of.max_ns)) }
                td.words { (look(of.cause).words) }
            }
        }
    };
    let body = html! {
        @for (index, of) in summary.causes.iter().enumerate() { (row(index, of)) }
    };
    html! {
        @if summary.causes.is_empty() {
            p { "There are no gaps." }
        } @else {
            (table("Gaps by cause", &html! {
                (heads(&["cause", "gaps", "share", "gaps/s", "time lost", "p50", "p90", "p99", "longest"]))
                (word_heads(&["meaning"]))
            }, &body))
        }
    }
}

/// What each CPU saw.
pub(super) fn cpus(summary: &Summary, place: &Place) -> Markup {
    let has_smis = summary.cpus.iter().any(|cpu| cpu.smis.is_some());
    let has_steal = summary.cpus.iter().any(|cpu| cpu.steal.is_some());
    let head = html! {
        (heads(&["CPU", "exposure", "gaps", "gaps/s", "p50", "p99", "p99.9", "longest"]))
        @if has_smis { (heads(&["SMIs", "in gaps"])) }
        @if has_steal { (heads(&["steal in gaps"])) }
        (heads(&["windows", "skipped", "not passed on"]))
    };
    let row = |index: usize, of: &CpuSnapshot| {
        let here = place.at("cpus").at(index);
        let total = of.total();
        html! {
            tr {
                th scope="row" { (of.cpu) }
                td { (span(&here.at("exposure_ns"), of.exposure_ns)) }
                td { (count(&here.at("gaps/count"), of.gaps.count)) }
                td { (or_none(total.rate(), |value| rate(&here.figure("rate"), value))) }
                @for (name, q) in [QUANTILES[0], QUANTILES[2], QUANTILES[3]] {
                    td { (or_none(total.quantile_ns(q), |value| about_ns(&here.figure(name), value))) }
                }
                td { (or_none(of.gaps.max_ns, |value| ns(&here.at("gaps/max_ns"), value))) }
                @if has_smis {
                    td { (or_none(of.smis, |smis| count(&here.at("smis/counted"), smis.counted))) }
                    td { (or_none(of.smis.and_then(|smis| smis.in_gaps), |value| count(&here.at("smis/in_gaps"), value))) }
                }
                @if has_steal {
                    td { (or_none(of.steal, |steal| ns(&here.at("steal/in_gaps_ns"), steal.in_gaps_ns))) }
                }
                td { (count(&here.at("windows/run"), of.windows.run)) }
                td { (count(&here.at("windows/skipped"), of.windows.skipped)) }
                td { (count(&here.figure("not_passed_on"), of.records.limited + of.records.lost)) }
            }
        }
    };
    let body = html! {
        @for (index, of) in summary.cpus.iter().enumerate() { (row(index, of)) }
    };
    html! {
        (table("What each CPU saw", &head, &body))
        @if has_smis {
            p.quiet { "The CPUs' SMIs must not be added up, since one SMI can stop and count on several." }
        }
    }
}

/// The longest gaps that were recorded singly.
pub(super) fn longest_gaps(summary: &Summary, place: &Place) -> Markup {
    let mut order: Vec<usize> = (0..summary.gaps.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(summary.gaps[*index].duration_ns));
    order.truncate(LONGEST);
    let limit = summary.verdict.as_ref().map(|verdict| verdict.hardlimit_ns);
    let body = html! {
        @for index in order {
            @let gap = &summary.gaps[index];
            @let here = place.at("gaps").at(index);
            tr {
                th scope="row" { (ns(&here.at("duration_ns"), gap.duration_ns)) }
                td { (time(&here.at("end_time"), gap.end_time)) }
                td { (count(&here.at("cpu"), gap.cpu.into())) }
                td.cause { (symbol(gap.cause)) (gap.cause) }
                td { (count(&here.at("smis"), gap.smis)) }
                td { (ns(&here.at("steal_ns"), gap.steal_ns)) }
                @if let Some(limit) = limit {
                    td.judged { @if gap.duration_ns > limit { span.over { "✗ exceeded" } } @else { "kept" } }
                }
            }
        }
    };
    let head = html! {
        (heads(&["duration", "ended (UTC)", "CPU"]))
        (word_heads(&["cause"]))
        (heads(&["SMIs", "steal"]))
        @if limit.is_some() { (word_heads(&["hardlimit"])) }
    };
    html! {
        @if summary.gaps.is_empty() {
            p { "No gap was recorded singly." }
        } @else {
            (table("Longest gaps", &head, &body))
        }
    }
}
