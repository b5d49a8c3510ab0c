//! The sampling thread: opens windows, arms one stretch after another, sleeps in between.

use std::{
    fmt, io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use thiserror::Error;

use crate::{
    bpf::{Slot, SpinSlots},
    kernel::{
        clock::monotonic_ns,
        cpus::CpuList,
        perf::{MIN_PERIOD_NS, PerfError, ThreadClock},
        sched,
    },
    model::{SamplerCounts, WindowCounts},
    units::ns,
};

/// How long a stretch may keep the thread waiting before the thread gives up. The kernel throttles an event that fires
/// too often until the next tick (`kernel.perf_event_max_sample_rate`), and a thread of higher priority may hold the CPU.
/// A hypervisor may hold it too, often for longer than a tick.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many looks at the slot pass between two at the clock and the CPU.
const LOOKS: u32 = 64;

/// Why a sampling thread could not go on.
#[derive(Debug, Error)]
pub(super) enum SamplerError {
    /// The timer could not be had.
    #[error("cannot have the timer of a sampling thread")]
    Perf(#[from] PerfError),
    /// The thread could not be moved.
    #[error("cannot move the sampling thread to CPU {cpus}")]
    Affinity {
        /// Where it should have gone.
        cpus: CpuList,
        /// What the system said.
        source: io::Error,
    },
}

/// Windows of one CPU since start.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Windows sampled for at least half of their width.
    run: AtomicU64,
    /// Windows missed, or cut short.
    skipped: AtomicU64,
    /// Stretches asked for and given up.
    stretches_given_up: AtomicU64,
    /// The CPU was offline when its last window came.
    pub(super) away: AtomicBool,
}

/// Which CPUs a thread samples, and how it moves among them: hwlat's modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Always this CPU (`per-cpu`).
    Fixed(u32),
    /// The next CPU of the list for each window (`round-robin`).
    RoundRobin(CpuList),
    /// Wherever among these the scheduler put the thread when the window opens (`none`).
    Anywhere(CpuList),
}

/// Lengths of a window, in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Time spent sampling in a window.
    pub width_ns: u64,
    /// From one window to the next, on average.
    pub window_ns: u64,
    /// Longest stretch with interrupts off.
    pub stretch_ns: u64,
}

impl Timing {
    /// Pause after a window: between half and one and a half times what the window leaves, at random. Windows at a
    /// fixed distance would see a periodic source always or never.
    fn pause_ns(&self) -> u64 {
        self.left_ns() / 2 + fastrand::u64(0..=self.left_ns())
    }

    fn left_ns(&self) -> u64 {
        self.window_ns - self.width_ns
    }

    /// Period of the timer that starts stretches. After a stretch the timer is overdue and fires at the next multiple
    /// of its period. The shorter that is, the less is lost between stretches; but should it come again while the
    /// kernel still serves the other timers that waited, for the third time in one interrupt, the kernel puts off all
    /// timers of the CPU (`hrtimer_interrupt` in `kernel/time/hrtimer.c`). A twentieth of a stretch keeps both small.
    fn timer_ns(&self) -> u64 {
        (self.stretch_ns.min(self.width_ns) / 20).clamp(MIN_PERIOD_NS, 100_000)
    }
}

/// What the threads of one detector share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The hand-over slots.
    pub slots: SpinSlots,
    /// Window counts, by CPU.
    pub windows: Vec<Windows>,
    /// Set to end the threads.
    pub stop: AtomicBool,
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// How a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It ran to its end.
    Run,
    /// It ended before half of it was sampled: something else had the CPU.
    Short,
    /// The detector is being stopped.
    Stopped,
    /// The CPU is offline, or went offline under the thread.
    Away,
    /// The timer did not fire.
    Starved,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "the window ran to its end",
            Self::Short => "something else had the CPU",
            Self::Stopped => "it was told to stop",
            Self::Away => "the CPU is offline",
            Self::Starved => "no interrupt came in time",
        })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(cpu) => write!(f, "{cpu}"),
            Self::RoundRobin(_) => f.write_str("turn"),
            Self::Anywhere(_) => f.write_str("any"),
        }
    }
}

impl Windows {
    /// Counts windows whose time went by.
    fn skip(&self, windows: u64) {
        self.skipped.fetch_add(windows, Ordering::Relaxed);
    }

