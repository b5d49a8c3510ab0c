//! What a detector is asked to do, checked.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    kernel::cpus::{CpuList, CpuListError},
    units::show,
};

/// Longest stretch with interrupts off that can be asked for.
pub const MAX_STRETCH: Duration = Duration::from_nanos(smi_common::MAX_STRETCH_NS);
/// Shortest: below it the timer that starts stretches would fire without pause.
pub const MIN_STRETCH: Duration = Duration::from_micros(10);
/// Share of its time a watched CPU may spend sampling unless forced. The sampling threads have a real-time priority,
/// and the kernel itself lets real-time threads have 95 % (`kernel.sched_rt_runtime_us`).
pub const MAX_DUTY: f64 = 0.9;
/// Longest window.
pub const MAX_WINDOW: Duration = Duration::from_hours(24);
/// Longest width unless forced: other threads of the CPU wait as long.
pub const MAX_WIDTH: Duration = Duration::from_secs(1);

/// Which CPUs are sampled at a time: hwlat's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One thread, where the scheduler puts it
    None,
    /// One thread, on the next CPU of the list for each window
    RoundRobin,
    /// One thread for each CPU of the list
    PerCpu,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::RoundRobin => "round-robin",
            Self::PerCpu => "per-cpu",
        })
    }
}

/// Settings that fit a kind of machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// 1 ms of every 100 ms, one CPU after another: for machines at work
    #[default]
    Busy,
    /// 50 ms of every 100 ms on every CPU, interrupts off 1 ms at a time: for machines that can spare half
    Idle,
    /// 80 ms of every 100 ms on every CPU, interrupts off 10 ms at a time: for machines that do nothing else
    Thorough,
}

/// What a preset decides, and each option may overrule.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Time spent sampling in a window.
    pub width: Duration,
    /// From one window to the next, on average.
    pub window: Duration,
    /// Longest stretch with interrupts off.
    pub irqs_off_max: Duration,
    /// Which CPUs at a time.
    pub mode: Mode,
}

impl Preset {
    /// The settings behind the name.
    pub const fn defaults(self) -> Defaults {
        let window = Duration::from_millis(100);
        match self {
            Self::Busy => Defaults {
                width: Duration::from_millis(1),
                window,
                irqs_off_max: Duration::from_millis(1),
                mode: Mode::RoundRobin,
            },
            Self::Idle => Defaults {
                width: Duration::from_millis(50),
                window,
                irqs_off_max: Duration::from_millis(1),
                mode: Mode::PerCpu,
            },
            Self::Thorough => Defaults {
                width: Duration::from_millis(80),
                window,
                irqs_off_max: Duration::from_millis(10),
                mode: Mode::PerCpu,
            },
        }
    }
}

/// What a detector is asked to do. Made by [`Settings::check`] only, so every value in it is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// A gap shorter than this is dropped in the kernel.
    pub threshold: Duration,
    /// Time spent sampling in a window.
    pub width: Duration,
    /// From one window to the next, on average.
    pub window: Duration,
    /// Longest stretch with interrupts off.
    pub irqs_off_max: Duration,
    /// Which CPUs at a time.
    pub mode: Mode,
    /// The CPUs to watch.
    pub cpus: CpuList,
    /// Real-time priority (`SCHED_FIFO`) of the sampling threads; 0 for none.
    pub rt_priority: u8,
    /// Single gaps passed on, per CPU and second.
    pub records_per_s: u64,
}

/// As [`Settings`], not yet checked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// See [`Settings::threshold`].
    pub threshold: Duration,
    /// See [`Settings::width`].
    pub width: Duration,
    /// See [`Settings::window`].
    pub window: Duration,
    /// See [`Settings::irqs_off_max`].
    pub irqs_off_max: Duration,
    /// See [`Settings::mode`].
    pub mode: Mode,
    /// See [`Settings::cpus`]; all that are online when `None`.
    pub cpus: Option<CpuList>,
    /// See [`Settings::rt_priority`].
    pub rt_priority: u8,
    /// See [`Settings::records_per_s`].
    pub records_per_s: u64,
    /// Accept settings that leave a watched CPU little time for anything else.
    pub force: bool,
}

