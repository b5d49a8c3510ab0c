//! What the kernel's own trace buffer holds of the IOMMU: read without taking it out.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use super::tracefs::TracefsError;
use crate::model::iommu_boot::BootWhat;

/// Events kept at most: other people may have traced for long.
const MOST: usize = 100_000;

/// An event of the IOMMU's groups and domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// By the trace's clock: since boot, unless somebody set another.
    pub time: Duration,
    /// What happened.
    pub what: BootWhat,
}

/// What the buffer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceBuffer {
    /// The events of groups and domains, in the order of the file.
    pub events: Vec<Traced>,
    /// Events of whatever kind that newer ones were written over.
    pub lost: u64,
}

/// Reads it; `tracing` is where the tracing file system is mounted.
///
/// # Errors
/// When it cannot be read.
pub fn read(tracing: &Path) -> Result<TraceBuffer, TracefsError> {
    // `trace_pipe` would take the events away from everybody else.
    let path = tracing.join("trace");
    let failed = |source| TracefsError::Read {
        path: path.clone(),
        source,
    };
    let file = File::open(&path).map_err(failed)?;
    let mut lines = BufReader::new(file);
    let mut buffer = TraceBuffer::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(buffer);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if let Some(lost) = overwritten(text) {
            buffer.lost += lost;
        } else if let Some(event) = event(text) {
            if buffer.events.len() < MOST {
                buffer.events.push(event);
            } else {
                buffer.lost += 1;
            }
        }
    }
}

/// Reads `# entries-in-buffer/entries-written: 205/211   #P:2`, the difference of which newer ones were written over.
fn overwritten(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("# entries-in-buffer/entries-written:")?;
    let (there, written) = rest.split_whitespace().next()?.split_once('/')?;
    let there: u64 = there.parse().ok()?;
    Some(written.parse::<u64>().ok()?.saturating_sub(there))
}

/// Reads `swapper/0-1 [000] .....  0.512345: add_device_to_group: IOMMU: groupID=0 device=0000:00:00.0`
/// (`include/trace/events/iommu.h`). Maps, unmaps and faults are left out.
fn event(line: &str) -> Option<Traced> {
    let (head, fields) = line.rsplit_once(": IOMMU: ")?;
    let (head, name) = head.rsplit_once(": ")?;
    let seconds = head.rsplit(' ').next()?;
    let field = |key: &str| {
        let rest = fields.split_once(key)?.1;
        rest.split_whitespace().next()
    };
    let device = field("device=")?.to_owned();
    let group = || field("groupID=")?.parse().ok();
    let what = match name {
        "add_device_to_group" => BootWhat::Added {
            device,
            group: group()?,
        },
        "remove_device_from_group" => BootWhat::Removed {
            device,
            group: group(),
        },
        "attach_device_to_domain" => BootWhat::Attached { device },
        "detach_device_from_domain" => BootWhat::Detached { device },
        _ => return None,
    };
    Some(Traced {
        time: time(seconds)?,
        what,
    })
}

/// Reads `12.345678`, exactly.
fn time(seconds: &str) -> Option<Duration> {
    let (whole, part) = seconds.split_once('.')?;
    if part.is_empty() || part.len() > 9 {
        return None;
    }
    let ns: u32 = format!("{part:0<9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, ns))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The shape of `trace` of Linux 6.12 booted with `trace_event=iommu`, with a name that has a colon and spaces.
    const TRACE: &str = "# tracer: nop\n\
        #\n\
        # entries-in-buffer/entries-written: 6/9   #P:2\n\
        #\n\
        #           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n\
        #              | |         |   |||||     |         |\n\
        \x20      swapper/0-1       [000] .....     0.512345: add_device_to_group: IOMMU: groupID=3 device=0000:00:03.0\n\
        \x20      swapper/0-1       [000] .....     0.512400: attach_device_to_domain: IOMMU: device=0000:00:03.0\n\
        \x20  my: IOMMU: x-77       [001] d..1.    12.000001: map: IOMMU: iova=0x00000000fffff000 - 0x0000000100000000 paddr=0x0000000001000000 size=4096\n\
        CPU:1 [LOST 3 EVENTS]\n\
        \x20  my: IOMMU: x-77       [001] .....    12.5: detach_device_from_domain: IOMMU: device=0000:00:03.0\n\
        \x20         rmmod-80       [001] .....    13.000000: remove_device_from_group: IOMMU: groupID=3 device=0000:00:03.0\n\
        \x20         other-80       [001] .....    13.000000: sched_switch: prev_comm=a\n";

    #[test]
    fn events_of_groups_and_domains_are_picked_out_and_what_is_lost_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("trace"), TRACE).expect("write");
        let buffer = read(folder.path()).expect("a trace");
        let device = || "0000:00:03.0".to_owned();
        let at = |ns, what| Traced {
            time: Duration::from_nanos(ns),
            what,
        };
        assert_eq!(
            buffer.events,
            [
                at(
                    512_345_000,
                    BootWhat::Added {
                        device: device(),
                        group: 3
                    }
                ),
                at(512_400_000, BootWhat::Attached { device: device() }),
                at(12_500_000_000, BootWhat::Detached { device: device() }),
                at(
                    13_000_000_000,
                    BootWhat::Removed {
                        device: device(),
                        group: Some(3)
                    }
                ),
            ]
        );
        assert_eq!(buffer.lost, 3, "not twice");
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = read(folder.path()).expect_err("no trace").to_string();
        assert!(error.ends_with("/trace"), "{error}");
    }

    #[test]
    fn times_are_exact() {
        assert_eq!(time("0.000001"), Some(Duration::from_micros(1)));
        for other in ["12", "12.", "x.1", "1.0123456789"] {
            assert_eq!(time(other), None, "{other}");
        }
    }
}
