//! A loaded BPF object: its programs, and what all of smilat's objects have.

use std::{
    error::Error,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use aya::{
    Btf, EbpfLoader, VerifierLogLevel,
    maps::{Array, Map, MapError},
    programs::{
        FEntry, FExit, PerfEvent, Program, ProgramError, RawTracePoint, RawTracePointRunOptions,
        TestRun as _, TracePoint,
    },
    sys::{Stats, enable_stats},
};
use aya_log::EbpfLogger;
use log::LevelFilter;
use smi_common::Sources;
use thiserror::Error;

use super::{Shared, events};
use crate::{model::BpfCost, units::ns};

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
    pub(super) fn refused(step: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
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
    pub(super) fn map(name: &str) -> impl Fn(MapError) -> Self {
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

/// A loaded object.
pub struct Object {
    ebpf: aya::Ebpf,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Has the kernel measure the programs' runs while it is open.
    measuring: Option<OwnedFd>,
}

impl Object {
    /// Loads `object`, with `max_entries` for maps whose size is that of the machine.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege, no BPF, or too old.
    pub(super) fn load(object: &[u8], max_entries: &[(&str, u32)]) -> Result<Self, BpfError> {
        let diagnostics = log::max_level() >= LevelFilter::Debug;
        let level: u8 = if diagnostics {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        let mut loader = EbpfLoader::new();
        loader
            // No program is relocated against the kernel's types, so its BTF is neither needed nor read.
            .btf(None)
            .verifier_log_level(if diagnostics {
                VerifierLogLevel::default()
            } else {
                VerifierLogLevel::STATS
            })
            .override_global("AYA_LOG_LEVEL", &level, false);
        for (map, entries) in max_entries {
            loader.map_max_entries(map, *entries);
        }
        let mut ebpf = loader
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
            logger,
            measuring: None,
            ebpf,
        })
    }

    /// Takes the map `name` out of the object, as a `T`.
    pub(super) fn take<T>(&mut self, name: &'static str) -> Result<T, BpfError>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        take(&mut self.ebpf, name)
    }

    /// Passes on the programs' diagnostics.
    pub(super) fn flush(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// The object as aya has it.
    pub(super) fn ebpf(&self) -> &aya::Ebpf {
        &self.ebpf
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

    /// Has the kernel run the raw tracepoint program `name` at `event`, beside those it runs at already.
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
        if program.fd().is_err() {
            program.load().map_err(&refused)?;
        }
        program.attach(event).map_err(&refused)?;
        Ok(())
    }

    /// Has the kernel run the program `name` at the entry of its function `function`, which its types, `btf`, describe.
    ///
    /// # Errors
    /// When the kernel refuses it, or has no such function.
    pub fn attach_entry(
        &mut self,
        name: &'static str,
        function: &str,
        btf: &Btf,
    ) -> Result<(), BpfError> {
        let refused = refused_program(name);
        let program: &mut FEntry = self.program(name)?.try_into().map_err(&refused)?;
        program.load(function, btf).map_err(&refused)?;
        program.attach().map_err(&refused)?;
        Ok(())
    }

    /// Has the kernel run the program `name` at the end of its function `function`.
    ///
    /// # Errors
    /// As [`Self::attach_entry`].
    pub fn attach_end(
        &mut self,
        name: &'static str,
        function: &str,
        btf: &Btf,
    ) -> Result<(), BpfError> {
        let refused = refused_program(name);
        let program: &mut FExit = self.program(name)?.try_into().map_err(&refused)?;
        program.load(function, btf).map_err(&refused)?;
        program.attach().map_err(&refused)?;
        Ok(())
    }

    /// Runs the raw tracepoint program `name` once, as if its tracepoint had been met with `argument`.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn call(&mut self, name: &'static str, argument: u64) -> Result<(), BpfError> {
        let refused = refused_program(name);
        let program: &mut RawTracePoint = self.program(name)?.try_into().map_err(&refused)?;
        if program.fd().is_err() {
            program.load().map_err(&refused)?;
        }
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = argument;
        program.test_run(options).map_err(&refused)?;
        Ok(())
    }

    /// The descriptor of the program `name`; `None` while it is not loaded.
    pub(super) fn raw_tracepoint_fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        let Program::RawTracePoint(program) = self.ebpf.program(name)? else {
            return None;
        };
        program.fd().ok().map(|fd| fd.as_fd())
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

    /// Tells the programs where causes are proven.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_sources(&mut self, sources: Sources) -> Result<(), BpfError> {
        const NAME: &str = "SOURCES";
        let failed = BpfError::map(NAME);
        let map = self.ebpf.map_mut(NAME).ok_or(BpfError::Missing(NAME))?;
        let mut map: Array<_, Shared<Sources>> = map.try_into().map_err(&failed)?;
        map.set(0, Shared(sources), 0).map_err(failed)
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

/// Copies of all values that `read` reads, each taken while no change of it was under way.
pub(super) fn consistent<T>(
    read: impl Fn() -> Result<Vec<T>, BpfError>,
    is_consistent: impl Fn(&T) -> bool,
) -> Result<Vec<T>, BpfError> {
    let mut all = read()?;
    for tried in 1..CONSISTENT_TRIES {
        if all.iter().all(&is_consistent) {
            return Ok(all);
        }
        if tried > 3 {
            thread::sleep(CONSISTENT_PAUSE);
        }
        for (kept, new) in all.iter_mut().zip(read()?) {
            if !is_consistent(kept) {
                *kept = new;
            }
        }
    }
    match all.iter().position(|stats| !is_consistent(stats)) {
        Some(cpu) => Err(BpfError::Torn(cpu)),
        None => Ok(all),
    }
}
