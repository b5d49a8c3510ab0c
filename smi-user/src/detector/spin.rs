//! The spin detector: on each watched CPU a BPF program reads the clock in a timer interrupt, interrupts off.
//!
//! A thread pinned to the CPU holds a task-clock event whose timer runs the program (`smi-ebpf/src/spin.rs`), one
//! stretch at a time. Nothing outside this process is changed, so nothing has to be put back, even after SIGKILL.

mod sampler;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use smi_common::{CpuStats, Knobs, buckets};

use self::sampler::{Outcome, Route, Sampler, SamplerError, Shared, Timing, Windows};
use super::{Availability, Detector, Noise, Running, away::Away, records};
use crate::{
    bpf::Bpf,
    kernel::{
        perf::{ThreadClock, paranoid},
        process::{self, Capabilities},
        release::{self, Version},
        sched,
    },
    model::SamplerCounts,
    settings::{Mode, Settings},
    units::ns,
};

/// Name of the program in the BPF object.
const PROGRAM: &str = "spin";

/// First kernel with `bpf_loop` (`kernel/bpf/bpf_iter.c`, commit e6f2dd0f8067).
const MIN_KERNEL: Version = Version::new(5, 17);

/// No SMI is shorter: entering and leaving System Management Mode alone, which saves and restores the CPU's whole state,
/// takes as long.
const SHORTEST_SMI_NS: u64 = 1_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Spin;

impl Detector for Spin {
    fn name(&self) -> &'static str {
        "spin"
    }

    fn probe(&self) -> Availability {
        let capabilities = Capabilities::own();
        available(&release::release(), capabilities, paranoid::in_the_way)
    }

    fn start(&self, bpf: &mut Bpf, settings: &Settings) -> Result<Box<dyn Running>> {
        Ok(Box::new(Spinning::start(bpf, settings)?))
    }
}

/// Judges the facts that [`Spin::probe`] reads; `no_events` is asked why perf events are closed to it, once it has the
/// capabilities.
fn available(
    release: &str,
    capabilities: Capabilities,
    no_events: impl FnOnce() -> Option<String>,
) -> Availability {
    let missing = |reason: String, remedy: &str| Availability::Missing {
        reason,
        remedy: remedy.to_owned(),
    };
    if let Some(version) = Version::of_release(release)
        && version < MIN_KERNEL
    {
        return missing(
            format!("it needs Linux {MIN_KERNEL} (bpf_loop), this is {release}"),
            "boot a newer kernel",
        );
    }
    let lacking: Vec<_> = [process::CAP_BPF, process::CAP_PERFMON]
        .into_iter()
        .filter(|capability| !capabilities.has(*capability))
        .map(|(_, name)| name)
        .collect();
    if !lacking.is_empty() {
        return missing(
            format!("this process lacks {}", lacking.join(" and ")),
            "run it as root, for example with sudo",
        );
    }
    match no_events() {
        Some(reason) => missing(reason, paranoid::REMEDY),
        None => Availability::Ready,
    }
}

/// Has the kernel verify the program and run it by a timer of this thread, which does nothing while no stretch is
/// armed, and takes it back.
///
/// # Errors
/// When the kernel refuses either.
pub fn try_timer(bpf: &mut Bpf) -> Result<()> {
    /// Longer than it is open.
    const PERIOD_NS: u64 = 1_000_000_000;
    ThreadClock::open(bpf.perf_event_program(PROGRAM)?, PERIOD_NS)?;
    Ok(())
}

/// The detector at work.
struct Spinning {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), SamplerError>>>,
    settings: Settings,
    noise: Noise,
    away: Away,
    warnings: Vec<String>,
}

