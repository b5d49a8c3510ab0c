//! A detector set to work as the command line asks, and what is done to the machine beside: what every command that
//! watches begins and ends with.

use std::{ops::RangeInclusive, time::Duration};

use anyhow::{Result, ensure};
use smi_common::GAPS_HELD;

use super::beside::Beside;
use crate::{
    attribution::Attribution,
    bpf::{Bpf, BpfError},
    cli::Detection,
    collector::Collector,
    counter,
    detector::{self, Detector, spin::Spin},
    kernel::{
        capabilities,
        cpus::CpuList,
        memory,
        perf::{PerfError, paranoid},
        process::{
            self, CAP_BPF, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_SYS_ADMIN,
            CAP_SYS_NICE, CAP_SYS_RAWIO, CAP_SYSLOG, Capabilities,
        },
        refusal,
        release::{self, Version},
        sched,
    },
    model::{DetectorInfo, GapKind, Snapshot},
    settings::{Settings, Wanted},
    units::{ns, show, show_ns},
};

/// How often what waits in the kernel's buffers is fetched and the user is told what happened, where there is no telling
/// how fast they fill.
pub(super) const FETCH: Duration = Duration::from_millis(100);

/// The same for single gaps, of which each CPU passes on so many a second: as often as it takes for no more than half of their
/// buffer to fill meanwhile, within these. Each time wakes a CPU up.
const FETCH_GAPS: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);

/// See [`FETCH_GAPS`].
fn fetch_every(cpus: usize, records_per_s: u64) -> Duration {
    let most_per_s = cpus as f64 * records_per_s as f64;
    let half_full_s = GAPS_HELD as f64 / 2.0 / most_per_s.max(1.0);
    Duration::from_secs_f64(half_full_s).clamp(*FETCH_GAPS.start(), *FETCH_GAPS.end())
}

/// A detector that can run here, and checked settings for it. Nothing has been done yet.
pub(super) struct Prepared {
    detector: Box<dyn Detector>,
    why: String,
    /// What it will be asked to do.
    pub(super) settings: Settings,
}

impl Prepared {
    /// Chooses the detector and checks the settings.
    ///
    /// # Errors
    /// When none can run here, or a setting makes no sense.
    pub(super) fn new(asked: &Detection) -> Result<Self> {
        if asked.bpf_stats {
            may_measure(Capabilities::own())?;
        }
        let (detector, why) = detector::choose(asked.detector)?;
        let settings = settings(asked, detector.as_ref())?;
        Ok(Self {
            detector,
            why,
            settings,
        })
    }

    /// Name of the detector.
    pub(super) fn detector(&self) -> &str {
        self.detector.name()
    }

    /// What its gaps are.
    pub(super) fn gap_kind(&self) -> GapKind {
        self.detector.gap_kind()
    }

    /// Loads the programs and does what is asked for beside detecting.
    ///
    /// # Errors
    /// When the kernel refuses something; nothing is left changed then.
    pub(super) fn begin(self, asked: &Detection) -> Result<Ready> {
        let highest_cpu = CpuList::highest_possible()?;
        let bpf = Bpf::load(highest_cpu).map_err(|error| explain(error.into()))?;
        let beside = Beside::begin(asked, &self.settings)?;
        Ok(Ready {
            prepared: self,
            bpf,
            beside,
        })
    }
}

/// Everything but the detector is in force, until this is dropped.
pub(super) struct Ready {
    prepared: Prepared,
    bpf: Bpf,
    beside: Beside,
}

impl Ready {
    /// What is about to be done to which CPUs, and what it costs, for people.
    pub(super) fn plan(&self) -> String {
        let Prepared {
            detector,
            why,
            settings,
        } = &self.prepared;
        plan(detector.as_ref(), why, settings) + &self.beside.plan()
    }

    /// Starts the detector.
    ///
    /// # Errors
    /// When the kernel refuses something; nothing is left changed then.
    pub(super) fn start(self, asked: &Detection) -> Result<Watch> {
        let Self {
            prepared: Prepared {
                detector, settings, ..
            },
            mut bpf,
            beside,
        } = self;
        if asked.bpf_stats {
            bpf.measure_cost().map_err(|error| explain(error.into()))?;
        }
        let attribution = Attribution::start(&mut bpf, asked.counter, &settings.cpus)?;
        let running = detector.start(&mut bpf, &settings).map_err(explain)?;
        let fetch_every = fetch_every(settings.cpus.len(), settings.records_per_s);
        let mut collector = Collector::new(bpf, running, attribution, detector.as_ref(), &settings);
        tell_noise(collector.info());
        for warning in collector.warnings() {
            log::warn!("{warning}");
        }
        memory::give_back();
        Ok(Watch {
            collector,
            beside,
            fetch_every,
        })
    }
}

