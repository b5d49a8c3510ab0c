//! What one recording says, section by section.

use maud::{Markup, html};

use super::{
    figures::{Place, about_ns, count, none, ns, or_none, rate, share, show_span, span, time},
    heatmap::heatmap,
    histogram::{QUANTILES, histogram},
    machine::{context, settings},
    periods::periods,
    tables::{causes, cpus, longest_gaps},
    timeline::{is_partial, timeline},
};
use crate::{
    model::{GapKind, Summary, Verdict},
    units::show_ns,
};

/// The recording number `index`.
pub(super) fn recording(summary: &Summary, index: usize) -> Markup {
    let place = Place::summary(index);
    let id = id(index);
    html! {
        section.recording id=(id) aria-labelledby=(format!("{id}-name")) {
            h2 id=(format!("{id}-name")) { (summary.name) }
            (context(summary, &place))
            (verdict(summary, &place))
            (key_figures(summary, &place))
            (remarks(summary, &place))
            h3 { "Gaps over time" }
            (timeline(summary, &place, &id))
            h3 { "Gaps over time and duration" }
            (heatmap(summary, &place, &id))
            h3 { "Gaps by duration" }
            (histogram(summary, &place, &id))
            h3 { "Gaps by cause" }
            (causes(summary, &place))
            h3 { "CPUs" }
            (cpus(summary, &place))
            h3 { "Fixed intervals" }
            (periods(summary, &place))
            h3 { "Longest gaps" }
            (longest_gaps(summary, &place))
            h3 { "Machine and settings" }
            (settings(summary, &place))
        }
    }
}

/// Where in the page the recording number `index` is.
pub(super) fn id(index: usize) -> String {
    format!("recording-{}", index + 1)
}

/// The verdict in two or three words, with its sign.
pub(super) fn short_verdict(
    verdict: Option<&Verdict>,
) -> (&'static str, &'static str, &'static str) {
    match verdict {
        None => ("open", "–", "No hardlimit given"),
        Some(verdict) if verdict.exceeded => ("bad", "✗", "Hardlimit exceeded"),
        Some(_) => ("good", "✓", "Hardlimit kept"),
    }
}

