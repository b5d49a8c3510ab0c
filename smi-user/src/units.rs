//! Times, sizes and counts as people write and read them.

use std::time::Duration;

use thiserror::Error;

/// A time that could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TimeError {
    /// No digits where they should be.
    #[error(
        "\"{0}\" is not a time; write a number and a unit, for example 10us, 1.5ms, 2s, 3min, 2h"
    )]
    NotATime(String),
    /// A unit that does not exist.
    #[error("\"{text}\": unknown unit \"{unit}\"; use ns, us, ms, s, min, h or d")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The unit in it.
        unit: String,
    },
    /// A part of a nanosecond.
    #[error("\"{0}\" is finer than a nanosecond, the resolution of the clock")]
    TooFine(String),
    /// Does not fit.
    #[error("\"{0}\" is longer than 584 years, the longest that fits the clock")]
    TooLong(String),
}

/// Unit of a number written without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// Gap times, as hwlatdetect has it.
    Microseconds,
    /// Durations, as hwlatdetect has it.
    Seconds,
}

/// Reads a time such as `10us`, `1.5ms`, `2h` or `10`; exact to the nanosecond.
///
/// # Errors
/// When it is not a time, too fine or too long.
pub fn parse_time(text: &str, bare: Bare) -> Result<Duration, TimeError> {
    let not_a_time = || TimeError::NotATime(text.to_owned());
    let trimmed = text.trim();
    let number_ends = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(number_ends);
    let unit_ns: u128 = match (unit.trim(), bare) {
        ("ns", _) => 1,
        ("us" | "µs" | "μs", _) | ("", Bare::Microseconds) => 1_000,
        ("ms", _) => 1_000_000,
        ("s" | "sec", _) | ("", Bare::Seconds) => 1_000_000_000,
        ("m" | "min", _) => 60_000_000_000,
        ("h", _) => 3_600_000_000_000,
        ("d", _) => 86_400_000_000_000,
        _ if number.is_empty() => return Err(not_a_time()),
        (unit, _) => {
            return Err(TimeError::UnknownUnit {
                text: text.to_owned(),
                unit: unit.to_owned(),
            });
        }
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') {
        return Err(not_a_time());
    }
    let too_long = || TimeError::TooLong(text.to_owned());
    let digits = |digits: &str| -> Result<u128, TimeError> {
        if digits.is_empty() {
            return Ok(0);
        }
        digits.parse().map_err(|_| too_long())
    };
    let part = part.trim_end_matches('0');
    let scale = u32::try_from(part.len())
        .ok()
        .and_then(|places| 10u128.checked_pow(places))
        .ok_or_else(|| TimeError::TooFine(text.to_owned()))?;
    let part_ns = digits(part)?.checked_mul(unit_ns).ok_or_else(too_long)?;
    if part_ns % scale != 0 {
        return Err(TimeError::TooFine(text.to_owned()));
    }
    let ns = digits(whole)?
        .checked_mul(unit_ns)
        .and_then(|whole_ns| whole_ns.checked_add(part_ns / scale))
        .ok_or_else(too_long)?;
    u64::try_from(ns)
        .map(Duration::from_nanos)
        .map_err(|_| too_long())
}

/// A size that could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SizeError {
    /// No digits where they should be.
    #[error("\"{0}\" is not a size; write a number and a unit, for example 512KiB, 64MiB, 1.5GiB")]
    NotASize(String),
    /// A unit that does not exist.
    #[error(
        "\"{text}\": unknown unit \"{unit}\"; use KiB, MiB, GiB (also written k, M, G: powers of 1024), or kB, MB, GB \
         (powers of 1000)"
    )]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The unit in it.
        unit: String,
    },
    /// Does not fit.
    #[error("\"{0}\" is more than 8 EiB, the longest a file can be")]
    TooLarge(String),
}

/// Reads a size in bytes such as `64MiB`, `1.5G` or `65536`; a part of a byte is left off.
///
/// # Errors
/// When it is not a size, or too large.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let trimmed = text.trim();
    let number_ends = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(number_ends);
    let unit_bytes: u128 = match unit.trim() {
        "" | "B" => 1,
        "k" | "K" | "KiB" | "kiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ if number.is_empty() => return Err(SizeError::NotASize(text.to_owned())),
        unit => {
            return Err(SizeError::UnknownUnit {
                text: text.to_owned(),
                unit: unit.to_owned(),
            });
        }
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') {
        return Err(SizeError::NotASize(text.to_owned()));
    }
    let too_large = || SizeError::TooLarge(text.to_owned());
    let digits = |digits: &str| -> Result<u128, SizeError> {
        if digits.is_empty() {
            return Ok(0);
        }
        digits.parse().map_err(|_| too_large())
    };
    // More decimals say nothing that a byte could show.
    let part = &part[..part.len().min(18)];
    let part_bytes = digits(part)? * unit_bytes / 10u128.pow(part.len() as u32);
    let bytes = digits(whole)?
        .checked_mul(unit_bytes)
        .and_then(|whole_bytes| whole_bytes.checked_add(part_bytes))
        .ok_or_else(too_large)?;
    i64::try_from(bytes)
        .map(i64::cast_unsigned)
        .map_err(|_| too_large())
}

