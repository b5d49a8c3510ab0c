//! What the counters that are perf events have in common: one event for each CPU, checked at each reading.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use super::{CounterError, Counting};
use crate::kernel::{
    cpus::CpuList,
    perf::count::{CpuCount, Reading},
    pmu::Event,
};

/// How long an event's clock may stand still before the event counts as dead. It may do so for a tick where the kernel
/// does not trust the TSC (`sched_clock_local` in `kernel/sched/clock.c`).
const STANDSTILL: Duration = Duration::from_millis(50);

/// The events at work.
pub(super) struct Events(BTreeMap<u32, Watched>);

struct Watched {
    event: CpuCount,
    last: Option<(Instant, Reading)>,
}

impl Events {
    /// Counts `event` on each of these CPUs from now on.
    pub(super) fn open(event: Event, cpus: &CpuList) -> Result<Self, CounterError> {
        let open = |cpu| match CpuCount::open(event, cpu) {
            Ok(event) => Ok((cpu, Watched { event, last: None })),
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => {
                Err(CounterError::Offline(cpu))
            }
            Err(source) => Err(CounterError::Event { cpu, source }),
        };
        cpus.iter().map(open).collect::<Result<_, _>>().map(Self)
    }
}

impl Counting for Events {
    fn read(&mut self, cpu: u32) -> Result<u64, CounterError> {
        let watched = self.0.get_mut(&cpu).ok_or(CounterError::NotOpened(cpu))?;
        let reading = watched
            .event
            .read()
            .map_err(|source| CounterError::Event { cpu, source })?;
        let now = Instant::now();
        if !CpuList::online()?.contains(cpu) {
            return Err(CounterError::Offline(cpu));
        }
        if let Some((then, last)) = watched.last
            && last.enabled_ns == reading.enabled_ns
        {
            // Kept as it was: however often it is read meanwhile, the standstill counts from its beginning.
            if now - then > STANDSTILL {
                return Err(CounterError::Offline(cpu));
            }
        } else {
            watched.last = Some((now, reading));
        }
        judge(cpu, reading)
    }

    fn events(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        self.0
            .iter()
            .map(|(cpu, watched)| (*cpu, watched.event.as_fd()))
            .collect()
    }
}

/// The count, if the event had a counter all the time.
fn judge(cpu: u32, reading: Reading) -> Result<u64, CounterError> {
    if reading.is_complete() {
        return Ok(reading.count);
    }
    Err(CounterError::Multiplexed {
        cpu,
        percent: reading.running_ns as f64 / reading.enabled_ns as f64 * 100.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_with_pauses_is_none() {
        let reading = |running_ns| Reading {
            count: 3,
            enabled_ns: 1_000_000,
            running_ns,
        };
        assert_eq!(judge(0, reading(1_000_000)).expect("complete"), 3);
        let error = judge(2, reading(255_000)).expect_err("a pause").to_string();
        assert!(
            error.contains("CPU 2 were counted only 25.5 % of the time"),
            "{error}"
        );
        let never = judge(2, reading(0)).expect_err("never").to_string();
        assert!(never.contains("0.0 %"), "{never}");
    }
}
