//! The hwlat detector: drives the kernel's hwlat tracer, one record for each window in which it saw a gap.
//!
//! A record is the *maximum* of its window, not one gap. It is read as the kernel commits it to the trace buffer, by a
//! breakpoint on each CPU; where the kernel refuses breakpoints in itself, from the buffer.

mod breakpoints;
mod pipe;

use std::time::Duration;

use anyhow::Result;
use smi_common::TracerLayout;

use self::{breakpoints::Breakpoints, pipe::Pipes};
use super::{
    Availability, Detector, Running,
    tracer::{self, Tracer, Tracing, whole_us},
};
use crate::{
    bpf::Bpf,
    kernel::{
        clock::Epoch,
        cpus::CpuList,
        tracefs::{self, Format},
    },
    model::GapKind,
    settings::{Mode, Settings},
};

const TRACER: &str = "hwlat";

/// Threshold in us of a tracer that was started without one (`DEFAULT_LAT_THRESHOLD`).
const DEFAULT_US: &str = "10";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Hwlat {
    /// Read records from the trace buffer even where the breakpoint is to be had.
    pub from_buffer: bool,
}

/// Has the kernel take the program that reads records, at a breakpoint on `cpu`, and takes it back.
///
/// # Errors
/// When the kernel refuses the program or the breakpoint, or hides its addresses; the detector reads the trace buffer
/// then.
pub fn try_breakpoint(bpf: &mut Bpf, cpu: u32) -> Result<()> {
    Breakpoints::set(bpf, &[cpu].into_iter().collect()).map(drop)
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
        let epoch = Epoch::now();
        let layout = layout(&format, &epoch, settings)?;
        // A breakpoint's program runs as an NMI does, and so does not wait for the ring buffer's lock.
        tracer::reset(
            bpf,
            &tracer.tracing,
            layout,
            settings,
            settings.records_per_s,
        )?;
        let online = CpuList::online()?;
        let breakpoints = if self.from_buffer {
            None
        } else {
            Breakpoints::set(bpf, &online)
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
        if mode.exists() {
            tracer.set_mode(mode, settings.mode)?;
        } else {
            // As on 5.10.
            anyhow::ensure!(
                settings.mode == Mode::RoundRobin,
                "this kernel's hwlat tracer takes the CPUs in turn only; use --mode round-robin, or --detector spin for {}",
                settings.mode
            );
        }
        let mask = tracer.instance.join("tracing_cpumask");
        let was = tracefs::read(&mask)?.trim_end().to_owned();
        tracer.changes.write(&mask, &mask_of(&settings.cpus), was)?;
        tracer.start(TRACER)?;
        // The tracer remembers the threshold it was stopped with, for when it is next started without one
        // (`hwlat_tracer_reset`). Undone first, this has it remember what it does from boot on.
        let threshold = whole_us("--threshold", settings.threshold)?.to_string();
        let path = tracer.tracing.join(tracer::THRESHOLD);
        tracer
            .changes
            .write(&path, &threshold, DEFAULT_US.to_owned())?;
        if let Some(breakpoints) = breakpoints {
            let running = Tracing::new(TRACER, tracer, breakpoints, online, settings);
            return Ok(Box::new(running.dated_by(epoch)));
        }
        // Only now: while its buffer is open, an instance's tracer cannot be changed.
        let pipes = Pipes::open(&tracer.instance, layout, &online)?;
        let running = Tracing::new(TRACER, tracer, pipes, online, settings);
        Ok(Box::new(running.dated_by(epoch)))
    }

    fn scheduling(&self, _settings: &Settings) -> String {
        tracer::SCHEDULING.to_owned()
    }
}

fn layout(format: &Format, epoch: &Epoch, settings: &Settings) -> Result<TracerLayout> {
    let offset = |field| -> Result<u64> { Ok(format.field(field)?.offset.into()) };
    Ok(TracerLayout {
        hwlat_id: format.id.into(),
        hwlat_inner: offset("duration")?,
        hwlat_outer: offset("outer_duration")?,
        // Whole us, whatever its name (`get_sample` in `kernel/trace/trace_hwlat.c`).
        hwlat_nmi_us: offset("nmi_total_ts")?,
        hwlat_nmi_count: offset("nmi_count")?,
        hwlat_steps_over: offset("count")?,
        hwlat_tv_sec: offset("tv_sec")?,
        hwlat_tv_nsec: offset("tv_nsec")?,
        wall_offset_ns: epoch.wall_less_monotonic_ns(),
        ..tracer::turns_layout("hwlatd", settings)
    })
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
