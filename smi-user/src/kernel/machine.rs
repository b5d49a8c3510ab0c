//! How time passes on this machine: clock source, idle states, frequencies, layout of the CPUs, time taken by a
//! hypervisor (`/sys/devices/system`, `/proc/stat`).

use std::{
    fs,
    path::{Path, PathBuf},
};

const SYSTEM: &str = "/sys/devices/system";

/// A file under `/sys/devices/system`, trimmed; `None` where it is not there or cannot be read.
pub fn read(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(SYSTEM).join(file))
        .ok()
        .map(|text| text.trim().to_owned())
}

/// The clock source in use and those on offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSource {
    /// In use.
    pub current: String,
    /// On offer, the best first.
    pub available: Vec<String>,
}

/// The clock source; `None` where it cannot be read.
pub fn clock_source() -> Option<ClockSource> {
    let file = |name: &str| read(&format!("clocksource/clocksource0/{name}_clocksource"));
    Some(ClockSource {
        current: file("current")?,
        available: file("available")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    })
}

/// A state a CPU sleeps in when idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleState {
    /// Its name.
    pub name: String,
    /// Longest time it takes to wake up from it, in us.
    pub latency_us: u64,
    /// Whether it may be used.
    pub enabled: bool,
}

/// The idle states of `cpu`, the shallowest first; none where the kernel does not choose them.
pub fn idle_states(cpu: u32) -> Vec<IdleState> {
    idle_states_in(&Path::new(SYSTEM).join(format!("cpu/cpu{cpu}/cpuidle")))
}

fn idle_states_in(folder: &Path) -> Vec<IdleState> {
    (0..)
        .map_while(|number| {
            let file = |name: &str| {
                fs::read_to_string(folder.join(format!("state{number}")).join(name))
                    .ok()
                    .map(|text| text.trim().to_owned())
            };
            Some(IdleState {
                name: file("name")?,
                latency_us: file("latency")?.parse().ok()?,
                enabled: file("disable")? == "0",
            })
        })
        .collect()
}

/// How the frequency of some CPUs is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// What chooses it.
    pub governor: String,
    /// Lowest, in kHz.
    pub min_khz: u64,
    /// Highest, in kHz.
    pub max_khz: u64,
}

/// The frequencies, one for each group of CPUs that share theirs; none where the kernel does not choose them.
pub fn frequencies() -> Vec<Frequency> {
    let folder = Path::new(SYSTEM).join("cpu/cpufreq");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut policies: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    policies.sort();
    policies
        .iter()
        .filter_map(|policy| {
            let file = |name: &str| fs::read_to_string(policy.join(name)).ok();
            Some(Frequency {
                governor: file("scaling_governor")?.trim().to_owned(),
                min_khz: file("scaling_min_freq")?.trim().parse().ok()?,
                max_khz: file("scaling_max_freq")?.trim().parse().ok()?,
            })
        })
        .collect()
}

/// Time the hypervisor admits to have taken since boot, all CPUs together, in ticks of 10 ms (`proc_stat(5)`, `steal`).
pub fn steal_ticks() -> Option<u64> {
    steal_of(&fs::read_to_string("/proc/stat").ok()?)
}

fn steal_of(stat: &str) -> Option<u64> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    all.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number() {
        let stat =
            "cpu  430955 163441 84814 419518 7061 0 709 29674 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(steal_of(stat), Some(29674));
        assert_eq!(steal_of("intr 1\n"), None);
    }

    #[test]
    fn idle_states_are_read_in_order() {
        let dir = tempfile::tempdir().expect("folder");
        for (number, name, latency, disable) in [
            (0, "POLL", "0", "0"),
            (1, "C1", "2", "0"),
            (2, "C6", "133", "1"),
        ] {
            let state = dir.path().join(format!("state{number}"));
            fs::create_dir(&state).expect("create");
            for (file, value) in [("name", name), ("latency", latency), ("disable", disable)] {
                fs::write(state.join(file), format!("{value}\n")).expect("write");
            }
        }
        let states = idle_states_in(dir.path());
        assert_eq!(states.len(), 3);
        assert_eq!((states[2].latency_us, states[2].enabled), (133, false));
        assert!(idle_states_in(&dir.path().join("absent")).is_empty());
    }
}
