//! Loads the BPF object, reads and writes its maps. Nothing else touches aya.

mod events;
mod slots;

use std::{
    error::Error,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr, thread,
    time::Duration,
};

use aya::{
    EbpfLoader, Pod, VerifierLogLevel,
    maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{PerfEvent, Program, ProgramError, RawTracePoint, TracePoint},
    sys::{Stats, enable_stats},
};
use aya_log::EbpfLogger;
use log::LevelFilter;
use smi_common::{CpuStats, GapRecord, Knobs, Sources, TracerLayout};
use thiserror::Error;

pub use slots::{Slot, SpinSlots};

use crate::{model::BpfCost, units::ns};

/// The shipped object, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smilat-bpf"));

/// How often a copy of the statistics is taken again when a change was under way. A change takes well under 1 µs, so
/// a second try nearly always finds none; but the very gaps that are looked for can fall into one and last long.
const CONSISTENT_TRIES: u32 = 200;
/// Pause before a further try, after the first few.
const CONSISTENT_PAUSE: Duration = Duration::from_millis(5);

/// A failed step with the BPF object.
#[derive(Debug, Error)]
pub enum BpfError {
    /// The kernel, or aya before asking it, refused something. With `-v` the whole of it is logged, verifier output
    /// included.
    #[error("cannot {step}: {message}")]
    Refused {
        /// What was to be done.
        step: String,
        /// The reason, in one line.
        message: String,
        /// The system's error number, if the system was asked.
        errno: Option<i32>,
    },
    /// The object lacks a map or program of that name.
    #[error("the BPF object has no \"{0}\"; it does not belong to this binary")]
    Missing(&'static str),
    /// The statistics changed under every copy.
    #[error(
        "the statistics of CPU {0} changed during each of {CONSISTENT_TRIES} copies; raise the threshold"
    )]
    Torn(usize),
}

impl BpfError {
    /// A refusal while trying to `step`.
    fn refused(step: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        log::debug!("{error}");
        let mut cause = Some(error);
        let mut system = None;
        while let Some(error) = cause {
            system = system.or(error.downcast_ref::<io::Error>());
            cause = error.source();
        }
        let message = system.map_or_else(|| error.to_string(), ToString::to_string);
        Self::Refused {
            step: step.into(),
            message: message.lines().next().unwrap_or_default().to_owned(),
            errno: system.and_then(io::Error::raw_os_error),
        }
    }

    /// A failed operation on the map `name`.
    fn map(name: &str) -> impl Fn(MapError) -> Self {
        move |error| Self::refused(format!("use the BPF map {name}"), &error)
    }

    /// The system's error number behind this, if the system was asked.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => *errno,
            Self::Missing(_) | Self::Torn(_) => None,
        }
    }
}

/// `Pod` for types of another crate.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Shared<T>(T);
// SAFETY: `repr(C)`, integers only.
unsafe impl Pod for Shared<Knobs> {}
// SAFETY: as above.
unsafe impl Pod for Shared<CpuStats> {}
// SAFETY: as above.
unsafe impl Pod for Shared<TracerLayout> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Sources> {}

/// The loaded object.
pub struct Bpf {
    cpus: usize,
    ebpf: aya::Ebpf,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    knobs: Array<MapData, Shared<Knobs>>,
    stats: PerCpuArray<MapData, Shared<CpuStats>>,
    gaps: RingBuf<MapData>,
    tracer: Array<MapData, Shared<TracerLayout>>,
    sources: Array<MapData, Shared<Sources>>,
    /// Has the kernel measure the programs' runs while it is open.
    measuring: Option<OwnedFd>,
}

impl Bpf {
    /// Loads the shipped object, with room for CPUs up to `highest_cpu`.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege, no BPF, or too old.
    pub fn load(highest_cpu: u32) -> Result<Self, BpfError> {
        Self::load_object(OBJECT, highest_cpu)
    }

