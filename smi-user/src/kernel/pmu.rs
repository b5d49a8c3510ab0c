//! What can count events (`/sys/bus/event_source/devices`, `perf_event_open(2)`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::perf::{self, PerfError};

/// Where the kernel lists them.
const DEVICES: &str = "/sys/bus/event_source/devices";

/// The names of all units, sorted.
///
/// # Errors
/// When the folder cannot be read: a kernel without perf events has none.
pub fn all() -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(DEVICES)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// A file of a unit: an attribute or, below `events/`, an event.
pub fn path(pmu: &str, file: &str) -> PathBuf {
    Path::new(DEVICES).join(pmu).join(file)
}

/// The trimmed contents of such a file; `None` where it is not there or cannot be read.
pub fn read(pmu: &str, file: &str) -> Option<String> {
    fs::read_to_string(path(pmu, file))
        .ok()
        .map(|text| text.trim().to_owned())
}

/// Whether the unit lets this process count `event`, a single `event=` number, on `cpu`.
///
/// # Errors
/// `ENOENT` where the unit has no such event, else what the system said.
pub fn try_event(pmu: &str, event: &str, cpu: u32) -> Result<(), PerfError> {
    let number = |text: Option<String>, prefix: &str| {
        let text = text?;
        let digits = text.strip_prefix(prefix)?;
        match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        }
    };
    let kind = number(read(pmu, "type"), "").and_then(|kind| u32::try_from(kind).ok());
    let config = number(read(pmu, &format!("events/{event}")), "event=");
    match (kind, config) {
        (Some(kind), Some(config)) => perf::try_count(kind, config, cpu),
        _ => Err(PerfError {
            call: "finding the event",
            source: io::Error::from_raw_os_error(libc::ENOENT),
        }),
    }
}