/// Settings that make no sense or would stall the machine.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// Nothing would be dropped.
    #[error(
        "--threshold 0 would count every reading of the clock as a gap; give at least 1ns, or 10us as hwlat does"
    )]
    ThresholdZero,
    /// Nothing would be seen.
    #[error("--threshold {} is above --width {}: no gap that long fits a window; lower the threshold or raise the width", show(*.threshold), show(*.width))]
    ThresholdAboveWidth {
        /// As asked.
        threshold: Duration,
        /// As asked.
        width: Duration,
    },
    /// No time to sample in.
    #[error("--width {} leaves no time to sample in; give at least {}", show(*.0), show(MIN_STRETCH))]
    WidthTooShort(Duration),
    /// Windows too far apart.
    #[error("--window {} is above a day: such a run would see next to nothing; shorten it", show(*.0))]
    WindowTooLong(Duration),
    /// No time left in the window.
    #[error("--width {} must be below --window {}: the rest of the window is what the CPU has for its other work", show(*.width), show(*.window))]
    WidthNotBelowWindow {
        /// As asked.
        width: Duration,
        /// As asked.
        window: Duration,
    },
    /// Interrupts would be off too long or hardly at all.
    #[error("--irqs-off-max {} is outside {} to {}: every interrupt of the CPU waits as long, and a shorter stretch would be all overhead", show(*.0), show(MIN_STRETCH), show(MAX_STRETCH))]
    StretchOutside(Duration),
    /// The machine would stall.
    #[error("--width {} of --window {} takes {:.0} % of a watched CPU, more than the {:.0} % that leave it usable; lower the width or raise the window, or insist with --force", show(*.width), show(*.window), .duty * 100.0, MAX_DUTY * 100.0)]
    DutyTooHigh {
        /// As asked.
        width: Duration,
        /// As asked.
        window: Duration,
        /// Their ratio.
        duty: f64,
    },
    /// Other threads would wait too long.
    #[error("--width {} keeps other threads off a watched CPU for longer than {}; lower it (a shorter window keeps the duty), or insist with --force", show(*.0), show(MAX_WIDTH))]
    WidthTooLong(Duration),
    /// Not a CPU list, or CPUs that are not there.
    #[error(transparent)]
    Cpus(#[from] CpuListError),
}

impl Settings {
    /// Checks `wanted` against itself, the CPUs that are `online`, and those of them that the process is `allowed`.
    ///
    /// # Errors
    /// Names the value that is wrong, its limit and what to do.
    pub fn check(
        wanted: Wanted,
        online: &CpuList,
        allowed: &CpuList,
    ) -> Result<Self, SettingsError> {
        let Wanted {
            threshold,
            width,
            window,
            irqs_off_max,
            mode,
            cpus,
            rt_priority,
            records_per_s,
            force,
        } = wanted;
        if threshold.is_zero() {
            return Err(SettingsError::ThresholdZero);
        }
        if width < MIN_STRETCH {
            return Err(SettingsError::WidthTooShort(width));
        }
        if window > MAX_WINDOW {
            return Err(SettingsError::WindowTooLong(window));
        }
        if width >= window {
            return Err(SettingsError::WidthNotBelowWindow { width, window });
        }
        if threshold > width {
            return Err(SettingsError::ThresholdAboveWidth { threshold, width });
        }
        if !(MIN_STRETCH..=MAX_STRETCH).contains(&irqs_off_max) {
            return Err(SettingsError::StretchOutside(irqs_off_max));
        }
        let duty = width.div_duration_f64(window);
        if !force && duty > MAX_DUTY {
            return Err(SettingsError::DutyTooHigh {
                width,
                window,
                duty,
            });
        }
        if !force && width > MAX_WIDTH {
            return Err(SettingsError::WidthTooLong(width));
        }
        let cpus = match cpus {
            Some(cpus) => {
                cpus.check_within(online, allowed)?;
                cpus
            }
            None => allowed.clone(),
        };
        Ok(Self {
            threshold,
            width,
            window,
            irqs_off_max,
            mode,
            cpus,
            rt_priority,
            records_per_s,
        })
    }