/// A detector at work. Dropping it stops it and undoes what was done beside.
pub(super) struct Watch {
    collector: Collector,
    beside: Beside,
    fetch_every: Duration,
}

impl Watch {
    /// Ends the interval and reads everything.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = self.collector.snapshot()?;
        self.beside.add_to(&mut snapshot);
        Ok(snapshot)
    }

    /// How often [`Self::fetch`] is to be called.
    pub(super) fn fetch_every(&self) -> Duration {
        self.fetch_every
    }

    /// Takes what waits in the kernel's buffers, and returns what the user should know.
    ///
    /// # Errors
    /// When they cannot be read, or the detector has ended by itself.
    pub(super) fn fetch(&mut self) -> Result<Vec<String>> {
        self.collector.fetch()?;
        Ok(self.collector.warnings())
    }

    /// Whether the threshold can be changed while it runs: the kernel's tracers have one of their own from their start on.
    pub(super) fn takes_threshold(&self) -> bool {
        self.collector.info().name == Spin.name()
    }

    /// Changes the threshold while it runs, and warns about one below the noise.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub(super) fn set_threshold(&mut self, threshold: Duration) -> Result<()> {
        self.set_threshold_ns(ns(threshold))?;
        tell_noise(self.collector.info());
        Ok(())
    }

    /// Gives up what privileges are not needed any more: no flaw of smilat's can use them then. `again`: whether another
    /// detector may have to be started. All are kept where the kernel's settings have to be put back at the end.
    pub(super) fn give_up_privileges(&self, asked: &Detection, again: bool) {
        if self.info().name != Spin.name() || asked.smi_cost {
            log::debug!("privileges are kept, to put back the kernel's settings at the end");
            return;
        }
        let mut kept = vec![
            // The counters of a CPU that went offline and is back.
            CAP_PERFMON,
            // Reports that are yet to be opened, where root writes to others' folders.
            CAP_DAC_OVERRIDE,
            CAP_DAC_READ_SEARCH,
        ];
        // Before, the kernel asks for it at every use of a map (commit c8644cd0efe7).
        let release = release::release();
        let asks_always =
            Version::of_release(&release).is_none_or(|version| version < Version::new(5, 19));
        if again || asks_always || asked.bpf_stats {
            kept.push(CAP_BPF);
        }
        if again {
            kept.push(CAP_SYS_NICE);
            // What all else takes, the tracers and registers: none but root gets at their files.
            if process::is_root() {
                kept.extend([CAP_SYS_ADMIN, CAP_SYSLOG, CAP_SYS_RAWIO]);
            }
        }
        let own = Capabilities::own();
        if paranoid::takes_sys_admin().is_some()
            || kept.iter().any(|kept| own.has_by_proxy(*kept))
            || (again && asked.bpf_stats)
        {
            kept.push(CAP_SYS_ADMIN);
        }
        if self
            .collector
            .counter()
            .is_some_and(counter::reads_registers)
        {
            kept.push(CAP_SYS_RAWIO);
        }
        let names: Vec<&str> = kept.iter().map(|(_, name)| *name).collect();
        match capabilities::keep_only(Capabilities::of(kept)) {
            Ok(()) => log::debug!("of the capabilities, at most {} are kept", names.join(" ")),
            Err(error) => {
                log::warn!("privileges that are not needed could not be given up: {error}");
            }
        }
    }

    /// How the detector is set now, and the noise it measured.
    pub(super) fn info(&self) -> &DetectorInfo {
        self.collector.info()
    }

    /// Changes the threshold while the detector runs.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub(super) fn set_threshold_ns(&mut self, threshold_ns: u64) -> Result<()> {
        self.collector.set_threshold_ns(threshold_ns)
    }

    /// Stops detecting, puts back what was changed, and reads everything for the last time; beside it the failure that
    /// ended it or came on the way, if one did.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(super) fn finish(self) -> Result<(Snapshot, Result<()>)> {
        let Self {
            collector,
            mut beside,
            fetch_every: _,
        } = self;
        let (mut snapshot, stopped) = collector.finish()?;
        beside.add_to(&mut snapshot);
        let put_back = beside.end();
        Ok((snapshot, stopped.and(put_back)))
    }
}

/// Whether the kernel lets this process measure BPF programs (`BPF_ENABLE_STATS` in `kernel/bpf/syscall.c`).
fn may_measure(own: Capabilities) -> Result<()> {
    ensure!(
        own.has(CAP_SYS_ADMIN),
        "--bpf-stats takes CAP_SYS_ADMIN, which this process lacks: it measures all BPF programs of the machine; start smilat \
         with it from the beginning (what is not needed is given up), as root or with that capability, or leave it out"
    );
    Ok(())
}

