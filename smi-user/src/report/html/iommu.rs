//! Recordings of `smilat iommu` as a page.

mod course;

use maud::{Markup, html};

use super::{
    chart::{heads, table, word_heads},
    figures::{Place, about_ns, bytes, count, none, ns, or_none, plain, show_time, span, time},
    page,
};
use crate::{
    model::{
        iommu::{DomainCounts, IommuSnapshot},
        iommu_recording::{IommuRecording, IommuRun},
    },
    report::iommu::{
        by_size, devices, groups, headline, kind, losses, number, show_net, size, source,
    },
};

/// The page.
///
/// Each number stands in an element with its exact value (`value`) and its place in what `--json` prints (`data-at`), as
/// [`super::html`] has them.
pub fn iommu(recordings: &[IommuRecording]) -> String {
    let title = match recordings {
        [one] => format!("IOMMU: {}", one.name),
        many => format!("IOMMU: {} recordings", many.len()),
    };
    let description = match recordings {
        [one] => Some(verdict_words(one).2),
        _ => None,
    };
    let content = html! {
        @if recordings.len() > 1 {
            nav aria-label="Recordings" {
                ul {
                    @for (index, of) in recordings.iter().enumerate() {
                        li { a href=(format!("#recording-{}", index + 1)) { (of.name) } }
                    }
                }
            }
        }
        @for (index, of) in recordings.iter().enumerate() {
            (recording(of, index))
        }
    };
    let notes = html! {
        p {
            "A domain is an address space that the IOMMU translates for one group of devices or several. A piece is what was unmapped "
            "of a mapping that had been made as one; what was mapped before the watch began is untracked."
        }
    };
    page(&title, description.as_deref(), &content, &notes)
}

fn recording(of: &IommuRecording, index: usize) -> Markup {
    let place = Place::iommu(index);
    let id = format!("recording-{}", index + 1);
    let several = of.runs.len() > 1;
    html! {
        section.recording id=(id) aria-labelledby=(format!("{id}-name")) {
            h2 id=(format!("{id}-name")) { (of.name) }
            p.context {
                (time(&place.at("began"), of.began)) " to " (time(&place.at("ended"), of.ended)) " UTC, "
                (count(&place.at("snapshots"), of.snapshots)) " snapshots, "
                (count(&place.figure("runs"), of.runs.len() as u64 + of.runs_left_out)) " runs"
            }
            (verdict(of))
            (remarks(of))
            h3 { "Maps and unmaps over time" }
            (course::course(of, &place, &id))
            @for (index, run) in of.runs.iter().enumerate() {
                @if several {
                    h3 { "Run of " (show_time(run.began)) " UTC" }
                }
                (self::run(run, &place.at("runs").at(index)))
            }
            h3 { "Events" }
            (events(of, &place))
        }
    }
}

/// Class, sign and words of what it comes to.
fn verdict_words(of: &IommuRecording) -> (&'static str, &'static str, String) {
    let alarms = of.ratio_alarms;
    let growth: u64 = of.runs.iter().map(|run| run.snapshot.growth_alarms).sum();
    let faults: u64 = of
        .runs
        .iter()
        .flat_map(|run| &run.snapshot.faults)
        .map(|faults| faults.count)
        .sum();
    if alarms + growth + faults == 0 {
        return (
            "good",
            "✓",
            "No alarm, no suspicion of a leak, no fault".to_owned(),
        );
    }
    let words = format!(
        "Alarms for unmaps that outnumber maps: {alarms}; suspicions of a leak: {growth}; faults: {faults}"
    );
    ("bad", "✗", words)
}

fn verdict(of: &IommuRecording) -> Markup {
    let (class, sign, words) = verdict_words(of);
    html! {
        div.verdict.(class) {
            span.sign aria-hidden="true" { (sign) }
            div { p.words { (words) } }
        }
    }
}

fn remarks(of: &IommuRecording) -> Markup {
    let mut all = of.remarks.clone();
    for run in &of.runs {
        all.extend(losses(&run.snapshot));
    }
    if of.runs_left_out > 0 {
        all.push(format!(
            "older runs whose totals are not shown: {}",
            of.runs_left_out
        ));
    }
    html! {
        @if !all.is_empty() {
            div.remarks role="note" aria-label="Remarks" {
                h3 { "What to know before trusting this" }
                ul { @for remark in &all { li { (remark) } } }
            }
        }
    }
}

