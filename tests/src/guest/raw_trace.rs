//! The kernel's own record of what is mapped and unmapped: its trace buffer, read whole.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::state::TRACING;

/// Room for each CPU's events: a hundred thousand.
const BUFFER_KB: &str = "8192";

/// What maps or unmaps come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// How many.
    pub(super) count: u64,
    /// Sum of the sizes that were asked for.
    pub(super) asked_bytes: u64,
    /// Of maps the same; of unmaps the sum of what the kernel said was unmapped.
    pub(super) bytes: u64,
    /// How many of each size that was asked for.
    pub(super) by_size: BTreeMap<u64, u64>,
    /// How many on each CPU.
    pub(super) by_cpu: BTreeMap<u32, u64>,
}

/// All that was traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traced {
    /// Events `iommu:map`.
    pub(super) maps: Sums,
    /// Events `iommu:unmap`.
    pub(super) unmaps: Sums,
}

/// A trace of its own, under way. Dropped, it is gone.
pub(super) struct RawTrace(PathBuf);

impl RawTrace {
    /// Starts one.
    ///
    /// # Panics
    /// When the kernel does not have it.
    #[track_caller]
    pub(super) fn start() -> Self {
        let trace = Self(Path::new(TRACING).join("instances/raw"));
        fs::create_dir(&trace.0).expect("an instance");
        trace.write("buffer_size_kb", BUFFER_KB);
        for event in ["map", "unmap"] {
            trace.write(&format!("events/iommu/{event}/enable"), "1");
        }
        trace
    }

    /// Stops it; what it holds.
    ///
    /// # Panics
    /// When it lost an event, or has one that cannot be read.
    #[track_caller]
    pub(super) fn stop(self) -> Traced {
        self.write("tracing_on", "0");
        for entry in fs::read_dir(self.0.join("per_cpu")).expect("per_cpu") {
            let file = entry.expect("an entry").path().join("stats");
            let stats = fs::read_to_string(&file).expect("stats");
            for lost in ["overrun: ", "dropped events: "] {
                let line = stats.lines().find_map(|line| line.strip_prefix(lost));
                assert_eq!(line, Some("0"), "{}: {stats}", file.display());
            }
        }
        let text = fs::read_to_string(self.0.join("trace")).expect("the trace");
        let mut traced = Traced::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            traced
                .add(line)
                .unwrap_or_else(|| panic!("not understood: {line}"));
        }
        traced
    }

    #[track_caller]
    fn write(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for RawTrace {
    fn drop(&mut self) {
        // What fails to go shows in the next one.
        let _removed = fs::remove_dir(&self.0);
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.asked_bytes += other.asked_bytes;
        self.bytes += other.bytes;
        for (size, count) in &other.by_size {
            *self.by_size.entry(*size).or_default() += count;
        }
        for (cpu, count) in &other.by_cpu {
            *self.by_cpu.entry(*cpu).or_default() += count;
        }
    }
}

impl Traced {
    /// Both together.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.maps.add(&other.maps);
        self.unmaps.add(&other.unmaps);
        self
    }

    /// Takes in `TASK-PID [CPU] FLAGS TIME: map: IOMMU: iova=... size=N` or `unmap: ... size=N unmapped_size=N`
    /// (`include/trace/events/iommu.h`).
    fn add(&mut self, line: &str) -> Option<()> {
        let (before, fields) = line.split_once(": IOMMU: ")?;
        let number = |key: &str| {
            fields
                .split_whitespace()
                .find_map(|field| field.strip_prefix(key)?.parse::<u64>().ok())
        };
        let (_, cpu) = before.split_once('[')?;
        let cpu = cpu.split_once(']')?.0.parse().ok()?;
        let asked = number("size=")?;
        let (sums, bytes) = match before.rsplit_once(": ")?.1 {
            "map" => (&mut self.maps, asked),
            "unmap" => (&mut self.unmaps, number("unmapped_size=")?),
            _ => return None,
        };
        sums.count += 1;
        sums.asked_bytes += asked;
        sums.bytes += bytes;
        *sums.by_size.entry(asked).or_default() += 1;
        *sums.by_cpu.entry(cpu).or_default() += 1;
        Some(())
    }
}

/// What is traced while `does` runs.
#[track_caller]
pub(super) fn traced<T>(does: impl FnOnce() -> T) -> (T, Traced) {
    let trace = RawTrace::start();
    let result = does();
    (result, trace.stop())
}
