//! Whether what a page shows people of a number is that number. Texts are read back here, not made: what makes them in
//! smilat has no part in it.

use jiff::Timestamp;
use smi_user::units::show_ns;

/// Whether `text` says `value`, which is given as the page gives it to programs: a number, or of `unit` `time` a moment.
pub fn says(unit: &str, value: &str, text: &str) -> bool {
    if unit == "time" {
        let time: Option<Timestamp> = value.parse().ok();
        return time.is_some_and(|time| text == time.strftime("%F %T%.3f").to_string());
    }
    let Ok(number) = value.parse::<f64>() else {
        return false;
    };
    match unit {
        "ns" => text == show_ns(number),
        "count" => text.replace('\u{202f}', "") == value,
        "span" if number < 120e9 => text == show_ns(number),
        "span" => says_span(number / 1e9, text),
        "rate" | "plain" if number.is_infinite() => text == "∞",
        "rate" | "plain" if number.is_nan() => text == "–",
        "rate" | "plain" => is_rounded(text, number, 0.005),
        "share" if number > 0.0 && number < 1e-5 => text == "< 0.001 %",
        "share" => text
            .strip_suffix(" %")
            .is_some_and(|percent| is_rounded(percent, number * 100.0, 0.05)),
        "p" if number < 0.0001 => text == "p < 0.0001",
        "p" => text
            .strip_prefix("p = ")
            .is_some_and(|p| is_rounded(p, number, 0.5)),
        "interval" => text.split_once(' ').is_some_and(|(shown, unit)| {
            let factor = match unit {
                "ns" => 1.0,
                "us" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                _ => return false,
            };
            is_rounded(shown, number / factor, 0.05)
        }),
        _ => false,
    }
}

/// Whether `text` is `value`, rounded to the digits that it has, and no further from it than `most` of it.
fn is_rounded(text: &str, value: f64, most: f64) -> bool {
    let text = text.replace('\u{202f}', "");
    let Ok(shown) = text.parse::<f64>() else {
        return false;
    };
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    let decimals = digits
        .split_once('.')
        .map_or(0, |(_, decimals)| decimals.len());
    let (Ok(power), Ok(decimals)) = (power.parse::<i32>(), i32::try_from(decimals)) else {
        return false;
    };
    let last = 10f64.powi(power - decimals);
    let off = (shown - value).abs();
    off <= last * 0.500_001 && off <= most * value.abs()
}

/// `1 d 2 h 3 min`: up to three units that follow each other, the lower ones left out.
fn says_span(seconds: f64, text: &str) -> bool {
    let mut words = text.split(' ');
    let mut sum = 0.0;
    let mut before = f64::INFINITY;
    while let (Some(number), Some(unit)) = (words.next(), words.next()) {
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "min" => 60.0,
            "s" => 1.0,
            _ => return false,
        };
        let Ok(number) = number.parse::<u32>() else {
            return false;
        };
        if unit >= before {
            return false;
        }
        before = unit;
        sum += f64::from(number) * unit;
    }
    let left_out = seconds - sum;
    if seconds >= 86_400.0 - 0.5 {
        (-0.5..60.0).contains(&left_out)
    } else {
        left_out.abs() <= 0.5
    }
}