fn run(run: &IommuRun, place: &Place) -> Markup {
    let snapshot = &run.snapshot;
    let place = place.at("snapshot");
    html! {
        h3 { "Domains" }
        p.quiet { "Counted in " (span(&place.at("elapsed_ns"), snapshot.elapsed_ns)) "." }
        (domains(snapshot, &place))
        h3 { "Sizes" }
        (sizes(snapshot, &place))
        h3 { "Time that unmaps took" }
        (times(snapshot, &place))
        h3 { "Faults" }
        (faults(snapshot, &place))
        @if let Some(limit_ns) = snapshot.late.limit_ns {
            h3 { "Long runs" }
            p {
                "Runs of " (ns(&place.at("late/limit_ns"), limit_ns)) " or more while the scheduler wanted the CPU: "
                (count(&place.at("late/count"), snapshot.late.count))
                @if snapshot.late.count > 0 {
                    ", the longest " (ns(&place.at("late/max_ns"), snapshot.late.max_ns))
                }
                "."
            }
        }
        h3 { "CPUs" }
        (cpus(snapshot, &place))
    }
}

fn domains(snapshot: &IommuSnapshot, place: &Place) -> Markup {
    let row = |index: usize, of: &DomainCounts| {
        let here = place.at("domains").at(index);
        html! {
            tr {
                th scope="row" { (number(of)) }
                td.words { (groups(&of.groups)) }
                td.words title=(of.devices.join(", ")) { (devices(&of.devices)) }
                td.words { (kind(of)) }
                td { (count(&here.at("maps/count"), of.maps.count)) }
                td { (count(&here.at("unmaps/count"), of.unmaps.count)) }
                td { (or_none(of.ratio(), |ratio| plain(&here.figure("ratio"), ratio))) }
                td { (count(&here.at("whole"), of.whole)) }
                td { (count(&here.at("pieces"), of.pieces)) }
                td { (count(&here.at("untracked"), of.untracked)) }
                td { (bytes(&here.at("maps/bytes"), of.maps.bytes)) }
                td { (bytes(&here.at("unmaps/bytes"), of.unmaps.bytes)) }
                td { (show_net(of.net_bytes())) }
                td { (count(&here.at("not_ram"), of.not_ram)) }
            }
        }
    };
    let head = html! {
        (heads(&["domain"]))
        (word_heads(&["groups", "devices", "type"]))
        (heads(&[
            "maps", "unmaps", "unmaps for each map", "whole", "pieces", "untracked", "mapped", "unmapped", "net mapped",
            "maps of no RAM",
        ]))
    };
    let body = html! {
        @for (index, of) in snapshot.domains.iter().enumerate() { (row(index, of)) }
    };
    html! {
        @if snapshot.domains.is_empty() {
            p { "Nothing was mapped or unmapped." }
        } @else {
            (table("Domains", &head, &body))
        }
    }
}

fn sizes(snapshot: &IommuSnapshot, place: &Place) -> Markup {
    let place = place.at("domains");
    let body = html! {
        @for (bound, maps, unmaps) in by_size(&snapshot.domains) {
            @let figure = |of: &str| place.figure(format!("{of}={}", bound.unwrap_or(0)));
            tr {
                th scope="row" { @if bound.is_some() { "up to " } (size(bound)) }
                td { (count(&figure("maps"), maps)) }
                td { (count(&figure("unmaps"), unmaps)) }
            }
        }
    };
    html! {
        @if snapshot.domains.is_empty() {
            p { "There are none." }
        } @else {
            (table("Maps and unmaps by the size asked for", &heads(&["size", "maps", "unmaps"]), &body))
        }
    }
}

fn times(snapshot: &IommuSnapshot, place: &Place) -> Markup {
    let body = html! {
        @for (index, of) in snapshot.times.iter().enumerate() {
            @let here = place.at("times").at(index);
            tr {
                th scope="row" { (of.function) }
                td { (count(&here.at("count"), of.count)) }
                @for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
                    @let quantile = of.histogram.quantile(q).map(|ns| ns.min(of.max_ns as f64));
                    td { (or_none(quantile, |value| about_ns(&here.figure(name), value))) }
                }
                td { (ns(&here.at("max_ns"), of.max_ns)) }
                td.words { (of.of) }
            }
        }
    };
    let head = html! {
        (heads(&["function", "timed", "p50", "p90", "p99", "longest"]))
        (word_heads(&["what it does"]))
    };
    html! {
        @if snapshot.times.is_empty() {
            p { "None was timed." }
        } @else {
            (table("Time that unmaps took", &head, &body))
        }
    }
}