fn settings(asked: &Detection, detector: &dyn Detector) -> Result<Settings> {
    let preset = asked.preset.defaults();
    let wanted = Wanted {
        threshold: asked.threshold,
        width: asked.width.unwrap_or(preset.width),
        window: asked.window.unwrap_or(preset.window),
        irqs_off_max: asked.irqs_off_max.unwrap_or(preset.irqs_off_max),
        mode: asked
            .mode
            .unwrap_or_else(|| detector.default_mode(preset.mode)),
        cpus: asked.cpus.clone(),
        rt_priority: asked.rt_priority,
        records_per_s: asked.max_gap_records,
        force: asked.force,
    };
    let online = CpuList::online()?;
    let allowed = sched::allowed(&online);
    let settings = Settings::check(wanted, &online, &allowed)?;
    if asked.cpus.is_none()
        && let Some(warning) = left_out(&online, &allowed)
    {
        log::warn!("{warning}");
    }
    Ok(settings)
}

/// What to tell of CPUs that are online and, where none were named, not watched: they are not among those `allowed`.
fn left_out(online: &CpuList, allowed: &CpuList) -> Option<String> {
    let barred = online.without(allowed);
    (!barred.is_empty()).then(|| {
        format!(
            "CPU {barred} is online and will not be watched, so gaps there are not seen: this process's cpuset allows only \
             {allowed}; run smilat outside that cgroup or container to watch all"
        )
    })
}

/// Warns about a threshold that the loop's own steps exceed.
fn tell_noise(detector: &DetectorInfo) {
    let threshold = show_ns(detector.threshold_ns as f64);
    let floor = show_ns(detector.noise_floor_ns as f64);
    log::debug!(
        "a step takes {:.1} ns, noise floor {floor}",
        detector.step_ns
    );
    if detector.noise_floor_ns > detector.threshold_ns {
        log::warn!(
            "the threshold {threshold} is below this machine's noise floor of {floor}: one step of the loop in 10,000 \
             takes that long by itself, so many of the gaps counted will be no gaps"
        );
    }
}

/// What is about to be done to which CPUs, and what it costs.
fn plan(detector: &dyn Detector, why: &str, settings: &Settings) -> String {
    let Settings {
        threshold,
        width,
        window,
        mode,
        ref cpus,
        ..
    } = *settings;
    let scheduling = detector.scheduling(settings);
    format!(
        "smilat {}: {} detector ({why}), threshold {}\n\
         watching CPU {cpus}, mode {mode}: {} of every {}, {scheduling}\n\
         cost: {:.2} % of each watched CPU, {:.2} CPUs in all; there an interrupt may wait up to {}, other threads up to {}\n",
        env!("CARGO_PKG_VERSION"),
        detector.name(),
        show(threshold),
        show(width),
        show(window),
        settings.duty_per_cpu() * 100.0,
        settings.duty_per_cpu() * cpus.len() as f64,
        show(detector.irqs_off(settings)),
        show(width),
    )
}

/// Adds to a refusal of the kernel's what may be behind it and what would help.
pub(super) fn explain(error: anyhow::Error) -> anyhow::Error {
    let errno = error
        .downcast_ref::<BpfError>()
        .and_then(BpfError::errno)
        .or_else(|| {
            let mut causes = error.chain();
            let perf = causes.find_map(|cause| cause.downcast_ref::<PerfError>())?;
            perf.source.raw_os_error()
        });
    match refusal::hint(errno) {
        Some(hint) => anyhow::anyhow!("{error:#}: {hint}"),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_a_cpuset_leaves_out_are_told() {
        let list = |list: &str| list.parse::<CpuList>().expect(list);
        assert_eq!(left_out(&list("0-3"), &list("0-3")), None);
        let told = left_out(&list("0-7"), &list("0-1,6-7")).expect("a warning");
        assert!(
            told.starts_with("CPU 2-5 is online and will not be watched"),
            "{told}"
        );
        assert!(told.contains("allows only 0-1,6-7;"), "{told}");
    }

    #[test]
    fn the_more_gaps_may_come_the_more_often_they_are_fetched() {
        let every = |cpus, records_per_s| fetch_every(cpus, records_per_s).as_millis();
        assert_eq!(every(2, 100), 1_000);
        assert_eq!(every(1, 0), 1_000);
        // 2,730 are half of what there is room for.
        assert_eq!(every(255, 100), 107);
        assert_eq!(every(1, 100_000), 27);
        assert_eq!(every(2, 100_000), 20);
    }

    #[test]
    fn measuring_bpf_programs_takes_more_than_running_them() {
        let unit = Capabilities::of([CAP_BPF, CAP_PERFMON, CAP_SYS_NICE]);
        let told = may_measure(unit).expect_err("not enough").to_string();
        assert!(told.contains("takes CAP_SYS_ADMIN"), "{told}");
        assert!(may_measure(Capabilities::of([CAP_SYS_ADMIN])).is_ok());
    }
}