fn verdict(summary: &Summary, place: &Place) -> Markup {
    let (class, sign, words) = short_verdict(summary.verdict.as_ref());
    let here = place.at("verdict");
    html! {
        div.verdict.(class) {
            span.sign aria-hidden="true" { (sign) }
            div {
                p.words { (words) }
                p {
                    @match &summary.verdict {
                        None => {
                            @match summary.total.max_ns {
                                Some(max) => { "The longest gap took " (ns(&place.at("total/max_ns"), max)) "." }
                                None => { "There was no gap." }
                            }
                        }
                        Some(verdict) => {
                            "The longest gap took "
                            @match verdict.max_ns {
                                Some(max) => (ns(&here.at("max_ns"), max)),
                                None => "no time: there was none",
                            }
                            ", the hardlimit is " (ns(&here.at("hardlimit_ns"), verdict.hardlimit_ns)) "."
                            @if verdict.exceeded && is_partial(summary) {
                                " Of the gaps above it, " (count(&here.at("over"), verdict.over)) " were recorded one by one."
                            } @else if verdict.exceeded {
                                " Gaps above it: " (count(&here.at("over"), verdict.over)) "."
                            }
                            @if let Some(worst) = &verdict.worst {
                                @let worst_at = here.at("worst");
                                " The worst took " (ns(&worst_at.at("duration_ns"), worst.duration_ns))
                                " on CPU " (count(&worst_at.at("cpu"), worst.cpu.into()))
                                " at " (time(&worst_at.at("end_time"), worst.end_time)) " UTC, cause " b { (worst.cause) } "."
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A name above a figure.
fn tile(name: &str, figure: &Markup, more: &Markup) -> Markup {
    html! {
        div { dt { (name) } dd { span.figure { (figure) } span.more { (more) } } }
    }
}

fn key_figures(summary: &Summary, place: &Place) -> Markup {
    let total = &summary.total;
    let here = place.at("total");
    let lost = (total.exposure_ns > 0).then(|| total.sum_ns as f64 / total.exposure_ns as f64);
    html! {
        dl.tiles {
            (tile("Gaps", &count(&here.at("count"), total.count), &html! {
                (or_none(total.rate(), |value| rate(&here.figure("rate"), value))) " a second of exposure"
            }))
            (tile("Longest", &or_none(total.max_ns, |value| ns(&here.at("max_ns"), value)), &html! {
                "shortest " (or_none(total.min_ns, |value| ns(&here.at("min_ns"), value)))
            }))
            (tile("Median", &or_none(total.quantile_ns(0.5), |value| about_ns(&here.figure("p50"), value)), &html! {
                @for (name, q) in &QUANTILES[1..] {
                    (name) " " (or_none(total.quantile_ns(*q), |value| about_ns(&here.figure(name), value))) br;
                }
            }))
            (tile("Time lost", &ns(&here.at("sum_ns"), total.sum_ns), &html! {
                (or_none(lost, |value| share(&here.figure("lost"), value))) " of the exposure"
            }))
            (tile("Exposure", &span(&here.at("exposure_ns"), total.exposure_ns), &html! {
                "sampled on all CPUs together"
            }))
            (tile("SMIs counted", &or_none(summary.smis, |value| count(&place.at("smis"), value)), &html! {
                @if summary.smis.is_some() { "by the CPU that counted most" @if summary.runs > 1 { ", in each run" } } @else { "nothing counts them here" }
            }))
        }
    }
}

fn remarks(summary: &Summary, place: &Place) -> Markup {
    let caveats = summary
        .attribution
        .counter
        .iter()
        .flat_map(|counter| &counter.caveats);
    let is_window_max = summary.detector.gap_kind == GapKind::WindowMax;
    let any = !summary.remarks.is_empty()
        || summary.header.is_none()
        || is_window_max
        || is_partial(summary)
        || caveats.clone().next().is_some();
    html! {
        @if any {
            div.remarks role="note" aria-label="Remarks" {
                h3 { "What to know before trusting this" }
                ul {
                    @for remark in &summary.remarks { li { (remark) } }
                    @if summary.header.is_none() {
                        li { "The recording has no header: machine and hardlimit are not known." }
                    }
                    @if is_window_max {
                        li { "Each gap is the longest of its window, whatever else was in it." }
                    }
                    @if is_partial(summary) {
                        li {
                            "Not every gap was recorded or kept singly: " (count(&place.at("total/count"), summary.total.count))
                            " were counted, " (count(&place.figure("gaps"), summary.gaps.len() as u64))
                            " are shown one by one"
                            @if summary.gaps_left_out > 0 {
                                ", " (count(&place.at("gaps_left_out"), summary.gaps_left_out))
                                " more stand in the recording"
                            }
                            ". All numbers are of all gaps."
                        }
                    }
                    @for caveat in caveats { li { "SMI counter: " (caveat) } }
                }
            }
        }
    }
}

/// The recordings' key figures beside each other.
pub(super) fn side_by_side(summaries: &[Summary]) -> Markup {
    let row = |name: &str, of: &dyn Fn(&Summary, &Place) -> Markup| {
        html! {
            tr {
                th scope="row" { (name) }
                @for (index, summary) in summaries.iter().enumerate() {
                    td { (of(summary, &Place::summary(index))) }
                }
            }
        }
    };
    let head = html! {
        td {}
        @for (index, summary) in summaries.iter().enumerate() {
            th scope="col" { a href=(format!("#{}", id(index))) { (summary.name) } }
        }
    };
    let quantile = |name: &'static str, q: f64| {
        row(name, &|of, place| {
            or_none(of.total.quantile_ns(q), |value| {
                about_ns(&place.at("total").figure(name), value)
            })
        })
    };
    let body = html! {
        (row("verdict", &|of, _| {
            let (class, sign, words) = short_verdict(of.verdict.as_ref());
            html! { span.(format!("judged {class}")) { span aria-hidden="true" { (sign) " " } (words) } }
        }))
        (row("began (UTC)", &|of, place| time(&place.at("began"), of.began)))
        (row("length", &|of, place| span(&place.figure("length"), length_ns(of))))
        (row("kernel", &|of, _| text(of, |machine| machine.kernel.as_deref())))
        (row("firmware", &|of, _| text(of, |machine| machine.firmware.as_deref())))
        (row("threshold", &|of, place| ns(&place.at("detector/threshold_ns"), of.detector.threshold_ns)))
        (row("exposure", &|of, place| span(&place.at("total/exposure_ns"), of.total.exposure_ns)))
        (row("gaps", &|of, place| count(&place.at("total/count"), of.total.count)))
        (row("gaps/s", &|of, place| or_none(of.total.rate(), |value| rate(&place.at("total").figure("rate"), value))))
        (quantile("p50", 0.5))
        (quantile("p99", 0.99))
        (quantile("p99.9", 0.999))
        (row("longest", &|of, place| or_none(of.total.max_ns, |value| ns(&place.at("total/max_ns"), value))))
        (row("SMIs counted", &|of, place| or_none(of.smis, |value| count(&place.at("smis"), value))))
    };
    super::chart::table("Recordings side by side", &head, &body)
}

fn text(summary: &Summary, of: impl Fn(&crate::model::Machine) -> Option<&str>) -> Markup {
    let found = summary
        .header
        .as_ref()
        .and_then(|header| of(&header.machine));
    found.map_or_else(none, |text| html! { (text) })
}

/// From the first interval's begin to the last snapshot.
pub(super) fn length_ns(summary: &Summary) -> u64 {
    u64::try_from(summary.began.duration_until(summary.ended).as_nanos()).unwrap_or(0)
}

/// The gist of a page with one recording, for those who only see its head.
pub(super) fn gist(summary: &Summary) -> String {
    let (_, _, verdict) = short_verdict(summary.verdict.as_ref());
    let longest = summary.total.max_ns.map_or_else(
        || "no gap".to_owned(),
        |ns| format!("longest gap {}", show_ns(ns as f64)),
    );
    format!("{verdict}: {longest} in {}", show_span(length_ns(summary)))
}
