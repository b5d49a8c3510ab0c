//! The osnoise detector: drives the kernel's osnoise tracer, one event for each gap.
//!
//! From 6.1 on the tracer can keep interrupts off while it samples (`OSNOISE_IRQ_DISABLE`); what is left is hardware's.
//! Before, the time of interrupts, softirqs and threads is taken off what it reports, which leaves an estimate.

use std::{path::Path, time::Duration};

use anyhow::Result;
use smi_common::TracerLayout;

use super::{
    Availability, Detector, Running, records,
    tracer::{self, Source, Tracer, Tracing},
};
use crate::{
    bpf::Bpf,
    kernel::{
        cpus::CpuList,
        tracefs::{self, TracefsError},
    },
    settings::{Mode, Settings},
};

const TRACER: &str = "osnoise";

/// The tracer's options, absent on 5.15.
const OPTIONS: &str = "osnoise/options";

/// The option that keeps interrupts off, and the one without which nothing samples.
const IRQ_DISABLE: &str = "OSNOISE_IRQ_DISABLE";
const WORKLOAD: &str = "OSNOISE_WORKLOAD";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Osnoise {
    /// Leave interrupts on and estimate, even where the tracer can keep them off.
    pub estimate: bool,
}

impl Osnoise {
    /// The tracer's options, as they are set; `None` where it has none, as on 5.15.
    fn options(tracing: &Path) -> Result<Option<String>, TracefsError> {
        let options = tracing.join(OPTIONS);
        // Where it is there and cannot be read, nothing may be concluded about interrupts.
        options
            .exists()
            .then(|| tracefs::read(&options))
            .transpose()
    }

    /// Whether interrupts stay on, because the tracer cannot keep them off or is not to.
    fn estimates(self, options: Option<&str>) -> bool {
        self.estimate
            || options
                .is_none_or(|options| !has(options, IRQ_DISABLE) && !has(options, &no(IRQ_DISABLE)))
    }
}

fn has(options: &str, option: &str) -> bool {
    options.split_whitespace().any(|word| word == option)
}

/// How the kernel writes an option that is off.
fn no(option: &str) -> String {
    format!("NO_{option}")
}

impl Detector for Osnoise {
    fn name(&self) -> &'static str {
        TRACER
    }

    fn probe(&self) -> Availability {
        tracer::available(TRACER, "CONFIG_OSNOISE_TRACER")
    }

    fn default_mode(&self, _preset: Mode) -> Mode {
        Mode::PerCpu
    }

    fn irqs_off(&self, settings: &Settings) -> Duration {
        let options = tracefs::mounted().and_then(|tracing| Self::options(&tracing).ok().flatten());
        if self.estimates(options.as_deref()) {
            Duration::ZERO
        } else {
            settings.width
        }
    }

    fn scheduling(&self, _settings: &Settings) -> String {
        tracer::SCHEDULING.to_owned()
    }

    fn start(&self, bpf: &mut Bpf, settings: &Settings) -> Result<Box<dyn Running>> {
        anyhow::ensure!(
            settings.mode == Mode::PerCpu,
            "the osnoise tracer samples all its CPUs at once; use --mode per-cpu, or --detector spin for {}",
            settings.mode
        );
        let mut tracer = Tracer::begin(TRACER)?;
        let online = CpuList::online()?;
        let options = Self::options(&tracer.tracing)?;
        let estimate = self.estimates(options.as_deref());
        let layout = TracerLayout {
            osnoise_subtract: u64::from(estimate),
            ..tracer::turns_layout("osnoise/", settings)
        };
        let (records_per_s, warning) = records::per_s(settings);
        tracer.warnings.extend(warning);
        tracer::reset(bpf, &tracer.tracing, layout, settings, records_per_s)?;
        bpf.attach_raw_tracepoint("osnoise_sample", "sample_threshold")?;
        bpf.attach_raw_tracepoint("osnoise_nmi", "nmi_noise")?;
        // First a bearable runtime, then interrupts off: by default it runs all the time.
        tracer.set_timing("osnoise/runtime_us", "osnoise/period_us", settings)?;
        if estimate {
            for (program, event) in [
                ("osnoise_irq", "irq_noise"),
                ("osnoise_softirq", "softirq_noise"),
                ("osnoise_thread", "thread_noise"),
            ] {
                bpf.attach_raw_tracepoint(program, event)?;
            }
            tracer.warnings.push(
                "the osnoise tracer leaves interrupts on: gaps are estimates, what it reports less the interrupts, \
                 softirqs and threads it saw"
                    .to_owned(),
            );
        }
        // Each is changed only where it is there and not as it should be.
        for (option, on) in [(IRQ_DISABLE, !estimate), (WORKLOAD, true)] {
            let (wanted, other) = if on {
                (option.to_owned(), no(option))
            } else {
                (no(option), option.to_owned())
            };
            if options
                .as_deref()
                .is_some_and(|options| has(options, &other))
            {
                let path = tracer.tracing.join(OPTIONS);
                tracer.changes.write(&path, &wanted, other)?;
            }
        }
        for stop in ["stop_tracing_us", "stop_tracing_total_us"] {
            let path = tracer.tracing.join("osnoise").join(stop);
            tracer.changes.set(path, "0")?;
        }
        tracer.set_threshold(settings.threshold)?;
        let cpus = tracer.tracing.join("osnoise/cpus");
        tracer.changes.set(cpus, &settings.cpus.to_string())?;
        tracer.start(TRACER)?;
        Ok(Box::new(Tracing::new(
            TRACER, tracer, Programs, online, settings,
        )))
    }
}

/// BPF programs attached to tracepoints, which run on every CPU that is online.
struct Programs;

impl Source for Programs {
    const IN_KERNEL: bool = true;

    fn follow(&mut self, _online: &CpuList) -> Vec<String> {
        Vec::new()
    }
}
