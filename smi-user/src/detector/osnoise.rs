//! The osnoise detector: drives the kernel's osnoise tracer, one event for each gap.
//!
//! From 6.1 on the tracer can keep interrupts off while it samples (`OSNOISE_IRQ_DISABLE`); what is left is hardware's.
//! Before, the time of interrupts, softirqs and threads is taken off what it reports, which leaves an estimate.

use anyhow::Result;
use smi_common::{CpuStats, TracerLayout};

use super::{
    Availability, Detector, Noise, Running,
    tracer::{self, Tracer},
};
use crate::{
    bpf::Bpf,
    kernel::tracefs,
    model::SamplerCounts,
    settings::{Mode, Settings},
};

const TRACER: &str = "osnoise";

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

    fn irqs_off(&self, settings: &Settings) -> std::time::Duration {
        settings.width
    }

    fn start(&self, bpf: &mut Bpf, settings: &Settings) -> Result<Box<dyn Running>> {
        anyhow::ensure!(
            settings.mode == Mode::PerCpu,
            "the osnoise tracer samples all its CPUs at once; use --mode per-cpu, or --detector spin for {}",
            settings.mode
        );
        let mut tracer = Tracer::begin(TRACER)?;
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
        Ok(Box::new(Tracing {
            tracer: Some(tracer),
            settings: settings.clone(),
        }))
    }
}

/// The detector at work.
struct Tracing {
    tracer: Option<Tracer>,
    settings: Settings,
}

impl Running for Tracing {
    fn noise(&self) -> Noise {
        Noise::default()
    }

    fn counts(&self, stats: &[CpuStats]) -> Vec<(u32, SamplerCounts)> {
        tracer::counts(&self.settings, stats)
    }

    fn warnings(&mut self) -> Vec<String> {
        self.tracer
            .as_mut()
            .map(|tracer| std::mem::take(&mut tracer.warnings))
            .unwrap_or_default()
    }

    fn check(&mut self) -> Result<()> {
        let runs = self
            .tracer
            .as_ref()
            .is_some_and(|tracer| tracer.still_runs(TRACER));
        anyhow::ensure!(
            runs,
            "the osnoise tracer was taken away by somebody else; what it found until then is reported above"
        );
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        match self.tracer.take() {
            Some(mut tracer) => Ok(tracer.changes.undo_all().map(drop)?),
            None => Ok(()),
        }
    }
}
