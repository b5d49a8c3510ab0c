//! Where a recording was made, and how smilat was set.

use maud::{Markup, html};

use super::{
    figures::{Place, count, ns, or_none, span, time},
    recording::length_ns,
};
use crate::model::Summary;

/// When and where, below the recording's name.
pub(super) fn context(summary: &Summary, place: &Place) -> Markup {
    let machine = summary.header.as_ref().map(|header| &header.machine);
    let where_ = machine.map(|machine| {
        let words = [
            &machine.hostname,
            &machine.product,
            &machine.cpu,
            &machine.kernel,
            &machine.firmware,
        ];
        words.into_iter().flatten().collect::<Vec<_>>()
    });
    html! {
        p.context {
            (time(&place.at("began"), summary.began)) " to " (time(&place.at("ended"), summary.ended)) " UTC, "
            (span(&place.figure("length"), length_ns(summary)))
            @for word in where_.iter().flatten() {
                " " span.dot aria-hidden="true" { "·" } " " span { (word) }
            }
        }
    }
}

/// Everything there is to know.
pub(super) fn settings(summary: &Summary, place: &Place) -> Markup {
    html! {
        div.facts {
            (machine(summary))
            (detector(summary, place))
            (recorded(summary, place))
        }
    }
}

fn facts(name: &str, rows: &[(&str, Markup)]) -> Markup {
    html! {
        div {
            h4 { (name) }
            dl {
                @for (name, value) in rows {
                    div { dt { (name) } dd { (value) } }
                }
            }
        }
    }
}

fn machine(summary: &Summary) -> Markup {
    let machine = summary.header.as_ref().map(|header| &header.machine);
    let Some(machine) = machine else {
        return facts("Machine", &[("machine", html! { "not told" })]);
    };
    let word = |of: &Option<String>| or_none(of.as_ref(), |word| html! { (word) });
    facts(
        "Machine",
        &[
            ("hostname", word(&machine.hostname)),
            ("machine", word(&machine.product)),
            ("CPU", word(&machine.cpu)),
            ("CPUs online", word(&machine.cpus)),
            ("microcode", word(&machine.microcode)),
            ("firmware", word(&machine.firmware)),
            ("kernel", word(&machine.kernel)),
            ("clock source", word(&machine.clock_source)),
            ("hypervisor", word(&machine.hypervisor)),
        ],
    )
}

fn detector(summary: &Summary, place: &Place) -> Markup {
    let of = &summary.detector;
    let here = place.at("detector");
    let time = |name: &str, value: u64| ns(&here.at(name), value);
    let attribution = &summary.attribution;
    facts(
        "Detector",
        &[
            ("detector", html! { (of.name) }),
            ("threshold", time("threshold_ns", of.threshold_ns)),
            (
                "samples",
                html! { (time("width_ns", of.width_ns)) " of every " (time("window_ns", of.window_ns)) },
            ),
            ("CPUs", html! { (of.cpus) ", mode " (of.mode.to_string()) }),
            (
                "interrupts off",
                html! { "up to " (time("irqs_off_max_ns", of.irqs_off_max_ns)) },
            ),
            ("noise floor", time("noise_floor_ns", of.noise_floor_ns)),
            (
                "causes proven",
                html! {
                    "SMI by " (attribution.smi) ", NMI by " (attribution.nmi) ", steal by " (attribution.steal)
                },
            ),
            (
                "SMI counter",
                or_none(attribution.counter.as_ref(), |counter| {
                    html! { (counter.source) @if !counter.exact { " (not exact)" } }
                }),
            ),
        ],
    )
}

fn recorded(summary: &Summary, place: &Place) -> Markup {
    let header = summary.header.as_ref();
    let at = place.at("header");
    facts(
        "Recording",
        &[
            ("read from", html! { (summary.name) }),
            (
                "snapshots",
                count(&place.at("snapshots"), summary.snapshots),
            ),
            ("runs", count(&place.at("runs"), summary.runs)),
            (
                "started",
                or_none(header, |header| {
                    html! { (time(&at.at("started"), header.started)) " UTC" }
                }),
            ),
            (
                "interval",
                or_none(header, |header| {
                    ns(&at.at("interval_ns"), header.interval_ns)
                }),
            ),
            (
                "hardlimit",
                or_none(summary.verdict.as_ref(), |verdict| {
                    ns(&place.at("verdict/hardlimit_ns"), verdict.hardlimit_ns)
                }),
            ),
            (
                "written by",
                or_none(header, |header| html! { "smilat " (header.smilat) }),
            ),
        ],
    )
}
