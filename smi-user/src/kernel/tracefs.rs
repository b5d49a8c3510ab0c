//! The tracing file system (`Documentation/trace/ftrace.rst`): where it is, what tracers it offers, the layout of its
//! events.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Where it is mounted, newest convention first.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A file of the tracing file system that could not be used.
#[derive(Debug, Error)]
pub enum TracefsError {
    /// Reading failed.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write \"{value}\" to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// What the system said.
        source: io::Error,
    },
    /// An instance could not be removed.
    #[error("cannot remove {path}; does somebody have one of its files open?")]
    Remove {
        /// Its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel took a value and made another of it.
    #[error("{path} reads \"{found}\" after \"{wanted}\" was written")]
    NotTaken {
        /// The file.
        path: PathBuf,
        /// What was written.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// An event's description lacks a field.
    #[error("{path} has no field \"{field}\"")]
    NoField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
    },
}

/// The folder under which the tracing file system is mounted; `None` where it is not.
pub fn mounted() -> Option<PathBuf> {
    PLACES
        .iter()
        .map(PathBuf::from)
        .find(|place| place.join("available_tracers").is_file())
}

/// Whether the table of mounts (`/proc/self/mounts`) has it, which tells even those who may not read it.
pub fn in_mount_table() -> bool {
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| is_mounted_in(&mounts))
}

fn is_mounted_in(mounts: &str) -> bool {
    mounts
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some("tracefs"))
}

/// Whether the kernel has `event`, such as `sched/sched_switch`.
pub fn has_event(tracing: &Path, event: &str) -> bool {
    tracing.join("events").join(event).is_dir()
}

/// Where it can be mounted: the folder exists on every kernel that has it.
pub fn mount_point() -> &'static Path {
    Path::new(PLACES[0])
}

/// The contents of a file, to the byte.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String, TracefsError> {
    let read = || {
        let mut file = File::open(path)?;
        // Room to spare in every call: some files refuse a read that asks for less than they have
        // (`osnoise_cpus_read` in `kernel/trace/trace_osnoise.c`).
        let mut buffer = vec![0; 1 << 16];
        let mut text = Vec::new();
        loop {
            match file.read(&mut buffer)? {
                0 => return String::from_utf8(text).map_err(io::Error::other),
                length => text.extend_from_slice(&buffer[..length]),
            }
        }
    };
    read().map_err(|source| TracefsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Writes `value` into a file, with one system call, as these files need it.
///
/// # Errors
/// When the kernel refuses.
pub fn write(path: &Path, value: &str) -> Result<(), TracefsError> {
    fs::write(path, value).map_err(|source| TracefsError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Stops the tracer of an instance and removes the instance.
///
/// # Errors
/// When the kernel refuses: `EBUSY` while somebody has one of its files open.
pub fn remove_instance(instance: &Path) -> Result<(), TracefsError> {
    write(&instance.join("current_tracer"), "nop")?;
    fs::remove_dir(instance).map_err(|source| TracefsError::Remove {
        path: instance.to_owned(),
        source,
    })
}

/// Whether the kernel has `tracer`. The folder of a tracer's event proves nothing: it is there without it too.
///
/// # Errors
/// When the list cannot be read.
pub fn has_tracer(tracing: &Path, tracer: &str) -> Result<bool, TracefsError> {
    let tracers = read(&tracing.join("available_tracers"))?;
    Ok(tracers.split_whitespace().any(|name| name == tracer))
}

/// The word in brackets, as in `none [round-robin] per-cpu`.
pub fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word)
}

/// The layout of an event's records, from its `format` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    path: PathBuf,
    /// Number that marks the event's records (`common_type`).
    pub id: u16,
    fields: BTreeMap<String, Field>,
}

/// Place of a field in a record, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// From the start of the record.
    pub offset: u32,
    /// Its length.
    pub size: u32,
}

impl Format {
    /// Reads the format of `event`, such as `ftrace/hwlat`.
    ///
    /// # Errors
    /// When it cannot be read or has no number.
    pub fn of(tracing: &Path, event: &str) -> Result<Self, TracefsError> {
        let path = tracing.join("events").join(event).join("format");
        let text = read(&path)?;
        Self::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self, TracefsError> {
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("ID:")?.trim().parse().ok());
        let Some(id) = id else {
            return Err(TracefsError::NoField {
                path,
                field: "ID".to_owned(),
            });
        };
        let fields = text.lines().filter_map(parse_field).collect();
        Ok(Self { path, id, fields })
    }

    /// The place of `field`.
    ///
    /// # Errors
    /// When the event has no such field.
    pub fn field(&self, field: &str) -> Result<Field, TracefsError> {
        self.fields
            .get(field)
            .copied()
            .ok_or_else(|| TracefsError::NoField {
                path: self.path.clone(),
                field: field.to_owned(),
            })
    }
}

/// Reads `field:u64 duration;  offset:16;  size:8;  signed:0;`.
fn parse_field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let name = declaration.rsplit([' ', '*']).next()?;
    let name = name.split('[').next()?.to_owned();
    let mut number = |key: &str| {
        let value = parts.next()?.strip_prefix(key)?;
        value.parse::<u32>().ok()
    };
    let offset = number("offset:")?;
    let size = number("size:")?;
    Some((name, Field { offset, size }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `events/ftrace/hwlat/format` of Linux 6.18.
    const HWLAT: &str = include_str!("testdata/hwlat-6.18.format");
    /// `events/sched/sched_switch/format` of Linux 6.18.
    const SWITCH: &str = include_str!("testdata/sched_switch-6.18.format");

    #[test]
    fn fields_are_found_by_name() {
        let format = Format::parse("hwlat".into(), HWLAT).expect("format");
        let at = |field| format.field(field).expect(field);
        assert_eq!(at("common_type"), Field { offset: 0, size: 2 });
        assert_eq!(at("duration"), Field { offset: 8, size: 8 });
        assert_eq!(
            at("outer_duration"),
            Field {
                offset: 16,
                size: 8
            }
        );
        assert_eq!(at("count").size, 4);
        let error = format.field("mode").expect_err("no such field").to_string();
        assert_eq!(error, "hwlat has no field \"mode\"");

        let format = Format::parse("switch".into(), SWITCH).expect("format");
        assert_eq!(
            format.field("prev_comm").expect("array"),
            Field {
                offset: 8,
                size: 16
            }
        );
        assert!(format.field("next_comm").expect("array").offset > 8);
    }

    #[test]
    fn a_mount_is_known_by_its_type() {
        let line = "tracefs /sys/kernel/tracing tracefs rw,nosuid 0 0\n";
        assert!(is_mounted_in(&format!("proc /proc proc rw 0 0\n{line}")));
        assert!(!is_mounted_in("tracefs /sys/kernel/tracing sysfs rw 0 0\n"));
    }

    #[test]
    fn the_chosen_word_stands_in_brackets() {
        assert_eq!(chosen("none [round-robin] per-cpu\n"), Some("round-robin"));
        assert_eq!(chosen("none\n"), None);
    }
}
