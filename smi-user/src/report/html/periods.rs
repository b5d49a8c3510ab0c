//! Fixed intervals between gaps, with what speaks for them.

use maud::{Markup, html};

use super::figures::{Place, about_ns, count, ns, plain, probability};
use crate::{
    model::{Period, Summary},
    units::show_ns,
};

/// Each interval in a sentence.
pub(super) fn periods(summary: &Summary, place: &Place) -> Markup {
    html! {
        @if summary.periods.is_empty() {
            @if let Some(searched) = &summary.periods_searched {
                @let here = place.at("periods_searched");
                p {
                    "No fixed interval between " (about_ns(&here.at("shortest_ns"), searched.shortest_ns)) " and "
                    (about_ns(&here.at("longest_ns"), searched.longest_ns)) " stands out among "
                    (count(&here.at("events"), searched.events)) " events."
                }
            } @else {
                p { "Too few single gaps were recorded to look for fixed intervals." }
            }
        } @else {
            ul.periods {
                @for (index, period) in summary.periods.iter().enumerate() {
                    (sentence(period, &place.at("periods").at(index)))
                }
            }
            p.quiet {
                "Coherence says how well the gaps keep time: 1 is a perfect clock, 0 no rhythm. p is the probability that "
                "gaps without any rhythm look at least as regular, all intervals that were tried considered."
            }
        }
    }
}

fn sentence(period: &Period, here: &Place) -> Markup {
    html! {
        li {
            @match period.cause {
                Some(cause) => { "Gaps with cause " b { (cause) } }
                None => { "Gaps of any cause" }
            }
            @if let Some(longer) = period.longer_than_ns {
                " longer than " (ns(&here.at("longer_than_ns"), longer))
            }
            " come every "
            data.strong value=(period.interval_ns) data-at=(here.at("interval_ns").path()) data-unit="interval" {
                (show_interval(period.interval_ns, period.uncertainty_ns))
            }
            " (± " (about_ns(&here.at("uncertainty_ns"), period.uncertainty_ns)) "). Evidence: among "
            (count(&here.at("gaps"), period.gaps)) " events, coherence "
            (plain(&here.at("coherence"), period.coherence)) ", "
            (probability(&here.at("p_value"), period.p_value)) "."
        }
    }
}

/// An interval with as many digits as are known of it.
fn show_interval(ns: f64, uncertainty_ns: f64) -> String {
    let (unit, name) = match ns {
        ns if ns < 1e3 => (1.0, "ns"),
        ns if ns < 1e6 => (1e3, "us"),
        ns if ns < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    if uncertainty_ns <= 0.0 {
        return show_ns(ns);
    }
    let known = -(uncertainty_ns / unit).log10().floor();
    let decimals = known.clamp(0.0, 9.0) as usize;
    format!("{:.decimals$} {name}", ns / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_shown_as_exactly_as_it_is_known() {
        for (ns, uncertainty, shown) in [
            (60e9, 12e6, "60.00 s"),
            (60.012e9, 2e6, "60.012 s"),
            (60e9, 3e9, "60 s"),
            (1_000_000.0, 0.0, "1.00 ms"),
            (16_384.0, 100.0, "16.4 us"),
        ] {
            assert_eq!(show_interval(ns, uncertainty), shown);
        }
    }
}