/// A size in the unit that fits it: `512 B`, `64 KiB`, `1.5 MiB`.
pub fn show_bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let decimals = usize::from(value < 100.0 && value.fract() >= 0.05);
    format!("{value:.decimals$} {unit}")
}

/// A time in the unit that fits it, with three or four significant digits: `842 ns`, `13.2 us`, `5.04 ms`, `1.30 s`.
pub fn show_ns(ns: f64) -> String {
    let (value, unit) = if ns < 1e3 {
        return format!("{ns:.0} ns");
    } else if ns < 999.5e3 {
        (ns / 1e3, "us")
    } else if ns < 999.5e6 {
        (ns / 1e6, "ms")
    } else {
        (ns / 1e9, "s")
    };
    let decimals = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.decimals$} {unit}")
}

/// [`show_ns`] of a duration.
pub fn show(duration: Duration) -> String {
    show_ns(duration.as_nanos() as f64)
}

/// Nanoseconds of a duration; more than 584 years count as 584 years.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_to_the_nanosecond() {
        for (text, expected) in [
            ("10us", 10_000),
            ("10 us", 10_000),
            ("10µs", 10_000),
            ("1.5ms", 1_500_000),
            ("0.001us", 1),
            ("1.50000000000us", 1_500),
            (".5s", 500_000_000),
            ("2h", 7_200_000_000_000),
            ("1d", 86_400_000_000_000),
            ("3m", 180_000_000_000),
            ("3min", 180_000_000_000),
            ("0", 0),
        ] {
            let time = parse_time(text, Bare::Seconds).expect(text);
            assert_eq!(time, Duration::from_nanos(expected), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_microseconds_for_gaps_and_seconds_for_durations() {
        let bare = |bare| parse_time("10", bare).expect("a time");
        assert_eq!(bare(Bare::Microseconds), Duration::from_micros(10));
        assert_eq!(bare(Bare::Seconds), Duration::from_secs(10));
    }

    #[test]
    fn what_is_not_a_time_is_refused_with_what_to_write() {
        for (text, told) in [
            ("", "is not a time"),
            ("fast", "is not a time"),
            ("-1ms", "is not a time"),
            (".", "is not a time"),
            ("1.2.3s", "is not a time"),
            ("10 parsecs", "unknown unit \"parsecs\""),
            ("10US", "unknown unit \"US\""),
            ("0.5ns", "finer than a nanosecond"),
            (
                "0.0000000000000000000000000000000000000001s",
                "finer than a nanosecond",
            ),
            ("600000000000h", "longer than 584 years"),
            (
                "99999999999999999999999999999999999999999s",
                "longer than 584 years",
            ),
        ] {
            let error = parse_time(text, Bare::Seconds).expect_err(text).to_string();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [
            ("65536", 65_536),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("64K", 65_536),
            ("1.5 MiB", 1_572_864),
            ("64M", 67_108_864),
            ("2G", 2_147_483_648),
            ("2GB", 2_000_000_000),
            ("100kB", 100_000),
            (".5KiB", 512),
            ("0.3333333333333333333333333k", 341),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_what_to_write() {
        for (text, told) in [
            ("", "is not a size"),
            ("big", "is not a size"),
            ("-1M", "is not a size"),
            (".", "is not a size"),
            ("1.2.3M", "is not a size"),
            ("10 parsecs", "unknown unit \"parsecs\""),
            ("10TB", "unknown unit \"TB\""),
            ("9000000000G", "more than 8 EiB"),
            (
                "99999999999999999999999999999999999999999",
                "more than 8 EiB",
            ),
        ] {
            let error = parse_size(text).expect_err(text).to_string();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn sizes_are_shown_with_a_fitting_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (65_536, "64 KiB"),
            (1_572_864, "1.5 MiB"),
            (67_108_864, "64 MiB"),
        ] {
            assert_eq!(show_bytes(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn times_are_shown_with_a_fitting_unit() {
        for (ns, shown) in [
            (0.0, "0 ns"),
            (842.0, "842 ns"),
            (1_000.0, "1.00 us"),
            (13_249.0, "13.2 us"),
            (999_900.0, "1.00 ms"),
            (5_040_000.0, "5.04 ms"),
            (123_400_000.0, "123 ms"),
            (1.3e9, "1.30 s"),
            (16e9, "16.0 s"),
        ] {
            assert_eq!(show_ns(ns), shown, "{ns}");
        }
    }
}
