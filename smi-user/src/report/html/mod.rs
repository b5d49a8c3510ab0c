//! Recordings as one HTML page that needs nothing else: no network, no scripts.

mod axes;
mod beside;
mod chart;
mod clock;
mod compare;
mod figures;
mod heatmap;
mod histogram;
mod iommu;
mod look;
mod machine;
mod octaves;
mod periods;
mod recording;
mod tables;
#[cfg(test)]
mod tests;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use iommu::iommu;

use crate::model::{Comparison, Summary};

const STYLE: &str = include_str!("style.css");

/// What the page may load: its own style and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The page.
///
/// Each number stands in an element with its exact value (`value`) and its place in what was rendered (`data-at`: a JSON
/// pointer into `{"summaries": [...], "comparisons": [...]}`, what follows by arithmetic behind a `#`).
pub fn html(summaries: &[Summary], comparisons: &[Comparison]) -> String {
    let description = match summaries {
        [summary] => Some(recording::gist(summary)),
        _ => None,
    };
    let notes = html! {
        p {
            "A gap is a stretch in which a CPU that only read the clock, interrupts off, did not run. Rates are gaps a "
            "second of exposure, the time really spent sampling. Only a gap across which the SMI counter moved is "
            "called an SMI."
        }
    };
    page(
        &title(summaries),
        description.as_deref(),
        &content(summaries, comparisons),
        &notes,
    )
}

/// A page with its head; `notes` are at its foot.
fn page(title: &str, description: Option<&str>, content: &Markup, notes: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(format!("smilat {}", env!("CARGO_PKG_VERSION")));
                @if let Some(description) = description {
                    meta name="description" content=(description);
                }
                // Else browsers ask for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (look::patterns())
                header {
                    p.brand { "smilat report" }
                    h1 { (title) }
                }
                main #main tabindex="-1" { (content) }
                footer {
                    (notes)
                    p { "Made by smilat " (env!("CARGO_PKG_VERSION")) ". All times are UTC." }
                }
            }
        }
    }
    .into_string()
}

fn title(summaries: &[Summary]) -> String {
    match summaries {
        [summary] => {
            let host = summary
                .header
                .as_ref()
                .and_then(|header| header.machine.hostname.as_deref());
            match host {
                Some(host) => format!("Hardware latency of {host}"),
                None => "Hardware latency".to_owned(),
            }
        }
        many => format!("Hardware latency: {} recordings", many.len()),
    }
}

fn content(summaries: &[Summary], comparisons: &[Comparison]) -> Markup {
    html! {
        @if summaries.len() > 1 {
            nav aria-label="Recordings" {
                ul {
                    li { a href="#side-by-side" { "Side by side" } }
                    @for (index, summary) in summaries.iter().enumerate() {
                        li { a href=(format!("#{}", recording::id(index))) { (summary.name) } }
                    }
                }
            }
            section #side-by-side aria-labelledby="side-by-side-name" {
                h2 #side-by-side-name { "Side by side" }
                (recording::side_by_side(summaries))
                @if beside::is_possible(summaries) {
                    h3 { "How often gaps of at least a duration came" }
                    (beside::beside(summaries))
                }
                @for (index, of) in comparisons.iter().enumerate() {
                    (compare::comparison(of, index))
                }
            }
        }
        @for (index, summary) in summaries.iter().enumerate() {
            (recording::recording(summary, index))
        }
    }
}
