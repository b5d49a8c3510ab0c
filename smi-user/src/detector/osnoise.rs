//! The osnoise detector: drives the kernel's osnoise tracer, one event for each gap.
//!
//! From 6.1 on the tracer can keep interrupts off while it samples (`OSNOISE_IRQ_DISABLE`); what is left is hardware's.
//! Before, the time of interrupts, softirqs and threads is taken off what it reports, which leaves an estimate.

use anyhow::Result;
use smi_common::TracerLayout;

use super::{
    Availability, Detector, Running,
    tracer::{self, Source, Tracer, Tracing},
};
use crate::{
    bpf::Bpf,
    kernel::{cpus::CpuList, tracefs},
    settings::{Mode, Settings},
};

const TRACER: &str = "osnoise";

/// Tracers that share osnoise's settings and threads.
const RIVALS: [&str; 2] = [TRACER, "timerlat"];

/// The option that keeps interrupts off.
const IRQ_DISABLE: &str = "OSNOISE_IRQ_DISABLE";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Osnoise;

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

    fn irqs_off(&self, settings: &Settings) -> std::time::Duration {
        settings.width
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
        let mut tracer = Tracer::begin(TRACER, &RIVALS)?;
        let online = CpuList::online()?;
        let options = tracer.tracing.join("osnoise/options");
        // Absent on 5.15. Where it is there and cannot be read, nothing may be concluded about interrupts.
        let offered = if options.exists() {
            tracefs::read(&options)?
        } else {
            String::new()
        };
        let has = |option: &str| offered.split_whitespace().any(|word| word == option);
        let disabled = format!("NO_{IRQ_DISABLE}");
        let irqs_off = has(IRQ_DISABLE) || has(&disabled);

        let layout = TracerLayout {
            osnoise_subtract: u64::from(!irqs_off),
            ..tracer::turns_layout("osnoise/", settings)
        };
        tracer::reset(bpf, &tracer.tracing, layout, settings)?;
        bpf.attach_raw_tracepoint("osnoise_sample", "sample_threshold")?;
        bpf.attach_raw_tracepoint("osnoise_nmi", "nmi_noise")?;
        if irqs_off {
            // First a bearable runtime, then interrupts off: by default it runs all the time.
            tracer.set_timing("osnoise/runtime_us", "osnoise/period_us", settings)?;
            if has(&disabled) {
                tracer.changes.write(&options, IRQ_DISABLE, disabled)?;
            }
        } else {
            for (program, event) in [
                ("osnoise_irq", "irq_noise"),
                ("osnoise_softirq", "softirq_noise"),
                ("osnoise_thread", "thread_noise"),
            ] {
                bpf.attach_raw_tracepoint(program, event)?;
            }
            tracer.set_timing("osnoise/runtime_us", "osnoise/period_us", settings)?;
            tracer.warnings.push(
                "this kernel's osnoise tracer cannot keep interrupts off: gaps are estimates, what it reports less \
                 the interrupts, softirqs and threads it saw"
                    .to_owned(),
            );
        }
        if has("NO_OSNOISE_WORKLOAD") {
            tracer.changes.write(
                &options,
                "OSNOISE_WORKLOAD",
                "NO_OSNOISE_WORKLOAD".to_owned(),
            )?;
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
    fn follow(&mut self, _online: &CpuList) -> Vec<String> {
        Vec::new()
    }
}