    fn count(&self, outcome: Outcome) {
        self.away.store(outcome == Outcome::Away, Ordering::Relaxed);
        match outcome {
            Outcome::Run => {
                self.run.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Short | Outcome::Away | Outcome::Starved => self.skip(1),
            // Under way when told to stop: it has not ended.
            Outcome::Stopped => (),
        }
    }

    /// A copy.
    pub(super) fn counts(&self) -> SamplerCounts {
        let run = self.run.load(Ordering::Relaxed);
        let skipped = self.skipped.load(Ordering::Relaxed);
        SamplerCounts {
            windows: WindowCounts {
                scheduled: run + skipped,
                run,
                skipped,
            },
            stretches_given_up: self.stretches_given_up.load(Ordering::Relaxed),
        }
    }
}

/// A sampling thread's state. Made on the thread itself, whose clock event it holds.
pub(super) struct Sampler<'a> {
    shared: &'a Shared,
    route: Route,
    timing: Timing,
    _clock: ThreadClock,
}

impl<'a> Sampler<'a> {
    /// Opens the clock event of the calling thread and has `program` run at its expiries.
    ///
    /// # Errors
    /// When the kernel refuses the event.
    pub(super) fn new(
        shared: &'a Shared,
        program: BorrowedFd<'_>,
        route: Route,
        timing: Timing,
    ) -> Result<Self, SamplerError> {
        Ok(Self {
            shared,
            route,
            timing,
            _clock: ThreadClock::open(program, timing.timer_ns())?,
        })
    }

    /// Runs windows until told to stop.
    ///
    /// # Errors
    /// When the thread cannot be moved for another reason than that a CPU is offline.
    pub(super) fn run(&self) -> Result<(), SamplerError> {
        let mut turns = Turns::new(&self.route);
        turns.release()?;
        // The first pause is random too, so that the CPUs do not all start at once.
        let mut due_ns = monotonic_ns() + fastrand::u64(0..=self.timing.left_ns());
        while self.sleep_until(due_ns) {
            let missed = monotonic_ns().saturating_sub(due_ns) / self.timing.window_ns;
            for (cpu, missed) in turns.missed(missed) {
                self.shared.windows[cpu as usize].skip(missed);
            }
            let (cpu, settled) = turns.settle()?;
            let windows = &self.shared.windows[cpu as usize];
            windows.count(if settled {
                self.window(cpu)
            } else {
                Outcome::Away
            });
            turns.release()?;
            // From now, not from when it was due: a window that came late must not be followed by the next at once.
            due_ns = monotonic_ns() + self.timing.pause_ns();
            if !settled {
                due_ns += self.timing.width_ns;
            }
        }
        Ok(())
    }

    /// Runs a single window at once, on the first CPU of the route.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) fn once(&self) -> Result<Outcome, SamplerError> {
        Ok(match Turns::new(&self.route).settle()? {
            (cpu, true) => self.window(cpu),
            (_, false) => Outcome::Away,
        })
    }

    /// Runs one window on `cpu`, on which the thread is.
    fn window(&self, cpu: u32) -> Outcome {
        let (Some(slot), Some(windows)) = (
            self.shared.slots.get(cpu),
            self.shared.windows.get(cpu as usize),
        ) else {
            return Outcome::Away;
        };
        let spun_ns = slot.spun_ns();
        let mut until_ns = None;
        while until_ns.is_none_or(|until_ns| monotonic_ns() < until_ns) {
            if self.shared.stopping() {
                return Outcome::Stopped;
            }
            let stretch_ns = self.timing.stretch_ns.min(self.timing.width_ns);
            let number = slot.arm(stretch_ns, until_ns.unwrap_or(u64::MAX));
            if let Some(outcome) = self.wait(slot, number, cpu) {
                slot.disarm();
                windows.stretches_given_up.fetch_add(1, Ordering::Relaxed);
                return outcome;
            }
            // The width counts from the first reading.
            until_ns = until_ns.or(Some(slot.begun_ns() + self.timing.width_ns));
        }
        if (slot.spun_ns() - spun_ns) * 2 < self.timing.width_ns {
            Outcome::Short
        } else {
            Outcome::Run
        }
    }

    /// Spins, on the CPU as the event requires, until stretch `number` has ended. `None` when it has.
    fn wait(&self, slot: Slot<'_>, number: u64, cpu: u32) -> Option<Outcome> {
        let give_up_ns = monotonic_ns() + ns(PATIENCE) + self.timing.stretch_ns;
        loop {
            for _ in 0..LOOKS {
                if slot.ended() >= number {
                    return None;
                }
                std::hint::spin_loop();
            }
            if sched::current_cpu() != cpu {
                return Some(Outcome::Away);
            }
            if self.shared.stopping() {
                return Some(Outcome::Stopped);
            }
            if monotonic_ns() > give_up_ns {
                return Some(Outcome::Starved);
            }
        }
    }

    /// Sleeps until `due_ns`; false when told to stop.
    fn sleep_until(&self, due_ns: u64) -> bool {
        while !self.shared.stopping() {
            match due_ns.saturating_sub(monotonic_ns()) {
                0 => return true,
                left => std::thread::park_timeout(Duration::from_nanos(left)),
            }
        }
        false
    }
}

