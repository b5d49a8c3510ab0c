//! What the kernel says of its PMUs (`/sys/bus/event_source/devices`,
//! `Documentation/ABI/testing/sysfs-bus-event_source-devices-*`): their numbers, events, and how these are encoded.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Where the kernel lists its PMUs.
pub const DEVICES: &str = "/sys/bus/event_source/devices";

/// The names of all PMUs, sorted.
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

/// What the file `name` of the PMU `pmu` says; `None` where there is none.
pub fn attribute(pmu: &str, name: &str) -> Option<String> {
    read(&Path::new(DEVICES).join(pmu).join(name)).ok()
}

/// An event as `perf_event_open(2)` wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `type` of the attributes.
    pub pmu_type: u32,
    /// `config` of the attributes.
    pub config: u64,
}

/// Why an event could not be made out.
#[derive(Debug, Error)]
pub enum PmuError {
    /// A file of the PMU's could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file says something else than expected.
    #[error("{path} reads \"{text}\", not {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
        /// What should be.
        expected: &'static str,
    },
    /// A value does not fit where its format puts it.
    #[error("{term}={value:#x} does not fit the bits that {format} gives it")]
    TooWide {
        /// Name of the value.
        term: String,
        /// The value.
        value: u64,
        /// Its bits.
        format: String,
    },
}

/// The folder of a PMU.
#[derive(Clone, Debug)]
pub struct Pmu(PathBuf);

impl Pmu {
    /// The PMU of that name; `None` where there is none.
    pub fn find(name: &str) -> Option<Self> {
        Self::find_in(Path::new(DEVICES), name)
    }

    /// The same among the PMUs that `devices` lists.
    pub fn find_in(devices: &Path, name: &str) -> Option<Self> {
        let folder = devices.join(name);
        folder.is_dir().then_some(Self(folder))
    }

    /// Whether it names an event `name`.
    pub fn has(&self, name: &str) -> bool {
        self.0.join("events").join(name).is_file()
    }

    /// The event it names `name`.
    ///
    /// # Errors
    /// When it names none, or in a way that cannot be understood.
    pub fn event(&self, name: &str) -> Result<Event, PmuError> {
        let path = self.0.join("events").join(name);
        let text = read(&path)?;
        let terms = terms(&text).ok_or_else(|| PmuError::Malformed {
            path,
            text: text.clone(),
            expected: "terms such as event=0x04,umask=0x01",
        })?;
        self.encode(&terms)
    }

    /// The event of these terms, for example `event` and `umask`.
    ///
    /// # Errors
    /// When the PMU has no such terms, or a value is too wide for its own.
    pub fn encode(&self, terms: &[(&str, u64)]) -> Result<Event, PmuError> {
        let path = self.0.join("type");
        let text = read(&path)?;
        let pmu_type = text.parse().map_err(|_| PmuError::Malformed {
            path,
            text,
            expected: "a number",
        })?;
        let mut config = 0;
        for (term, value) in terms {
            let path = self.0.join("format").join(term);
            let format = read(&path)?;
            let bits = bits(&format).ok_or_else(|| PmuError::Malformed {
                path,
                text: format.clone(),
                expected: "bits of config such as config:0-7,32-35",
            })?;
            config |= place(*value, &bits).ok_or_else(|| PmuError::TooWide {
                term: (*term).to_owned(),
                value: *value,
                format,
            })?;
        }
        Ok(Event { pmu_type, config })
    }
}

fn read(path: &Path) -> Result<String, PmuError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(PmuError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Terms of an event; one without a value stands for 1.
fn terms(text: &str) -> Option<Vec<(&str, u64)>> {
    text.split(',')
        .map(|term| match term.split_once('=') {
            None if term.is_empty() => None,
            None => Some((term, 1)),
            Some((name, value)) => Some((name, number(value)?)),
        })
        .collect()
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// First and last bit of each range, the least significant part of the value first.
fn bits(format: &str) -> Option<Vec<(u32, u32)>> {
    format
        .strip_prefix("config:")?
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last && last < u64::BITS).then_some((first, last))
        })
        .collect()
}

/// Puts the value where its format wants it; `None` when bits are left over.
fn place(value: u64, bits: &[(u32, u32)]) -> Option<u64> {
    let mut left = value;
    let mut config = 0;
    for (first, last) in bits {
        let width = last - first + 1;
        let mask = u64::MAX >> (u64::BITS - width);
        config |= (left & mask) << first;
        left = left.checked_shr(width).unwrap_or(0);
    }
    (left == 0).then_some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PMU with the given files, as captured.
    fn pmu(files: &[(&str, &str)]) -> (tempfile::TempDir, Pmu) {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("written");
        }
        let pmu = Pmu(folder.path().to_owned());
        (folder, pmu)
    }

    #[test]
    fn the_smi_event_of_the_msr_pmu_is_number_4() {
        // Captured on 6.18.
        let (_folder, pmu) = pmu(&[
            ("type", "10\n"),
            ("events/smi", "event=0x04\n"),
            ("format/event", "config:0-63\n"),
        ]);
        assert!(pmu.has("smi") && !pmu.has("aperf"));
        let event = pmu.event("smi").expect("an event");
        assert_eq!(
            event,
            Event {
                pmu_type: 10,
                config: 4
            }
        );
    }

    #[test]
    fn amds_format_splits_the_event_number() {
        // `arch/x86/events/amd/core.c`: PMU_FORMAT_ATTR(event, "config:0-7,32-35").
        let (_folder, pmu) = pmu(&[
            ("type", "4\n"),
            ("format/event", "config:0-7,32-35\n"),
            ("format/umask", "config:8-15\n"),
        ]);
        let config = |event, umask| {
            pmu.encode(&[("event", event), ("umask", umask)])
                .map(|event| event.config)
        };
        assert_eq!(config(0x2b, 0).expect("fits"), 0x2b);
        assert_eq!(config(0x12b, 0xff).expect("fits"), 0x1_0000_ff2b);
        let error = config(0x1000, 0).expect_err("13 bits").to_string();
        assert!(
            error.contains("event=0x1000 does not fit") && error.contains("config:0-7,32-35"),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_or_malformed_is_named_with_its_file() {
        let (_folder, pmu) = pmu(&[
            ("type", "ten\n"),
            ("events/smi", "event=four\n"),
            ("format/event", "config1:0-63\n"),
        ]);
        for (error, told) in [
            (pmu.event("smi"), "events/smi reads \"event=four\""),
            (pmu.event("tsc"), "events/tsc"),
            (pmu.encode(&[]), "type reads \"ten\", not a number"),
        ] {
            let error = error.expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn formats_that_are_no_bits_of_config_are_not_understood() {
        assert_eq!(bits("config:0-63"), Some(vec![(0, 63)]));
        assert_eq!(bits("config:21"), Some(vec![(21, 21)]));
        for wrong in ["config1:0-7", "config:", "config:0-64", "config:7-0", "0-7"] {
            assert_eq!(bits(wrong), None, "{wrong}");
        }
    }
}
