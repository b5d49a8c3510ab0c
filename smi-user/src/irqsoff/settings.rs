//! What is looked for, checked.

use std::{str::FromStr, time::Duration};

use clap::ValueEnum;
use thiserror::Error;

use crate::{
    kernel::cpus::CpuList,
    units::{Bare, TimeError, ns, parse_time, show},
};

/// Fewer ticks than this tell little: the first may have come a moment after the stretch began.
pub(super) const MIN_TICKS: u64 = 3;
/// AIX's limit; a stretch that long is half a second or more at its tick.
pub(super) const MAX_TICKS: u64 = 62;
/// AIX's tick.
pub(super) const DEFAULT_TICK: Duration = Duration::from_millis(10);
/// Ticks cost something each.
pub(super) const MIN_TICK: Duration = Duration::from_micros(100);

/// How long a stretch must be, by AIX's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// 50 ticks: half a second at a tick of 10 ms
    #[default]
    Minimal,
    /// 10 ticks: a tenth of a second
    Normal,
    /// 4 ticks
    Detail,
}

impl Level {
    fn ticks(self) -> u64 {
        match self {
            Self::Minimal => 50,
            Self::Normal => 10,
            Self::Detail => 4,
        }
    }
}

/// How long a stretch must be, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// As many ticks.
    Ticks(u64),
    /// As long.
    Time(Duration),
}

impl FromStr for Threshold {
    type Err = String;

    /// `55ticks`, `1tick`, or a time; a bare number is ticks, as on AIX.
    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let number = trimmed
            .strip_suffix("ticks")
            .or_else(|| trimmed.strip_suffix("tick"))
            .unwrap_or(trimmed)
            .trim_end();
        if let Ok(ticks) = number.parse() {
            return Ok(Self::Ticks(ticks));
        }
        parse_time(text, Bare::Seconds)
            .map(Self::Time)
            .map_err(|error| match error {
                TimeError::NotATime(_) | TimeError::UnknownUnit { .. } => {
                    format!("{error}; or a number of ticks, for example 10ticks")
                }
                _ => error.to_string(),
            })
    }
}

/// A setting that makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// Too short.
    #[error(
        "--threshold {asked} is {ticks} ticks of {tick}, below the least, {MIN_TICKS}: how long fewer are is known to no better \
         than a half; write 0 for none, {MIN_TICKS}ticks or more, or choose a shorter --tick"
    )]
    Short {
        /// As it was written.
        asked: String,
        /// What it comes to.
        ticks: u64,
        /// The tick.
        tick: String,
    },
    /// Too long.
    #[error(
        "--threshold {asked} is {ticks} ticks of {tick}, above the most, {MAX_TICKS}; write {MAX_TICKS}ticks or less, or \
         choose a longer --tick"
    )]
    Long {
        /// As it was written.
        asked: String,
        /// What it comes to.
        ticks: u64,
        /// The tick.
        tick: String,
    },
    /// No tick.
    #[error(
        "--tick {0} is outside of 100us to 10ms; a shorter one costs too much, a longer one sees too little"
    )]
    Tick(String),
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub cpus: CpuList,
    /// Time from one tick to the next.
    pub tick: Duration,
    /// Stretches at least this long are events; `None`: none is.
    pub threshold: Option<Duration>,
}

impl Settings {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// When a value is out of its limits.
    pub fn new(
        cpus: CpuList,
        tick: Duration,
        level: Level,
        asked: Option<Threshold>,
    ) -> Result<Self, SettingsError> {
        if !(MIN_TICK..=DEFAULT_TICK).contains(&tick) {
            return Err(SettingsError::Tick(show(tick)));
        }
        let asked = asked.unwrap_or(Threshold::Ticks(level.ticks()));
        let (ticks, threshold) = match asked {
            Threshold::Ticks(ticks) => {
                let times = u32::try_from(ticks).unwrap_or(u32::MAX);
                (ticks, tick.saturating_mul(times))
            }
            // A threshold between two numbers of ticks is kept as it is.
            Threshold::Time(time) => (ns(time) / ns(tick), time),
        };
        let told = || match asked {
            Threshold::Ticks(ticks) => format!("{ticks}ticks"),
            Threshold::Time(time) => show(time),
        };
        if !threshold.is_zero() && ticks < MIN_TICKS {
            return Err(SettingsError::Short {
                asked: told(),
                ticks,
                tick: show(tick),
            });
        }
        if threshold > tick.saturating_mul(MAX_TICKS as u32) {
            return Err(SettingsError::Long {
                asked: told(),
                ticks,
                tick: show(tick),
            });
        }
        Ok(Self {
            cpus,
            tick,
            threshold: (!threshold.is_zero()).then_some(threshold),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(tick_us: u64, asked: &str) -> Result<Option<Duration>, SettingsError> {
        let cpus = "0".parse().expect("a list");
        let asked = asked.parse().expect("a threshold");
        let tick = Duration::from_micros(tick_us);
        Settings::new(cpus, tick, Level::Minimal, Some(asked)).map(|settings| settings.threshold)
    }

    #[test]
    fn thresholds_are_ticks_or_times_from_3_to_62_ticks() {
        for (asked, ms) in [
            ("3", 30),
            ("4ticks", 40),
            ("62 ticks", 620),
            ("45ms", 45),
            ("0.5s", 500),
        ] {
            let wanted = Some(Duration::from_millis(ms));
            assert_eq!(settings(10_000, asked), Ok(wanted), "{asked}");
        }
        for none in ["0", "0ticks", "0ms"] {
            assert_eq!(settings(10_000, none), Ok(None), "{none}");
        }
        assert_eq!(
            settings(1_000, "20ms"),
            Ok(Some(Duration::from_millis(20))),
            "at a shorter tick"
        );
    }

    #[test]
    fn what_is_out_of_the_limits_is_refused_with_them_and_a_remedy() {
        for (asked, told) in [
            (
                "2",
                "--threshold 2ticks is 2 ticks of 10.0 ms, below the least, 3",
            ),
            ("1tick", "below the least, 3"),
            ("29ms", "--threshold 29.0 ms is 2 ticks of 10.0 ms, below"),
            ("63", "above the most, 62"),
            ("621ms", "above the most, 62"),
            ("1h", "above the most, 62"),
        ] {
            let error = settings(10_000, asked).expect_err(asked).to_string();
            assert!(error.contains(told), "{asked}: {error}");
        }
        let error = settings(50, "10").expect_err("too short").to_string();
        assert!(
            error.contains("--tick 50.0 us is outside of 100us to 10ms"),
            "{error}"
        );
        let error = "ten".parse::<Threshold>().expect_err("no number");
        assert!(error.contains("for example 10ticks"), "{error}");
    }

    #[test]
    fn levels_are_aixs() {
        for (level, ms) in [
            (Level::Minimal, 500),
            (Level::Normal, 100),
            (Level::Detail, 40),
        ] {
            let cpus = "0".parse().expect("a list");
            let settings = Settings::new(cpus, DEFAULT_TICK, level, None).expect("settings");
            assert_eq!(settings.threshold, Some(Duration::from_millis(ms)));
        }
    }
}
