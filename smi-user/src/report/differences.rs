//! Recordings side by side, and how they differ.

use super::{
    summary::{show_long, show_p},
    text::{self, line},
};
use crate::{
    model::{Comparison, Difference, Summary},
    units::show_ns,
};

/// Width of a column at the least.
const COLUMN: usize = 12;

/// Nothing where there is but one recording.
pub(super) fn render(summaries: &[Summary], comparisons: &[Comparison], colour: bool) -> String {
    if summaries.len() < 2 {
        return String::new();
    }
    let mut text = String::new();
    side_by_side(&mut text, summaries, colour);
    for comparison in comparisons {
        differences(&mut text, comparison, colour);
    }
    text
}

fn bold(text: &str, colour: bool) -> String {
    if colour {
        format!("{}{text}\x1b[0m", text::BOLD)
    } else {
        text.to_owned()
    }
}

fn side_by_side(text: &mut String, summaries: &[Summary], colour: bool) {
    let time = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), show_ns);
    let quantile = |of: &Summary, q| time(of.total.quantile_ns(q));
    let names: Vec<String> = summaries.iter().map(|of| of.name.clone()).collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .chain([COLUMN])
        .max()
        .unwrap_or(COLUMN);
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&Summary) -> String| {
        rows.push((name.to_owned(), summaries.iter().map(of).collect()));
    };
    row("time", &|of| {
        show_long((of.ended.as_nanosecond() - of.began.as_nanosecond()) as f64)
    });
    row("exposure", &|of| show_long(of.total.exposure_ns as f64));
    row("gaps", &|of| of.total.count.to_string());
    row("gaps/s", &|of| {
        of.total
            .rate()
            .map_or_else(|| "-".to_owned(), text::show_rate)
    });
    row("avg", &|of| time(of.total.mean_ns()));
    row("p50", &|of| quantile(of, 0.5));
    row("p99", &|of| quantile(of, 0.99));
    row("p99.9", &|of| quantile(of, 0.999));
    row("max", &|of| time(of.total.max_ns.map(|ns| ns as f64)));
    row("SMIs", &|of| {
        of.smis
            .map_or_else(|| "-".to_owned(), |smis| smis.to_string())
    });
    row("threshold", &|of| {
        let (lowest, highest) = of.threshold_range_ns;
        if lowest == highest {
            show_ns(lowest as f64)
        } else {
            format!("{} to {}", show_ns(lowest as f64), show_ns(highest as f64))
        }
    });
    let cells = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .map(|cell| format!("  {cell:>width$}"))
            .collect();
        padded.concat()
    };
    let heading = format!("\nSide by side{}", cells(&names));
    line(text, &bold(&heading, colour));
    for (name, columns) in &rows {
        line(text, &format!("  {name:<10}{}", cells(columns)));
    }
}

fn differences(text: &mut String, comparison: &Comparison, colour: bool) {
    let heading = format!("\nFrom {} to {}", comparison.before, comparison.after);
    line(text, &bold(&heading, colour));
    line(
        text,
        &format!(
            "  {:<14} {:>9} {:>9}  {:<22} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "gaps", "gaps/s", "then", "ratio (95 %)", "p50", "then", "p99", "then", "max", "then"
        ),
    );
    for row in &comparison.rows {
        line(text, &numbers(row));
    }
    text.push('\n');
    for row in &comparison.rows {
        line(text, &format!("  {}: {}", name(row), rates(row)));
        line(text, &format!("  {}: {}", name(row), durations(row)));
    }
    for remark in &comparison.remarks {
        line(text, &format!("  mind: {remark}"));
    }
}

fn name(row: &Difference) -> String {
    row.cause
        .map_or_else(|| "all gaps".to_owned(), |cause| cause.to_string())
}

fn numbers(row: &Difference) -> String {
    let dash = || "-".to_owned();
    let rate = |rate: Option<f64>| rate.map_or_else(dash, text::show_rate);
    let time = |ns: Option<f64>| ns.map_or_else(dash, show_ns);
    let max = |ns: Option<u64>| time(ns.map(|ns| ns as f64));
    let ratio = match (row.ratio, row.ratio_range) {
        (Some(ratio), Some((low, high))) => format!("{ratio:.2} ({low:.2} to {high:.2})"),
        (Some(ratio), None) => format!("{ratio:.2}"),
        (None, _) => dash(),
    };
    format!(
        "  {:<14} {:>9} {:>9}  {ratio:<22} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        name(row),
        rate(row.rate_before),
        rate(row.rate_after),
        time(row.p50_p99_before.map(|both| both.0)),
        time(row.p50_p99_after.map(|both| both.0)),
        time(row.p50_p99_before.map(|both| both.1)),
        time(row.p50_p99_after.map(|both| both.1)),
        max(row.max_before),
        max(row.max_after),
    )
}

/// How the rates differ, in words.
fn rates(row: &Difference) -> String {
    let (Some(differs), Some(p)) = (row.rate_differs, row.rate_p_value) else {
        return "whether they come more or less often cannot be told".to_owned();
    };
    let (Some(before), Some(after)) = (row.rate_before, row.rate_after) else {
        return "whether they come more or less often cannot be told".to_owned();
    };
    let p = show_p(p);
    if !differs {
        return format!("rates differ by no more than chance (p {p})");
    }
    match row.ratio {
        None => format!("they come now and did not before, which is more than chance (p {p})"),
        Some(_) if after == 0.0 => {
            format!("they come no more, which is more than chance (p {p})")
        }
        Some(ratio) if after > before => {
            format!("{ratio:.2} times as often, which is more than chance (p {p})")
        }
        Some(ratio) => format!(
            "less often, {ratio:.2} times the rate before, which is more than chance (p {p})"
        ),
    }
}

/// How the durations differ, in words.
fn durations(row: &Difference) -> String {
    let (Some(differs), Some(p)) = (row.durations_differ, row.duration_p_value) else {
        return "whether their durations differ cannot be told".to_owned();
    };
    let p = show_p(p);
    if !differs {
        return format!("durations differ by no more than chance (p {p})");
    }
    let medians = row
        .p50_p99_before
        .zip(row.p50_p99_after)
        .map(|(before, after)| (before.0, after.0));
    match medians {
        Some((before, after)) if after > before => {
            format!("they are longer, which is more than chance (p {p})")
        }
        Some((before, after)) if after < before => {
            format!("they are shorter, which is more than chance (p {p})")
        }
        _ => format!("their durations differ by more than chance (p {p})"),
    }
}