impl Spinning {
    fn start(bpf: &mut Bpf, settings: &Settings) -> Result<Self> {
        let slots = bpf.spin_slots()?;
        let cpus = slots.len();
        let shared = Arc::new(Shared {
            slots,
            windows: (0..cpus).map(|_| Windows::default()).collect(),
            stop: AtomicBool::new(false),
        });
        let program = bpf
            .perf_event_program(PROGRAM)?
            .try_clone_to_owned()
            .context("cannot duplicate the program's descriptor")?;
        let mut spinning = Self {
            shared,
            threads: Vec::new(),
            settings: settings.clone(),
            noise: Noise::default(),
            away: Away::default(),
            warnings: Vec::new(),
        };
        spinning.noise = spinning.measure_noise(bpf, program.as_fd())?;
        bpf.reset_stats()?;
        let (records_per_s, warning) = records::per_s(settings);
        spinning.warnings.extend(warning);
        bpf.set_knobs(Knobs {
            threshold_ns: ns(settings.threshold),
            records_per_s,
            interval: 1,
            look_ns: (2 * spinning.noise.floor_ns).max(SHORTEST_SMI_NS),
        })?;
        let program = Arc::new(program);
        let routes = match settings.mode {
            Mode::PerCpu => settings.cpus.iter().map(Route::Fixed).collect(),
            Mode::RoundRobin => vec![Route::RoundRobin(settings.cpus.clone())],
            Mode::None => vec![Route::Anywhere(settings.cpus.clone())],
        };
        for route in routes {
            spinning.spawn(&program, route)?;
        }
        Ok(spinning)
    }

    /// Starts one sampling thread and waits until it has its timer.
    fn spawn(&mut self, program: &Arc<OwnedFd>, route: Route) -> Result<()> {
        let (ready, started) = mpsc::sync_channel::<Result<Option<String>, SamplerError>>(1);
        let shared = Arc::clone(&self.shared);
        let program = Arc::clone(program);
        let timing = timing(&self.settings);
        let priority = self.settings.rt_priority;
        let thread = thread::Builder::new()
            .name(format!("smilat/{route}"))
            .spawn(move || {
                let warning = raise_priority(priority);
                let sampler = match Sampler::new(&shared, program.as_fd(), route, timing) {
                    Ok(sampler) => sampler,
                    Err(error) => {
                        let _told = ready.send(Err(error));
                        return Ok(());
                    }
                };
                let _told = ready.send(Ok(warning));
                sampler.run()
            })
            .context("cannot start a sampling thread")?;
        self.threads.push(thread);
        let warning = started
            .recv()
            .map_err(|_| anyhow!("a sampling thread ended before it began"))??;
        if let Some(warning) = warning
            && !self.warnings.contains(&warning)
        {
            self.warnings.push(warning);
        }
        Ok(())
    }