    /// Loads another object with the same maps; for tests.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_object(object: &[u8], highest_cpu: u32) -> Result<Self, BpfError> {
        let diagnostics = log::max_level() >= LevelFilter::Debug;
        let level: u8 = if diagnostics {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        let mut ebpf = EbpfLoader::new()
            // No program is relocated against the kernel's types, so its BTF is neither needed nor read.
            .btf(None)
            .verifier_log_level(if diagnostics {
                VerifierLogLevel::default()
            } else {
                VerifierLogLevel::STATS
            })
            .override_global("AYA_LOG_LEVEL", &level, false)
            .map_max_entries("SPIN_SLOTS", highest_cpu + 1)
            .map_max_entries("SMI_EVENTS", highest_cpu + 1)
            .load(object)
            .map_err(|error| BpfError::refused("load the BPF object", &error))?;
        let logger = if diagnostics {
            Some(EbpfLogger::init(&mut ebpf).map_err(|error| {
                BpfError::refused("read the diagnostics of the BPF programs", &error)
            })?)
        } else {
            None
        };
        Ok(Self {
            cpus: highest_cpu as usize + 1,
            logger,
            knobs: take(&mut ebpf, "KNOBS")?,
            stats: take(&mut ebpf, "CPU_STATS")?,
            gaps: take(&mut ebpf, "GAPS")?,
            tracer: take(&mut ebpf, "TRACER")?,
            sources: take(&mut ebpf, "SOURCES")?,
            measuring: None,
            ebpf,
        })
    }

    /// The object as aya has it; for tests that bring maps of their own.
    pub fn ebpf_mut(&mut self) -> &mut aya::Ebpf {
        &mut self.ebpf
    }

