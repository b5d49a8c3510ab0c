//! Perf events that count together on one CPU: all begin at the same time, and one reading has the counts of all.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _},
};

use super::{ATTR_SIZE, Attr, PerfError, failed, open_event};
use crate::kernel::pmu::Event;

/// Have `read(2)` on the first event give the counts of all (`include/uapi/linux/perf_event.h`), after how many they are,
/// how long they were enabled and how long they really counted.
const READ_FORMAT: u64 =
    PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING | PERF_FORMAT_GROUP;
const PERF_FORMAT_TOTAL_TIME_ENABLED: u64 = 1 << 0;
const PERF_FORMAT_TOTAL_TIME_RUNNING: u64 = 1 << 1;
const PERF_FORMAT_GROUP: u64 = 1 << 3;

/// `disabled` of the attributes: it counts only from [`ENABLE`] on.
const DISABLED: u64 = 1 << 0;
/// `PERF_EVENT_IOC_ENABLE`, `_IO('$', 0)`; of the first event, with all that count with it.
const ENABLE: libc::c_ulong = 0x2400;

/// Events of one CPU. Closing it frees the counters.
#[derive(Debug)]
pub struct CpuGroup {
    /// The first leads the others.
    events: Vec<File>,
}

/// One reading of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReading {
    /// Time since they were opened in ns; stands still once the CPU has gone offline.
    pub enabled_ns: u64,
    /// Time in ns for which they had hardware counters; less than `enabled_ns` when others took turns with them.
    pub running_ns: u64,
    /// Occurrences since then, in the order in which the events were given.
    pub counts: Vec<u64>,
}

impl CpuGroup {
    /// Counts `events` on `cpu` from now on.
    ///
    /// # Errors
    /// When the kernel refuses one of them: see [`super::count::CpuCount::open`]. `EINVAL` also when they cannot be
    /// counted at the same time.
    pub fn open(events: &[Event], cpu: u32) -> Result<Self, PerfError> {
        let any_thread = -1;
        let cpu = i32::try_from(cpu).unwrap_or(i32::MAX);
        let mut opened: Vec<File> = Vec::new();
        for event in events {
            let leader = opened.first();
            let attr = Attr {
                kind: event.pmu_type,
                size: ATTR_SIZE,
                config: event.config,
                read_format: READ_FORMAT,
                flags: if leader.is_none() { DISABLED } else { 0 },
                ..Attr::default()
            };
            let event = open_event(&attr, any_thread, cpu, leader.map(File::as_fd))?;
            opened.push(event.into());
        }
        if let Some(leader) = opened.first() {
            // SAFETY: the descriptor is open; the call takes no other argument.
            if unsafe { libc::ioctl(leader.as_raw_fd(), ENABLE, 0) } < 0 {
                return Err(failed("PERF_EVENT_IOC_ENABLE"));
            }
        }
        Ok(Self { events: opened })
    }

    /// Reads them.
    ///
    /// # Errors
    /// When the kernel refuses, or says that the events cannot be counted any more.
    pub fn read(&self) -> Result<GroupReading, PerfError> {
        let failed = |source| PerfError {
            call: "reading perf events",
            source,
        };
        let mut leader = self
            .events
            .first()
            .ok_or_else(|| failed(io::Error::other("there are none")))?;
        let mut bytes = vec![0; (3 + self.events.len()) * 8];
        let length = leader.read(&mut bytes).map_err(failed)?;
        of_bytes(&bytes[..length], self.events.len())
            .ok_or_else(|| failed(io::Error::other("the kernel has given up counting them")))
    }
}

/// A reading of `events` events.
fn of_bytes(bytes: &[u8], events: usize) -> Option<GroupReading> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_ne_bytes(*word));
    let (number, enabled_ns, running_ns) = (words.next()?, words.next()?, words.next()?);
    let counts: Vec<u64> = words.collect();
    (rest.is_empty() && number == events as u64 && counts.len() == events).then_some(GroupReading {
        enabled_ns,
        running_ns,
        counts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_number_enabled_running_and_counts() {
        let bytes: Vec<u8> = [3u64, 2_000, 1_500, 70, 1, 60]
            .into_iter()
            .flat_map(u64::to_ne_bytes)
            .collect();
        assert_eq!(
            of_bytes(&bytes, 3),
            Some(GroupReading {
                enabled_ns: 2_000,
                running_ns: 1_500,
                counts: vec![70, 1, 60],
            })
        );
        for (bytes, events) in [(&bytes[..40], 3), (&bytes[..], 2), (&[][..], 3)] {
            assert_eq!(of_bytes(bytes, events), None);
        }
    }
}
