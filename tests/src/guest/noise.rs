//! The osnoise tracer as it runs without smilat, and its own account of each window.

use std::{fs, path::Path, time::Duration};

use super::{instance::Instance, state::TRACING};

/// One window, as the tracer's record of it tells (`trace_osnoise_print` in `kernel/trace/trace_output.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Time sampled.
    pub(super) runtime_ns: u64,
    /// Steps above the threshold that nothing of the kernel's explains: with interrupts off, all of them.
    pub(super) gaps: u64,
}

impl Window {
    /// Of the line `TASK CPU FLAGS TIME: RUNTIME NOISE AVAILABLE MAX HW NMI IRQ SOFTIRQ THREAD`.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.rsplit_once(": ")?.1.split_whitespace().collect();
        let [runtime_us, _, _, _, gaps, ..] = words[..] else {
            return None;
        };
        Some(Self {
            runtime_ns: runtime_us.parse::<u64>().ok()? * 1_000,
            gaps: gaps.parse().ok()?,
        })
    }
}

/// The windows that the tracer recorded in an instance, the first one first.
///
/// # Panics
/// When there is something else.
#[track_caller]
pub(super) fn windows(instance: &Path) -> Vec<Window> {
    let trace = fs::read_to_string(instance.join("trace")).expect("trace");
    let lines = trace.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| Window::parse(line).unwrap_or_else(|| panic!("no window: {line}")))
        .collect()
}

/// Gaps of all of these.
pub(super) fn gaps(windows: &[Window]) -> u64 {
    windows.iter().map(|window| window.gaps).sum()
}

/// Time sampled in all of these.
pub(super) fn runtime_ns(windows: &[Window]) -> u64 {
    windows.iter().map(|window| window.runtime_ns).sum()
}

/// Has osnoise sample CPU 0 for `width` of each `window`, with interrupts off, and take each step of 1 us for a gap.
///
/// # Panics
/// When the kernel refuses.
#[track_caller]
pub(super) fn set(width: Duration, window: Duration) {
    let us = |time: Duration| time.as_micros().to_string();
    for (file, value) in [
        ("tracing_thresh", "1"),
        ("osnoise/options", "OSNOISE_IRQ_DISABLE"),
        ("osnoise/cpus", "0"),
        ("osnoise/runtime_us", &us(width)),
        ("osnoise/period_us", &us(window)),
    ] {
        fs::write(Path::new(TRACING).join(file), value)
            .unwrap_or_else(|error| panic!("{file} = {value}: {error}"));
    }
}

/// Has the tracer run; it begins with a window. Dropped, it ends.
///
/// # Panics
/// When the kernel refuses.
#[track_caller]
pub(super) fn start() -> Instance {
    let instance = Instance::make("noise", &[]);
    fs::write(instance.path().join("current_tracer"), "osnoise").expect("osnoise");
    instance
}