    /// Has the kernel verify and take the perf event program `name`, once; returns its descriptor.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn perf_event_program(&mut self, name: &'static str) -> Result<BorrowedFd<'_>, BpfError> {
        let refused = refused_program(name);
        let program: &mut PerfEvent = self.program(name)?.try_into().map_err(&refused)?;
        if program.fd().is_err() {
            program.load().map_err(&refused)?;
        }
        Ok(program.fd().map_err(&refused)?.as_fd())
    }

    /// Has the kernel run the tracepoint program `name` at `category:event`.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn attach_tracepoint(
        &mut self,
        name: &'static str,
        category: &str,
        event: &str,
    ) -> Result<(), BpfError> {
        let refused = refused_program(name);
        let program: &mut TracePoint = self.program(name)?.try_into().map_err(&refused)?;
        program.load().map_err(&refused)?;
        program.attach(category, event).map_err(&refused)?;
        Ok(())
    }

    /// Has the kernel run the raw tracepoint program `name` at `event`.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn attach_raw_tracepoint(
        &mut self,
        name: &'static str,
        event: &str,
    ) -> Result<(), BpfError> {
        let refused = refused_program(name);
        let program: &mut RawTracePoint = self.program(name)?.try_into().map_err(&refused)?;
        program.load().map_err(&refused)?;
        program.attach(event).map_err(&refused)?;
        Ok(())
    }

    /// Has the kernel verify and take the program `name`, without having it run.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn verify(&mut self, name: &'static str) -> Result<(), BpfError> {
        let loaded = match self.program(name)? {
            Program::PerfEvent(program) => program.load(),
            Program::TracePoint(program) => program.load(),
            Program::RawTracePoint(program) => program.load(),
            _ => return Err(BpfError::Missing(name)),
        };
        loaded.map_err(refused_program(name))
    }

    fn program(&mut self, name: &'static str) -> Result<&mut Program, BpfError> {
        self.ebpf.program_mut(name).ok_or(BpfError::Missing(name))
    }

    /// Tells the programs that follow a kernel tracer about this kernel.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_tracer(&mut self, layout: TracerLayout) -> Result<(), BpfError> {
        self.tracer
            .set(0, Shared(layout), 0)
            .map_err(BpfError::map("TRACER"))
    }

    /// Tells the programs where causes are proven.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_sources(&mut self, sources: Sources) -> Result<(), BpfError> {
        self.sources
            .set(0, Shared(sources), 0)
            .map_err(BpfError::map("SOURCES"))
    }

    /// Has the programs on `cpu` read `event`, which counts that CPU's SMIs.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn set_smi_event(&mut self, cpu: u32, event: BorrowedFd<'_>) -> Result<(), BpfError> {
        const NAME: &str = "SMI_EVENTS";
        let Some(Map::PerfEventArray(map)) = self.ebpf.map(NAME) else {
            return Err(BpfError::Missing(NAME));
        };
        events::put(map.fd().as_fd(), cpu, event)
            .map_err(|error| BpfError::refused(format!("use the BPF map {NAME}"), &error))
    }

    /// Maps the slots of the spin program into memory.
    ///
    /// # Errors
    /// When the kernel refuses the mapping.
    pub fn spin_slots(&self) -> Result<SpinSlots, BpfError> {
        const NAME: &str = "SPIN_SLOTS";
        let Some(Map::Array(map)) = self.ebpf.map(NAME) else {
            return Err(BpfError::Missing(NAME));
        };
        SpinSlots::new(map.fd().as_fd(), self.cpus)
            .map_err(|error| BpfError::refused("map SPIN_SLOTS into memory", &error))
    }

    /// The knobs as the kernel has them.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn knobs(&self) -> Result<Knobs, BpfError> {
        self.knobs
            .get(&0, 0)
            .map(|Shared(knobs)| knobs)
            .map_err(BpfError::map("KNOBS"))
    }

    /// Sets the knobs; the programs follow from the next stretch or gap on.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_knobs(&mut self, knobs: Knobs) -> Result<(), BpfError> {
        self.knobs
            .set(0, Shared(knobs), 0)
            .map_err(BpfError::map("KNOBS"))
    }

    /// A copy of the statistics of every possible CPU, by CPU number. Each CPU's copy is consistent in itself.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stats(&self) -> Result<Vec<CpuStats>, BpfError> {
        let mut all = self.copy_stats()?;
        for tried in 1..CONSISTENT_TRIES {
            if all.iter().all(CpuStats::is_consistent) {
                return Ok(all);
            }
            if tried > 3 {
                thread::sleep(CONSISTENT_PAUSE);
            }
            for (kept, new) in all.iter_mut().zip(self.copy_stats()?) {
                if !kept.is_consistent() {
                    *kept = new;
                }
            }
        }
        match all.iter().position(|stats| !stats.is_consistent()) {
            Some(cpu) => Err(BpfError::Torn(cpu)),
            None => Ok(all),
        }
    }

    fn copy_stats(&self) -> Result<Vec<CpuStats>, BpfError> {
        let values = self.stats.get(&0, 0).map_err(BpfError::map("CPU_STATS"))?;
        Ok(values.iter().map(|Shared(stats)| *stats).collect())
    }

    /// Sets the statistics of every CPU to zero. Only while no program runs.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn reset_stats(&mut self) -> Result<(), BpfError> {
        let failed = BpfError::map("CPU_STATS");
        let cpus = self.stats.get(&0, 0).map_err(&failed)?.len();
        let zero = aya::maps::PerCpuValues::try_from(vec![Shared(CpuStats::default()); cpus])
            .map_err(|error| failed(MapError::IoError(error)))?;
        self.stats.set(0, zero, 0).map_err(failed)
    }

    /// Has the kernel measure the runs of all BPF programs of the machine while this object lives.
    ///
    /// # Errors
    /// When the kernel refuses: takes `CAP_SYS_ADMIN`.
    pub fn measure_cost(&mut self) -> Result<(), BpfError> {
        let measuring = enable_stats(Stats::RunTime)
            .map_err(|error| BpfError::refused("measure the BPF programs (--bpf-stats)", &error))?;
        self.measuring = Some(measuring);
        Ok(())
    }

    /// What the programs of this object took so far; `None` while nothing measures it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn cost(&self) -> Result<Option<BpfCost>, BpfError> {
        if self.measuring.is_none() {
            return Ok(None);
        }
        let mut cost = BpfCost::default();
        for (name, program) in self.ebpf.programs() {
            if program.fd().is_err() {
                continue;
            }
            let info = program.info().map_err(refused_program(name))?;
            cost.runs += info.run_count();
            cost.run_ns += ns(info.run_time());
        }
        Ok(Some(cost))
    }

    /// Takes the single gaps that wait in the ring buffer, oldest first, and passes on the programs' diagnostics.
    pub fn take_gaps(&mut self, mut each: impl FnMut(GapRecord)) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        while let Some(item) = self.gaps.next() {
            if item.len() == size_of::<GapRecord>() {
                // SAFETY: the program writes exactly this struct, integers only; the size was checked.
                each(unsafe { ptr::read_unaligned(item.as_ptr().cast()) });
            }
        }
    }
}

/// The refusal of the program `name`.
fn refused_program(name: &str) -> impl Fn(ProgramError) -> BpfError {
    move |error| BpfError::refused(format!("run the BPF program {name}"), &error)
}

/// Takes the map `name` out of the object, as a `T`.
fn take<T>(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<T, BpfError>
where
    T: TryFrom<aya::maps::Map, Error = MapError>,
{
    ebpf.take_map(name)
        .ok_or(BpfError::Missing(name))?
        .try_into()
        .map_err(BpfError::map(name))
}
