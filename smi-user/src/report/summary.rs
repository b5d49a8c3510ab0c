//! What recordings say, as tables for people.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    bars, differences,
    sparkline::{self, Point},
    text::{self, BOLD, LONGEST, RED, Text, line},
};
use crate::{
    model::{DetectorInfo, Gap, Interval, Machine, Period, Summary, Verdict},
    units::show_ns,
};

/// Renders recordings one after the other, then side by side with how they differ.
pub fn summaries(
    summaries: &[Summary],
    comparisons: &[crate::model::Comparison],
    colour: bool,
    zone: &TimeZone,
) -> String {
    let mut text = String::new();
    for summary in summaries {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &one(summary, colour, zone);
    }
    text + &differences::render(summaries, comparisons, colour)
}

fn one(summary: &Summary, colour: bool, zone: &TimeZone) -> String {
    let limit = summary.verdict.as_ref().map(|verdict| verdict.hardlimit_ns);
    let tables = Text::new(true, colour, limit, zone.clone());
    let mut text = String::new();
    line(
        &mut text,
        &tables.paint(BOLD, &format!("Recording {}", summary.name)),
    );
    if let Some(header) = &summary.header {
        text += &machine(&header.machine);
    }
    line(
        &mut text,
        &format!("  detector  {}", detector(&summary.detector)),
    );
    line(&mut text, &format!("  time      {}", time(summary, zone)));
    if let Some(found) = &summary.verdict {
        let words = verdict(found);
        let colour = if found.exceeded { RED } else { "" };
        let words = if found.exceeded {
            tables.paint(colour, &words)
        } else {
            words
        };
        line(&mut text, &format!("  hardlimit {words}"));
    }
    text.push('\n');
    text += &tables.heading();
    for cpu in &summary.cpus {
        text += &tables.row(&cpu.cpu.to_string(), &cpu.total(), &tables.last(cpu));
    }
    if summary.cpus.len() > 1 {
        text += &tables.row("all", &summary.total, "");
    }
    text += &text::sampling(&summary.detector, &summary.cpus);
    text += &text::causes(&summary.causes);
    text += &text::smis(&summary.attribution, &summary.cpus);
    text += &course(summary);
    text += &periods(summary);
    if summary.total.count > 0 {
        text += "\nGaps by duration\n";
        for row in bars::rows(&summary.total.histogram) {
            line(&mut text, &row);
        }
    }
    text += &longest(summary, &tables);
    if !summary.remarks.is_empty() {
        text += "\nRemarks\n";
        for remark in &summary.remarks {
            line(&mut text, &format!("  {remark}"));
        }
    }
    text
}

fn machine(machine: &Machine) -> String {
    let mut text = String::new();
    let mut row = |name: &str, parts: &[(&str, &Option<String>)]| {
        let known: Vec<String> = parts
            .iter()
            .filter_map(|(before, part)| Some(format!("{before}{}", part.as_ref()?)))
            .collect();
        if !known.is_empty() {
            line(&mut text, &format!("  {name:<9} {}", known.join(", ")));
        }
    };
    row(
        "machine",
        &[
            ("", &machine.hostname),
            ("", &machine.product),
            ("hypervisor ", &machine.hypervisor),
        ],
    );
    row(
        "CPU",
        &[
            ("", &machine.cpu),
            ("online ", &machine.cpus),
            ("microcode ", &machine.microcode),
        ],
    );
    row("firmware", &[("", &machine.firmware)]);
    row(
        "kernel",
        &[
            ("", &machine.kernel),
            ("clock source ", &machine.clock_source),
        ],
    );
    text
}

fn detector(detector: &DetectorInfo) -> String {
    format!(
        "{}, threshold {}, {} of every {}, interrupts off for up to {}, mode {}, CPU {}",
        detector.name,
        show_ns(detector.threshold_ns as f64),
        show_ns(detector.width_ns as f64),
        show_ns(detector.window_ns as f64),
        show_ns(detector.irqs_off_max_ns as f64),
        detector.mode,
        detector.cpus,
    )
}

fn time(summary: &Summary, zone: &TimeZone) -> String {
    let shown = |time: Timestamp| time.to_zoned(zone.clone()).strftime("%F %T").to_string();
    let plural = |count: u64, what: &str| {
        let s = if count == 1 { "" } else { "s" };
        format!("{count} {what}{s}")
    };
    let lasted = summary.ended.as_nanosecond() - summary.began.as_nanosecond();
    format!(
        "{} to {}, {}; {} of {}",
        shown(summary.began),
        shown(summary.ended),
        show_long(lasted as f64),
        plural(summary.snapshots, "snapshot"),
        plural(summary.runs, "run"),
    )
}

fn verdict(verdict: &Verdict) -> String {
    let limit = show_ns(verdict.hardlimit_ns as f64);
    match verdict.max_ns {
        Some(max) if verdict.exceeded => format!(
            "{limit}: exceeded, longest gap {}; {} of the gaps passed on one by one were longer",
            show_ns(max as f64),
            verdict.over
        ),
        _ => format!("{limit}: kept"),
    }
}