    /// Share of its time that a watched CPU spends sampling, on average.
    pub fn duty_per_cpu(&self) -> f64 {
        let duty = self.width.div_duration_f64(self.window);
        match self.mode {
            Mode::PerCpu => duty,
            Mode::RoundRobin | Mode::None => duty / self.cpus.len() as f64,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    pub(crate) fn wanted() -> Wanted {
        Wanted {
            threshold: Duration::from_micros(10),
            width: ms(50),
            window: ms(100),
            irqs_off_max: ms(1),
            mode: Mode::PerCpu,
            cpus: None,
            rt_priority: 1,
            records_per_s: 100,
            force: false,
        }
    }

    fn online() -> CpuList {
        "0-3".parse().expect("list")
    }

    #[track_caller]
    fn refused(wanted: Wanted, told: &str) {
        let error = Settings::check(wanted, &online(), &online())
            .expect_err("refused")
            .to_string();
        assert!(error.contains(told), "{error}");
    }

    #[test]
    fn sound_settings_are_kept_and_all_online_cpus_are_the_default() {
        let settings = Settings::check(wanted(), &online(), &online()).expect("sound");
        assert_eq!(settings.cpus, online());
        assert_eq!(settings.threshold, Duration::from_micros(10));
    }

    #[test]
    fn every_preset_is_sound() {
        for preset in Preset::value_variants() {
            let Defaults {
                width,
                window,
                irqs_off_max,
                mode,
            } = preset.defaults();
            let wanted = Wanted {
                width,
                window,
                irqs_off_max,
                mode,
                ..wanted()
            };
            Settings::check(wanted, &online(), &online()).expect("sound");
        }
    }

    #[test]
    fn senseless_settings_are_refused_with_value_limit_and_remedy() {
        let zero = Duration::ZERO;
        refused(
            Wanted {
                threshold: zero,
                ..wanted()
            },
            "--threshold 0 would count every reading",
        );
        refused(
            Wanted {
                threshold: ms(51),
                ..wanted()
            },
            "--threshold 51.0 ms is above --width 50.0 ms",
        );
        refused(
            Wanted {
                width: zero,
                ..wanted()
            },
            "--width 0 ns leaves no time",
        );
        refused(
            Wanted {
                width: ms(100),
                ..wanted()
            },
            "--width 100 ms must be below --window 100 ms",
        );
        refused(
            Wanted {
                window: Duration::from_hours(25),
                ..wanted()
            },
            "is above a day",
        );
        for stretch in [
            Duration::from_nanos(9_999),
            Duration::from_nanos(100_000_001),
        ] {
            refused(
                Wanted {
                    irqs_off_max: stretch,
                    ..wanted()
                },
                "is outside 10.0 us to 100 ms",
            );
        }
        refused(
            Wanted {
                cpus: Some("2-5".parse().expect("list")),
                ..wanted()
            },
            "CPU 4-5 is not online (online: 0-3)",
        );
    }

    #[test]
    fn what_would_stall_the_machine_is_refused_unless_forced() {
        let greedy = Wanted {
            width: ms(91),
            ..wanted()
        };
        refused(
            greedy.clone(),
            "takes 91 % of a watched CPU, more than the 90 %",
        );
        let long = Wanted {
            width: ms(1001),
            window: ms(10_000),
            ..wanted()
        };
        refused(long.clone(), "keeps other threads off a watched CPU");
        for wanted in [greedy, long] {
            let forced = Wanted {
                force: true,
                ..wanted
            };
            Settings::check(forced, &online(), &online()).expect("forced");
        }
    }

    #[test]
    fn the_duty_is_shared_by_the_cpus_that_take_turns() {
        let duty = |mode| {
            let wanted = Wanted { mode, ..wanted() };
            let settings = Settings::check(wanted, &online(), &online()).expect("sound");
            (settings.duty_per_cpu() * 1000.0).round() / 1000.0
        };
        assert_eq!(duty(Mode::PerCpu).to_string(), "0.5");
        assert_eq!(duty(Mode::RoundRobin).to_string(), "0.125");
        assert_eq!(duty(Mode::None).to_string(), "0.125");
    }
}