fn faults(snapshot: &IommuSnapshot, place: &Place) -> Markup {
    let body = html! {
        @for (index, of) in snapshot.faults.iter().enumerate() {
            @let here = place.at("faults").at(index);
            tr {
                th scope="row" { (of.device) }
                td { (count(&here.at("count"), of.count)) }
                td { (count(&here.at("suppressed"), of.suppressed)) }
                td.words { (source(of.source)) }
            }
        }
    };
    let head = html! {
        (heads(&["device", "faults", "not reported one by one"]))
        (word_heads(&["told by"]))
    };
    html! {
        @if snapshot.faults.is_empty() {
            p { "No fault was told of." }
        } @else {
            (table("Faults", &head, &body))
        }
    }
}

fn cpus(snapshot: &IommuSnapshot, place: &Place) -> Markup {
    let body = html! {
        @for (index, of) in snapshot.cpus.iter().enumerate() {
            @let here = place.at("cpus").at(index);
            tr {
                th scope="row" { (of.cpu) }
                td { (count(&here.at("maps"), of.maps)) }
                td { (count(&here.at("unmaps"), of.unmaps)) }
            }
        }
    };
    html! {
        @if snapshot.cpus.is_empty() {
            p { (none()) }
        } @else {
            (table("Maps and unmaps by CPU", &heads(&["CPU", "maps", "unmaps"]), &body))
        }
    }
}

fn events(of: &IommuRecording, place: &Place) -> Markup {
    let body = html! {
        @for (index, event) in of.events.iter().enumerate().rev() {
            tr {
                th scope="row" { (time(&place.at("events").at(index).at("time"), event.time)) }
                td.words { (headline(event)) }
            }
        }
    };
    let head = html! { (heads(&["time (UTC)"])) (word_heads(&["what"])) };
    html! {
        @if of.events.is_empty() {
            p { "No event was recorded." }
        } @else {
            ul.legend aria-label="Events by kind" {
                @for (name, number) in &of.event_counts {
                    li { b { (name) } " " (count(&place.at("event_counts").at(name), *number)) }
                }
            }
            details open[of.events.len() <= 20] {
                summary { "Newest events first" }
                (table("Events", &head, &body))
            }
            @if of.events_left_out > 0 {
                p.quiet { (count(&place.at("events_left_out"), of.events_left_out)) " older ones are in the recording." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{iommu::made_up::nothing, report::iommu::recorded_tests::recording};

    #[test]
    fn the_page_has_every_number_with_its_place() {
        let of = recording();
        let page = iommu(std::slice::from_ref(&of));
        for told in [
            "<h1>IOMMU: watch.ndjson</h1>",
            "Alarms for unmaps that outnumber maps: 2; suspicions of a leak: 1; faults: 15",
            r#"<data value="5008" data-at="/iommu/0/runs/0/snapshot/domains/0/unmaps/count" data-unit="count">"#,
            r#"<data value="989921280" data-at="/iommu/0/runs/0/snapshot/domains/0/maps/bytes" data-unit="bytes">944 MiB</data>"#,
            r#"<data value="12" data-at="/iommu/0/runs/0/snapshot/faults/1/count" data-unit="count">"#,
            "RATIO 10.6 unmaps for each map",
            "LEAK? mapped memory grows",
            "line 7 is torn",
            "__iommu_unmap",
            "126 MiB",
        ] {
            assert!(page.contains(told), "no {told} in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("NaN"));
        // Each place leads to the value that stands there.
        let json = serde_json::json!({ "iommu": [of] });
        for part in page.split("<data value=\"").skip(1) {
            let (value, rest) = part.split_once('"').expect("a value");
            let (at, _) = rest
                .trim_start_matches(" data-at=\"")
                .split_once('"')
                .expect("a place");
            if !at.contains('#') {
                let there = json
                    .pointer(at)
                    .unwrap_or_else(|| panic!("nothing at {at}"));
                assert_eq!(there.to_string(), value, "{at}");
            }
        }
    }

    #[test]
    fn a_recording_of_nothing_makes_a_page_too() {
        let mut quiet = recording();
        quiet.runs[0].snapshot = nothing();
        quiet.ratio_alarms = 0;
        quiet.events.clear();
        quiet.event_counts.clear();
        quiet.timeline.clear();
        quiet.remarks.clear();
        let page = iommu(&[quiet.clone(), quiet]);
        for told in [
            "IOMMU: 2 recordings",
            "No alarm, no suspicion of a leak, no fault",
            "Nothing was mapped or unmapped.",
            "No event was recorded.",
            "No fault was told of.",
        ] {
            assert!(page.contains(told), "no {told}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn names_from_files_are_escaped() {
        let mut evil = recording();
        evil.name = "<script>alert(1)</script>".to_owned();
        evil.runs[0].snapshot.domains[0].devices = vec!["\"><img src=x>".to_owned()];
        let page = iommu(&[evil]);
        assert!(
            !page.contains("<script>") && !page.contains("<img"),
            "{page}"
        );
    }
}
