//! The hwlat detector: drives the kernel's hwlat tracer, one record for each window in which it saw a gap.
//!
//! A record is the *maximum* of its window, not one gap. It is read as the kernel commits it to the trace buffer, by a
//! breakpoint on each CPU; where the kernel refuses breakpoints in itself, from the buffer.

mod pipe;

use std::{os::fd::AsFd as _, time::Duration};

use anyhow::Result;
use smi_common::{CpuStats, GapRecord, TracerLayout};

use self::pipe::Pipes;
use super::{
    Availability, Detector, Noise, Running,
    tracer::{self, Tracer},
};
use crate::{
    bpf::Bpf,
    kernel::{
        clock::Epoch,
        cpus::CpuList,
        kallsyms,
        perf::Breakpoint,
        tracefs::{self, Format},
    },
    model::{GapKind, SamplerCounts},
    settings::Settings,
};

const TRACER: &str = "hwlat";

/// Commits each record of the tracer to the trace buffer (`kernel/trace/trace.c`).
const COMMIT: &str = "trace_buffer_unlock_commit_nostack";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Hwlat {
    /// Read records from the trace buffer even where the breakpoint is to be had.
    pub from_buffer: bool,
}

impl Detector for Hwlat {
    fn name(&self) -> &'static str {
        TRACER
    }

    fn probe(&self) -> Availability {
        tracer::available(TRACER, "CONFIG_HWLAT_TRACER")
    }

    fn gap_kind(&self) -> GapKind {
        GapKind::WindowMax
    }

    fn irqs_off(&self, settings: &Settings) -> Duration {
        settings.width
    }

    fn start(&self, bpf: &mut Bpf, settings: &Settings) -> Result<Box<dyn Running>> {
        let mut tracer = Tracer::begin(TRACER)?;
        let format = Format::of(&tracer.tracing, "ftrace/hwlat")?;
        let layout = layout(&format, settings)?;
        tracer::reset(bpf, &tracer.tracing, layout, settings)?;
        let breakpoints = if self.from_buffer {
            None
        } else {
            breakpoints(bpf)
                .map_err(|error| {
                    tracer.warnings.push(format!(
                        "no breakpoint can be set in the kernel ({error:#}): hwlat's records are read from the trace buffer"
                    ));
                })
                .ok()
        };
        tracer.set_threshold(settings.threshold)?;
        tracer.set_timing("hwlat_detector/width", "hwlat_detector/window", settings)?;
        let mode = tracer.tracing.join("hwlat_detector/mode");
        // Absent on 5.10, which knows round-robin only.
        if mode.exists() {
            tracer.changes.set(mode, &settings.mode.to_string())?;
        }
        let mask = tracer.instance.join("tracing_cpumask");
        let was = tracefs::read(&mask)?.trim_end().to_owned();
        tracer.changes.write(&mask, &mask_of(&settings.cpus), was)?;
        tracer.start(TRACER)?;
        let source = match breakpoints {
            Some(breakpoints) => Source::Breakpoints(breakpoints),
            // Only now: while its buffer is open, an instance's tracer cannot be changed.
            None => Source::Buffer(Pipes::open(&tracer.instance, layout)?),
        };
        Ok(Box::new(Tracing {
            tracer: Some(tracer),
            source,
            rest: Vec::new(),
            settings: settings.clone(),
        }))
    }
}

fn layout(format: &Format, settings: &Settings) -> Result<TracerLayout> {
    let offset = |field| -> Result<u64> { Ok(format.field(field)?.offset.into()) };
    let epoch = Epoch::now();
    Ok(TracerLayout {
        hwlat_id: format.id.into(),
        hwlat_inner: offset("duration")?,
        hwlat_outer: offset("outer_duration")?,
        hwlat_nmi_ns: offset("nmi_total_ts")?,
        hwlat_nmi_count: offset("nmi_count")?,
        hwlat_steps_over: offset("count")?,
        hwlat_tv_sec: offset("tv_sec")?,
        hwlat_tv_nsec: offset("tv_nsec")?,
        wall_offset_ns: epoch.wall_less_monotonic_ns(),
        ..tracer::turns_layout("hwlatd", settings)
    })
}

/// A breakpoint on each CPU that is online, wherever the tracer's thread may go.
fn breakpoints(bpf: &mut Bpf) -> Result<Vec<Breakpoint>> {
    let address = kallsyms::address_of(COMMIT)?;
    let program = bpf.perf_event_program("hwlat")?;
    CpuList::online()?
        .iter()
        .map(|cpu| Ok(Breakpoint::open(address, cpu, program.as_fd())?))
        .collect()
}

/// The kernel's notation of a mask: hexadecimal, in groups of 32 CPUs, the highest first.
fn mask_of(cpus: &CpuList) -> String {
    let groups = cpus.highest().unwrap_or_default() / 32;
    (0..=groups)
        .rev()
        .map(|group| {
            let bits = cpus
                .iter()
                .filter(|cpu| cpu / 32 == group)
                .fold(0u32, |bits, cpu| bits | 1 << (cpu % 32));
            format!("{bits:08x}")
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// Where the records come from.
enum Source {
    /// Held for as long as the detector runs.
    Breakpoints(
        #[expect(dead_code, reason = "closing them is what dropping is for")] Vec<Breakpoint>,
    ),
    Buffer(Pipes),
    /// The detector has stopped.
    Closed,
}

/// The detector at work.
struct Tracing {
    tracer: Option<Tracer>,
    source: Source,
    /// Records read while stopping.
    rest: Vec<GapRecord>,
    settings: Settings,
}

impl Running for Tracing {
    fn noise(&self) -> Noise {
        Noise::default()
    }

    fn counts(&self, stats: &[CpuStats]) -> Vec<(u32, SamplerCounts)> {
        tracer::counts(&self.settings, stats)
    }

    fn records(&mut self) -> Result<Vec<GapRecord>> {
        match &mut self.source {
            Source::Buffer(pipes) => pipes.read(),
            Source::Breakpoints(_) | Source::Closed => Ok(std::mem::take(&mut self.rest)),
        }
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
            "the hwlat tracer was taken away by somebody else; what it found until then is reported above"
        );
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut tracer) = self.tracer.take() else {
            return Ok(());
        };
        // Breakpoints stay until the tracer has committed its last record; the buffer must be closed before the tracer
        // can be changed.
        if let Source::Buffer(pipes) = &mut self.source {
            self.rest = pipes.read()?;
            self.source = Source::Closed;
        }
        tracer.changes.undo_all()?;
        self.source = Source::Closed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_writes_them() {
        let mask = |list: &str| mask_of(&list.parse().expect(list));
        assert_eq!(mask("0"), "00000001");
        assert_eq!(mask("0-1"), "00000003");
        assert_eq!(mask("31-33"), "00000003,80000000");
    }
}