    /// Measures the loop's own step on the first watched CPU, with the very program that will watch it.
    fn measure_noise(&self, bpf: &mut Bpf, program: BorrowedFd<'_>) -> Result<Noise> {
        /// Stretches of each kind. At 100 ns a step the first kind takes 80,000 steps: eight lie above the floor.
        const STRETCHES: u32 = 8;
        const LONGEST: Duration = Duration::from_millis(1);
        let cpu = self.settings.cpus.iter().next().unwrap_or_default();
        let stretch = self
            .settings
            .irqs_off_max
            .min(self.settings.width)
            .min(LONGEST);
        let mut measure = |threshold_ns| -> Result<CpuStats> {
            bpf.reset_stats()?;
            bpf.set_knobs(Knobs {
                threshold_ns,
                records_per_s: 0,
                interval: 0,
                look_ns: 0,
            })?;
            let outcome = thread::scope(|scope| {
                scope
                    .spawn(|| {
                        raise_priority(self.settings.rt_priority);
                        // Windows of one stretch each, so that nothing waits longer than it will later.
                        let timing = Timing {
                            width_ns: ns(stretch),
                            window_ns: u64::MAX,
                            stretch_ns: ns(stretch),
                        };
                        let sampler =
                            Sampler::new(&self.shared, program, Route::Fixed(cpu), timing)?;
                        for _ in 0..STRETCHES {
                            match sampler.once()? {
                                // Short: a gap took most of it. The others will do.
                                Outcome::Run | Outcome::Short => {}
                                outcome => return Ok(outcome),
                            }
                            thread::sleep(stretch);
                        }
                        Ok::<_, SamplerError>(Outcome::Run)
                    })
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?;
            let stats = bpf.stats()?.get(cpu as usize).copied().unwrap_or_default();
            anyhow::ensure!(
                outcome == Outcome::Run && stats.stretches.steps > 0,
                "the timer of the spin detector did not fire on CPU {cpu}: {outcome} \
                 (is kernel.perf_event_max_sample_rate very low, or a thread of higher priority holding the CPU?)"
            );
            Ok(stats)
        };
        // Every step is a gap at this threshold, so the histogram is that of the steps.
        let each = measure(1)?;
        let none = measure(u64::MAX)?;
        Ok(Noise {
            step_ns: none.stretches.exposure_ns as f64 / none.stretches.steps as f64,
            floor_ns: floor_ns(&each.histogram()),
        })
    }
}

/// Upper bound in ns of the bucket that holds the 99.99th percentile.
fn floor_ns(histogram: &[u64]) -> u64 {
    let total: u64 = histogram.iter().sum();
    let mut above = total / 10_000;
    for (position, count) in histogram.iter().enumerate().rev() {
        if *count > above {
            return buckets::upper_ns(position).unwrap_or(u64::MAX);
        }
        above -= count;
    }
    0
}

fn timing(settings: &Settings) -> Timing {
    Timing {
        width_ns: ns(settings.width),
        window_ns: ns(settings.window),
        stretch_ns: ns(settings.irqs_off_max),
    }
}

/// Gives the calling thread its real-time priority; returns what to tell the user when that fails.
fn raise_priority(priority: u8) -> Option<String> {
    if priority == 0 {
        return None;
    }
    let error = sched::set_fifo(priority).err()?;
    Some(format!(
        "the sampling threads run without real-time priority ({error}): on busy CPUs windows will be cut short; \
         CAP_SYS_NICE is needed, and with cgroup v1 a cpu.rt_runtime_us above 0"
    ))
}

impl Running for Spinning {
    fn noise(&self) -> Noise {
        self.noise
    }

    fn counts(&self, _stats: &[CpuStats]) -> Vec<(u32, SamplerCounts)> {
        self.settings
            .cpus
            .iter()
            .filter_map(|cpu| {
                let windows = self.shared.windows.get(cpu as usize)?;
                Some((cpu, windows.counts()))
            })
            .collect()
    }

    fn warnings(&mut self) -> Vec<String> {
        for cpu in self.settings.cpus.iter() {
            let Some(windows) = self.shared.windows.get(cpu as usize) else {
                continue;
            };
            let away = windows.away.load(Ordering::Relaxed);
            let told = self
                .away
                .note(cpu, away, "its windows are counted as skipped");
            self.warnings.extend(told);
        }
        std::mem::take(&mut self.warnings)
    }

    fn check(&mut self) -> Result<()> {
        match self.threads.iter().position(JoinHandle::is_finished) {
            // They end only when told to, or by a failure.
            Some(position) => ended(self.threads.swap_remove(position)),
            None => Ok(()),
        }
    }

    fn stop(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in &self.threads {
            thread.thread().unpark();
        }
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            result = result.and(ended(thread));
        }
        result
    }
}

/// How a sampling thread ended.
fn ended(thread: JoinHandle<Result<(), SamplerError>>) -> Result<()> {
    thread
        .join()
        .map_err(|_| anyhow!("a sampling thread panicked"))?
        .context("a sampling thread failed")
}

impl Drop for Spinning {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::error!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smi_common::buckets::BUCKETS;

    #[test]
    fn the_floor_is_the_99_99th_percentile() {
        let mut histogram = [0u64; BUCKETS];
        assert_eq!(floor_ns(&histogram), 0);
        histogram[3] = 99_990;
        histogram[20] = 10;
        assert_eq!(Some(floor_ns(&histogram)), buckets::upper_ns(3));
        histogram[20] = 11;
        assert_eq!(Some(floor_ns(&histogram)), buckets::upper_ns(20));
    }

    #[test]
    fn an_old_kernel_and_missing_capabilities_are_told_with_the_remedy() {
        let all = Capabilities::of([process::CAP_BPF, process::CAP_PERFMON]);
        let open = |release, capabilities| available(release, capabilities, || None);
        assert_eq!(open("5.17.0", all), Availability::Ready);
        assert_eq!(open("6.18.44-fc", all), Availability::Ready);
        for (availability, told) in [
            (open("5.15.0-100-generic", all), "needs Linux 5.17"),
            (
                open("6.1.0", Capabilities::of([process::CAP_BPF])),
                "lacks CAP_PERFMON",
            ),
            (
                open("6.1.0", Capabilities::of([])),
                "lacks CAP_BPF and CAP_PERFMON",
            ),
            (
                available("6.1.0-56-amd64", all, || {
                    Some("perf_event_paranoid is 3".to_owned())
                }),
                "perf_event_paranoid is 3",
            ),
        ] {
            let Availability::Missing { reason, remedy } = availability else {
                panic!("ready, without {told}");
            };
            assert!(reason.contains(told), "{reason}");
            assert!(!remedy.is_empty());
        }
    }
}
