//! Perf events that count on one CPU, whatever runs there, and are never sampled.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd},
};

use super::{ATTR_SIZE, Attr, PerfError, open_event};
use crate::kernel::pmu::Event;

/// Have `read(2)` give, after the count, how long the event was enabled and how long it really counted.
const PERF_FORMAT_TOTAL_TIME_ENABLED: u64 = 1 << 0;
const PERF_FORMAT_TOTAL_TIME_RUNNING: u64 = 1 << 1;

/// A counting event of one CPU. Closing it frees the counter.
#[derive(Debug)]
pub struct CpuCount {
    event: File,
}

/// One reading of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Occurrences since the event was opened, as far as they were counted.
    pub count: u64,
    /// Time since then in ns, by the kernel's scheduler clock. It stands still once the CPU has gone offline: the kernel
    /// takes the event out for good and keeps answering with the last count (`perf_event_exit_cpu_context` in
    /// `kernel/events/core.c`).
    pub enabled_ns: u64,
    /// Time in ns for which the event had a hardware counter; less than `enabled_ns` when events shared one.
    pub running_ns: u64,
}

impl CpuCount {
    /// Counts `event` on `cpu` from now on.
    ///
    /// # Errors
    /// `EACCES` or `EPERM` without the privilege; `ENODEV` when the CPU is offline; `ENOENT` or `EINVAL` when the PMU
    /// has no such event.
    pub fn open(event: Event, cpu: u32) -> Result<Self, PerfError> {
        let attr = Attr {
            kind: event.pmu_type,
            size: ATTR_SIZE,
            config: event.config,
            read_format: PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
            ..Attr::default()
        };
        let any_thread = -1;
        let cpu = i32::try_from(cpu).unwrap_or(i32::MAX);
        Ok(Self {
            event: open_event(&attr, any_thread, cpu, None)?.into(),
        })
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the kernel refuses, or says that the event cannot be counted any more.
    pub fn read(&self) -> Result<Reading, PerfError> {
        let mut bytes = [0; 24];
        (&self.event)
            .read_exact(&mut bytes)
            .map_err(|source| PerfError {
                call: "reading a perf event",
                source: match source.kind() {
                    // `perf_read` answers with nothing once the event is in its error state.
                    io::ErrorKind::UnexpectedEof => {
                        io::Error::other("the kernel has given up counting it")
                    }
                    _ => source,
                },
            })?;
        Ok(Reading::of_bytes(bytes))
    }
}

impl AsFd for CpuCount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Reading {
    fn of_bytes(bytes: [u8; 24]) -> Self {
        let ([count, enabled, running], []) = bytes.as_chunks::<8>() else {
            unreachable!("24 bytes are three times 8");
        };
        Self {
            count: u64::from_ne_bytes(*count),
            enabled_ns: u64::from_ne_bytes(*enabled),
            running_ns: u64::from_ne_bytes(*running),
        }
    }

    /// Whether the event counted all the time it was enabled.
    pub fn is_complete(&self) -> bool {
        self.running_ns == self.enabled_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_count_enabled_running() {
        let mut bytes = [0; 24];
        for (number, value) in bytes.chunks_mut(8).zip([7u64, 2_000, 1_500]) {
            number.copy_from_slice(&value.to_ne_bytes());
        }
        let reading = Reading::of_bytes(bytes);
        assert_eq!(
            reading,
            Reading {
                count: 7,
                enabled_ns: 2_000,
                running_ns: 1_500
            }
        );
        assert!(!reading.is_complete());
    }
}
