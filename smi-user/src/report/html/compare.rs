//! How two recordings differ, and whether that is more than chance.

use maud::{Markup, html};

use super::{
    chart::{heads, table, word_heads},
    figures::{Place, about_ns, ns, or_none, plain, probability, rate},
};
use crate::model::{Comparison, Difference};

/// The comparison number `index`.
pub(super) fn comparison(of: &Comparison, index: usize) -> Markup {
    let place = Place::comparison(index);
    html! {
        h3 { "From " (of.before) " to " (of.after) }
        @if !of.remarks.is_empty() {
            div.remarks role="note" aria-label="Remarks on the comparison" {
                ul { @for remark in &of.remarks { li { (remark) } } }
            }
        }
        (table("How often gaps came", &html! {
            (heads(&["gaps", "gaps/s before", "gaps/s after", "ratio", "95 % range of the ratio", "probability"]))
            (word_heads(&["difference"]))
        }, &html! {
            @for (row, difference) in of.rows.iter().enumerate() {
                (how_often(difference, &place.at("rows").at(row)))
            }
        }))
        (table("How long gaps were", &html! {
            (heads(&["gaps", "p50 before", "p50 after", "p99 before", "p99 after", "longest before", "longest after"]))
            (heads(&["probability"]))
            (word_heads(&["difference"]))
        }, &html! {
            @for (row, difference) in of.rows.iter().enumerate() {
                (how_long(difference, &place.at("rows").at(row)))
            }
        }))
        p.quiet {
            "The probability is that of seeing at least this difference if there were none. It is called more than chance "
            "below 0.01, all rows of both tables considered (Holm's correction)."
        }
    }
}

fn which(of: &Difference) -> Markup {
    html! { th scope="row" { @match of.cause { Some(cause) => (cause), None => "all" } } }
}

fn how_often(of: &Difference, here: &Place) -> Markup {
    html! {
        tr {
            (which(of))
            td { (or_none(of.rate_before, |value| rate(&here.at("rate_before"), value))) }
            td { (or_none(of.rate_after, |value| rate(&here.at("rate_after"), value))) }
            td { (or_none(of.ratio, |value| plain(&here.at("ratio"), value))) }
            td {
                (or_none(of.ratio_range, |(low, high)| html! {
                    (plain(&here.at("ratio_range/0"), low)) " to " (plain(&here.at("ratio_range/1"), high))
                }))
            }
            td { (or_none(of.rate_p_value, |p| probability(&here.at("rate_p_value"), p))) }
            td.verdict-words { (judged(of.rate_differs, direction(of.rate_before, of.rate_after, ["fewer", "more"]))) }
        }
    }
}

fn how_long(of: &Difference, here: &Place) -> Markup {
    let quantile = |name: &str, part: usize, values: Option<(f64, f64)>| {
        or_none(values, |values| {
            let value = if part == 0 { values.0 } else { values.1 };
            about_ns(&here.at(name).at(part), value)
        })
    };
    let p50 = |values: Option<(f64, f64)>| values.map(|values| values.0);
    html! {
        tr {
            (which(of))
            @for part in 0..2 {
                td { (quantile("p50_p99_before", part, of.p50_p99_before)) }
                td { (quantile("p50_p99_after", part, of.p50_p99_after)) }
            }
            td { (or_none(of.max_before, |value| ns(&here.at("max_before"), value))) }
            td { (or_none(of.max_after, |value| ns(&here.at("max_after"), value))) }
            td { (or_none(of.duration_p_value, |p| probability(&here.at("duration_p_value"), p))) }
            td.verdict-words {
                (judged(of.durations_differ, direction(
                    p50(of.p50_p99_before), p50(of.p50_p99_after), ["shorter", "longer"],
                )))
            }
        }
    }
}

/// Which way it went.
fn direction(
    before: Option<f64>,
    after: Option<f64>,
    [less, more]: [&'static str; 2],
) -> Option<&'static str> {
    let (before, after) = (before?, after?);
    if after < before {
        Some(less)
    } else if after > before {
        Some(more)
    } else {
        None
    }
}

fn judged(differs: Option<bool>, direction: Option<&str>) -> Markup {
    html! {
        @match differs {
            None => span.quiet { "cannot be told" },
            Some(true) => b {
                @if let Some(direction) = direction { (direction) ", " }
                "more than chance"
            },
            Some(false) => "not more than chance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_judged_in_words() {
        let words = |differs, direction| judged(differs, direction).into_string();
        assert!(words(None, Some("more")).contains("cannot be told"));
        assert!(words(Some(true), Some("more")).contains("more, more than chance"));
        assert!(words(Some(false), Some("more")).starts_with("not more than chance"));
        assert_eq!(
            direction(Some(2.0), Some(1.0), ["fewer", "more"]),
            Some("fewer")
        );
        assert_eq!(direction(Some(1.0), Some(1.0), ["fewer", "more"]), None);
        assert_eq!(direction(None, Some(1.0), ["fewer", "more"]), None);
    }
}