/// Moves the thread along its route.
struct Turns<'a> {
    route: &'a Route,
    next: usize,
}

impl<'a> Turns<'a> {
    fn new(route: &'a Route) -> Self {
        Self { route, next: 0 }
    }

    /// Takes the turn of the next window: its CPU, and whether that is one the thread may go to.
    fn next(&mut self) -> (u32, bool) {
        match self.route {
            Route::Fixed(cpu) => (*cpu, true),
            Route::RoundRobin(cpus) => {
                let cpu = cpus.iter().nth(self.next);
                self.next = (self.next + 1) % cpus.len().max(1);
                (cpu.unwrap_or_default(), true)
            }
            Route::Anywhere(cpus) => {
                let cpu = sched::current_cpu();
                if cpus.contains(cpu) {
                    (cpu, true)
                } else {
                    // The kernel moved the thread away because all its CPUs went offline.
                    (cpus.iter().next().unwrap_or_default(), false)
                }
            }
        }
    }

    /// Lets the turns of so many windows go by; how many that was of each CPU.
    fn missed(&mut self, windows: u64) -> Vec<(u32, u64)> {
        let Route::RoundRobin(cpus) = self.route else {
            return vec![(self.next().0, windows)];
        };
        let all = cpus.len().max(1) as u64;
        let mut missed: Vec<(u32, u64)> = cpus.iter().map(|cpu| (cpu, windows / all)).collect();
        for _ in 0..windows % all {
            if let Some((_, windows)) = missed.get_mut(self.next) {
                *windows += 1;
            }
            self.next = (self.next + 1) % missed.len().max(1);
        }
        missed
    }

    /// Puts the thread on the CPU of the next window and keeps it there. False when that CPU is offline.
    fn settle(&mut self) -> Result<(u32, bool), SamplerError> {
        let (cpu, allowed) = self.next();
        Ok((cpu, allowed && moved([cpu])?))
    }

    /// Lets the scheduler choose where the thread wakes up, if that is its route.
    fn release(&self) -> Result<(), SamplerError> {
        if let Route::Anywhere(cpus) = self.route {
            moved(cpus.iter())?;
        }
        Ok(())
    }
}

/// Moves the thread; false when none of the CPUs is online.
fn moved(cpus: impl IntoIterator<Item = u32> + Clone) -> Result<bool, SamplerError> {
    match sched::set_affinity(cpus.clone()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(source) => Err(SamplerError::Affinity {
            cpus: cpus.into_iter().collect(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_windows_are_those_of_the_cpus_whose_turn_it_was() {
        let route = Route::RoundRobin("1-3".parse().expect("a list"));
        let mut turns = Turns::new(&route);
        assert_eq!(turns.next(), (1, true));
        assert_eq!(turns.missed(0), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(turns.missed(2), [(1, 0), (2, 1), (3, 1)]);
        assert_eq!(turns.missed(7), [(1, 3), (2, 2), (3, 2)]);
        assert_eq!(turns.next(), (2, true));
        let route = Route::Fixed(5);
        assert_eq!(Turns::new(&route).missed(9), [(5, 9)]);
    }
}
