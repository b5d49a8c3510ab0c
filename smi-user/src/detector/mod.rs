//! What finds gaps. One file for each detector, behind one trait.

pub mod hwlat;
pub mod osnoise;
pub mod spin;

mod away;
mod records;
mod tracer;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use smi_common::{CpuStats, GapRecord};

pub use tracer::at_work;

use crate::{
    bpf::Bpf,
    kernel::clock::Epoch,
    model::{GapKind, SamplerCounts},
    settings::{Mode, Settings},
};

/// Whether a detector can run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Yes, as far as can be told without starting it.
    Ready,
    /// No.
    Missing {
        /// What stands in the way.
        reason: String,
        /// What would help.
        remedy: String,
    },
}

/// A way to find gaps.
pub trait Detector {
    /// Its name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// Whether it can run here, and if not, why and what would help. Changes nothing.
    fn probe(&self) -> Availability;

    /// What its gaps are.
    fn gap_kind(&self) -> GapKind {
        GapKind::Gap
    }

    /// The mode to use where none was asked for; `preset` is what the preset has.
    fn default_mode(&self, preset: Mode) -> Mode {
        preset
    }

    /// Longest time it keeps interrupts off in one piece.
    fn irqs_off(&self, settings: &Settings) -> Duration {
        settings.irqs_off_max.min(settings.width)
    }

    /// How its threads are scheduled, for people.
    fn scheduling(&self, settings: &Settings) -> String {
        match settings.rt_priority {
            0 => "without real-time priority".to_owned(),
            priority => format!("at SCHED_FIFO priority {priority}"),
        }
    }

    /// Starts detecting. Gaps and stretches are counted in the maps of `bpf`.
    ///
    /// # Errors
    /// When the kernel refuses something; nothing is left changed then.
    fn start(&self, bpf: &mut Bpf, settings: &Settings) -> Result<Box<dyn Running>>;
}

/// A detector at work. Dropping it stops it too.
pub trait Running: Send {
    /// What was learned about this machine before the first window.
    fn noise(&self) -> Noise;

    /// Ties the times of its gaps to the wall clock.
    fn epoch(&self) -> Epoch {
        Epoch::now()
    }

    /// What its threads count by themselves, for each watched CPU; `stats` are the kernel's counts, by CPU.
    fn counts(&self, stats: &[CpuStats]) -> Vec<(u32, SamplerCounts)>;

    /// Whether its gaps are recorded within the kernel, as they happen.
    fn records_in_kernel(&self) -> bool {
        true
    }

    /// Gaps that were read by this process instead of being counted in the kernel, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn records(&mut self) -> Result<Vec<GapRecord>> {
        Ok(Vec::new())
    }

    /// What the user should know, in the order in which it happened; each is told once.
    fn warnings(&mut self) -> Vec<String>;

    /// Whether it still detects.
    ///
    /// # Errors
    /// Says what ended it.
    fn check(&mut self) -> Result<()>;

    /// Stops detecting, puts back what was changed; returns when no further gap can be counted.
    ///
    /// # Errors
    /// When a sampling thread failed on the way.
    fn stop(&mut self) -> Result<()>;
}

/// The loop's own step, measured with the detector's own program before the first window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// Mean time of one step, in ns.
    pub step_ns: f64,
    /// 99.99th percentile of the time of one step, in ns: the upper bound of its bucket. Gaps shorter than this
    /// cannot be told from the loop's own jitter.
    pub floor_ns: u64,
}

/// The detectors by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The best that works here, and says which and why
    #[default]
    Auto,
    /// Our own: a BPF program reads the clock with interrupts off; any kernel from 5.17 on
    Spin,
    /// The kernel's osnoise tracer, one event for each gap; with interrupts off from 6.1 on
    Osnoise,
    /// The kernel's hwlat tracer, read by a breakpoint: the longest gap of each window, in whole microseconds
    Hwlat,
    /// As hwlat, but read from the trace buffer
    HwlatBuffer,
    /// List the detectors and whether they can run here
    All,
}

/// The detectors, the best first.
pub fn detectors() -> [Box<dyn Detector>; 3] {
    [
        Box::new(spin::Spin),
        Box::new(osnoise::Osnoise { estimate: false }),
        Box::new(hwlat::Hwlat { from_buffer: false }),
    ]
}

/// The detector to use, and why it was chosen.
///
/// # Errors
/// When it cannot run here: says why and what would help.
pub fn choose(choice: Choice) -> Result<(Box<dyn Detector>, String)> {
    let detector: Box<dyn Detector> = match choice {
        Choice::Auto | Choice::All => return best(),
        Choice::Spin => Box::new(spin::Spin),
        Choice::Osnoise => Box::new(osnoise::Osnoise { estimate: false }),
        Choice::Hwlat => Box::new(hwlat::Hwlat { from_buffer: false }),
        Choice::HwlatBuffer => Box::new(hwlat::Hwlat { from_buffer: true }),
    };
    match detector.probe() {
        Availability::Ready => Ok((detector, "as asked".to_owned())),
        Availability::Missing { reason, remedy } => {
            bail!(
                "the {} detector cannot run: {reason}; {remedy}",
                detector.name()
            )
        }
    }
}

/// The first that can run here.
fn best() -> Result<(Box<dyn Detector>, String)> {
    let mut refusals = Vec::new();
    for detector in detectors() {
        match detector.probe() {
            Availability::Ready => {
                let why = if refusals.is_empty() {
                    "the most precise, and it runs here".to_owned()
                } else {
                    format!("the best that runs here; {}", refusals.join("; "))
                };
                return Ok((detector, why));
            }
            Availability::Missing { reason, remedy } => {
                refusals.push(format!(
                    "the {} detector cannot run: {reason}; {remedy}",
                    detector.name()
                ));
            }
        }
    }
    bail!("{}", refusals.join(". "))
}

/// A line for each detector: its name, whether it can run here, and if not why and what would help.
pub fn list() -> String {
    detectors()
        .iter()
        .map(|detector| match detector.probe() {
            Availability::Ready => format!("{:<8} can run here\n", detector.name()),
            Availability::Missing { reason, remedy } => {
                format!("{:<8} cannot run: {reason}; {remedy}\n", detector.name())
            }
        })
        .collect()
}