/// The time line: how often, and how long.
fn course(summary: &Summary) -> String {
    let slots = &summary.timeline;
    let (Some(first), Some(_)) = (slots.first(), slots.get(1)) else {
        return String::new();
    };
    let together = slots.len().div_ceil(sparkline::WIDTH);
    let places: Vec<Interval> = slots
        .chunks(together)
        .map(|slots| {
            let mut sum = Interval::default();
            for slot in slots {
                sum.add(&slot.counts);
            }
            sum
        })
        .collect();
    let points = |of: &dyn Fn(&Interval) -> Option<f64>| -> Vec<Point> {
        places
            .iter()
            .map(|place| match of(place) {
                _ if place.exposure_ns == 0 => Point::Unknown,
                None => Point::Nothing,
                Some(value) => Point::Value(value),
            })
            .collect()
    };
    let rates = points(&|place| place.rate().filter(|rate| *rate > 0.0));
    let longest = points(&|place| place.max_ns.map(|ns| (ns as f64).ln()));
    let most = places.iter().filter_map(Interval::rate).fold(0.0, f64::max);
    let extremes = |pick: fn(u64, u64) -> u64| {
        places
            .iter()
            .filter_map(|place| place.max_ns)
            .reduce(pick)
            .map_or_else(|| "-".to_owned(), |ns| show_ns(ns as f64))
    };
    let mut text = String::new();
    line(
        &mut text,
        &format!(
            "\nOver time, {} a character (. no gap, space: not sampled)",
            show_long(first.length_ns as f64 * together as f64)
        ),
    );
    line(
        &mut text,
        &format!(
            "  gaps/s   {}  up to {}",
            sparkline::line(&rates, true),
            text::show_rate(most)
        ),
    );
    line(
        &mut text,
        &format!(
            "  longest  {}  {} to {}, log scale",
            sparkline::line(&longest, false),
            extremes(u64::min),
            extremes(u64::max)
        ),
    );
    text
}

fn periods(summary: &Summary) -> String {
    let mut text = String::new();
    let Some(searched) = &summary.periods_searched else {
        return text;
    };
    text += "\nFixed intervals\n";
    if summary.periods.is_empty() {
        line(
            &mut text,
            &format!(
                "  none found between {} and {} among {} events",
                show_ns(searched.shortest_ns),
                show_long(searched.longest_ns),
                searched.events
            ),
        );
    }
    for period in &summary.periods {
        line(&mut text, &format!("  {}", self::period(period)));
    }
    text
}

/// A fixed interval in words.
fn period(period: &Period) -> String {
    let which = match (period.cause, period.longer_than_ns) {
        (None, None) => String::new(),
        (Some(cause), _) => format!(" with cause {cause}"),
        (None, Some(ns)) => format!(" of {} and more", show_ns((ns + 1) as f64)),
    };
    format!(
        "every {}: among {} events{which}, coherence {:.2}, p {}",
        show_with(period.interval_ns, period.uncertainty_ns),
        period.gaps,
        period.coherence,
        show_p(period.p_value),
    )
}

fn longest(summary: &Summary, tables: &Text) -> String {
    let mut gaps: Vec<&Gap> = summary.gaps.iter().collect();
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.duration_ns));
    let mut text = String::new();
    if !gaps.is_empty() {
        text += "\nLongest gaps passed on one by one\n";
    }
    for gap in gaps.into_iter().take(LONGEST) {
        line(&mut text, &tables.single(gap));
    }
    text
}

/// A probability, as far as it matters.
pub(super) fn show_p(p: f64) -> String {
    if p < 1e-9 {
        "< 1e-9".to_owned()
    } else if p < 1e-3 {
        format!("= {p:.0e}")
    } else {
        format!("= {p:.3}")
    }
}

/// [`show_ns`], in minutes, hours or days where these fit better.
pub(super) fn show_long(ns: f64) -> String {
    let seconds = ns / 1e9;
    let (value, unit) = if seconds < 120.0 {
        return show_ns(ns);
    } else if seconds < 7_200.0 {
        (seconds / 60.0, "min")
    } else if seconds < 172_800.0 {
        (seconds / 3_600.0, "h")
    } else {
        (seconds / 86_400.0, "d")
    };
    format!("{value:.1} {unit}")
}

/// A time and how far it may be off, both in the unit that fits the time, to the digits that are known.
fn show_with(ns: f64, off: f64) -> String {
    let (by, unit) = if ns < 999.5e3 {
        (1e3, "us")
    } else if ns < 999.5e6 {
        (1e6, "ms")
    } else {
        (1e9, "s")
    };
    let decimals = (1.0 - (off / by).log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{:.decimals$} ± {:.decimals$} {unit}", ns / by, off / by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NO_HYPERVISOR;

    #[test]
    fn a_time_is_told_to_the_digits_that_are_known() {
        for (ns, off, shown) in [
            (60.004e9, 0.031e9, "60.004 ± 0.031 s"),
            (9_999_903.6, 1_799.6, "9.9999 ± 0.0018 ms"),
            (3_600e9, 25e9, "3600 ± 25 s"),
        ] {
            assert_eq!(show_with(ns, off), shown);
        }
    }

    #[test]
    fn long_times_have_units_that_fit() {
        for (ns, shown) in [
            (5e6, "5.00 ms"),
            (90e9, "90.0 s"),
            (180e9, "3.0 min"),
            (86_400e9, "24.0 h"),
            (30.0 * 86_400e9, "30.0 d"),
        ] {
            assert_eq!(show_long(ns), shown);
        }
    }

    #[test]
    fn no_hypervisor_is_said_and_an_unknown_one_left_out() {
        let of = |hypervisor: Option<&str>| {
            machine(&Machine {
                hostname: Some("host".to_owned()),
                hypervisor: hypervisor.map(str::to_owned),
                ..Machine::default()
            })
        };
        assert_eq!(of(None), "  machine   host\n");
        assert_eq!(
            of(Some(NO_HYPERVISOR)),
            "  machine   host, hypervisor none\n"
        );
    }

    #[test]
    fn probabilities_are_not_told_more_exactly_than_they_are() {
        assert_eq!(show_p(1e-30), "< 1e-9");
        assert_eq!(show_p(0.000_04), "= 4e-5");
        assert_eq!(show_p(0.25), "= 0.250");
    }
}
