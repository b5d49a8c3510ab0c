//! What the places that the HTML report names with its numbers (`data-at`) stand for.

use std::ops::Range;

use serde_json::{Value, json};
use smi_user::model::{Histogram, Interval, Summary};

/// Whether a value in the page is this one: numbers to the last bit, texts to the letter.
pub fn same(expected: &Value, value: &str) -> bool {
    match expected {
        Value::Number(number) if number.is_u64() => value == number.to_string(),
        Value::Number(number) => value.parse::<f64>().ok() == number.as_f64(),
        Value::String(text) => value == text,
        _ => false,
    }
}

/// What should stand at a place: in `source`, which `summaries` are part of, or calculated from one of them.
pub fn expected(source: &Value, summaries: &[Summary], at: &str) -> Option<Value> {
    let Some((at, figure)) = at.split_once('#') else {
        return source.pointer(at).cloned();
    };
    let mut path = at.split('/').skip(1);
    let ("summaries", index) = (path.next()?, path.next()?) else {
        return None;
    };
    let summary = summaries.get(index.parse::<usize>().ok()?)?;
    let part = path.next();
    let index = path.next();
    let position = || index?.parse::<usize>().ok();
    match part {
        None => whole(summary, figure),
        Some("total") => of_interval(&summary.total, figure),
        Some("causes") => {
            let of = summary.causes.get(position()?)?;
            let exposure = summary.total.exposure_ns as f64;
            Some(match figure {
                "share" => json!(of.count as f64 / summary.total.count as f64),
                "rate" => json!(of.count as f64 * 1e9 / exposure),
                figure if figure.starts_with("buckets=") => in_buckets(&of.histogram, figure)?,
                figure => json!(
                    of.histogram
                        .quantile(quantile(figure)?)?
                        .min(of.max_ns as f64)
                ),
            })
        }
        Some("cpus") => {
            let of = summary.cpus.get(position()?)?;
            match figure {
                "not_passed_on" => Some(json!(of.records.limited + of.records.lost)),
                figure => of_interval(&of.total(), figure),
            }
        }
        Some("timeline") => {
            let slots = summary.timeline.get(range(index?)?)?;
            if let Some(cause) = figure.strip_prefix("cause=") {
                let causes = slots.iter().flat_map(|slot| &slot.causes);
                let of = causes.filter(|of| of.cause.to_string() == cause);
                return Some(json!(of.map(|of| of.count).sum::<u64>()));
            }
            let mut all = Interval::default();
            for slot in slots {
                all.add(&slot.counts);
            }
            of_interval(&all, figure)
        }
        Some(_) => None,
    }
}

fn whole(summary: &Summary, figure: &str) -> Option<Value> {
    match figure {
        "length" => {
            let length = summary.began.duration_until(summary.ended);
            Some(json!(u64::try_from(length.as_nanos()).ok()?))
        }
        "gaps" => Some(json!(summary.gaps.len())),
        _ => None,
    }
}

fn of_interval(of: &Interval, figure: &str) -> Option<Value> {
    Some(match figure {
        "count" => json!(of.count),
        "exposure_ns" => json!(of.exposure_ns),
        "max_ns" => json!(of.max_ns?),
        "rate" => json!(of.rate()?),
        "lost" => json!(of.sum_ns as f64 / of.exposure_ns as f64),
        figure if figure.starts_with("buckets=") => in_buckets(&of.histogram, figure)?,
        figure if figure.starts_with("from=") => {
            let bucket: usize = figure.strip_prefix("from=")?.parse().ok()?;
            let gaps: u64 = of.histogram.counts()[bucket..].iter().sum();
            json!(gaps as f64 * 1e9 / of.exposure_ns as f64)
        }
        figure => json!(of.quantile_ns(quantile(figure)?)?),
    })
}

fn quantile(figure: &str) -> Option<f64> {
    match figure {
        "p50" => Some(0.5),
        "p90" => Some(0.9),
        "p99" => Some(0.99),
        "p99.9" => Some(0.999),
        _ => None,
    }
}

/// `FROM..TO`.
pub fn range(text: &str) -> Option<Range<usize>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

fn in_buckets(histogram: &Histogram, figure: &str) -> Option<Value> {
    let buckets = range(figure.strip_prefix("buckets=")?)?;
    Some(json!(histogram.counts()[buckets].iter().sum::<u64>()))
}
