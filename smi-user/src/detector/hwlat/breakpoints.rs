//! hwlat's records as the kernel commits them: a breakpoint on each CPU runs the BPF program that counts them.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

use crate::{
    bpf::Bpf,
    detector::tracer::Source,
    kernel::{
        cpus::CpuList,
        kallsyms,
        perf::{Breakpoint, PerfError},
    },
};

/// Commits each record of the tracer to the trace buffer (`kernel/trace/trace.c`).
const COMMIT: &str = "trace_buffer_unlock_commit_nostack";

/// Name of the program in the BPF object.
const PROGRAM: &str = "hwlat";

/// The breakpoints, by CPU.
pub(super) struct Breakpoints {
    address: u64,
    program: OwnedFd,
    set: BTreeMap<u32, Breakpoint>,
    /// CPUs that were told to have none.
    told: BTreeSet<u32>,
}

impl Breakpoints {
    /// Sets one on each CPU of `online`, wherever the tracer's threads may go.
    ///
    /// # Errors
    /// When the kernel hides its addresses or refuses breakpoints in itself.
    pub(super) fn set(bpf: &mut Bpf, online: &CpuList) -> Result<Self> {
        let program = bpf
            .perf_event_program(PROGRAM)?
            .try_clone_to_owned()
            .context("cannot duplicate the program's descriptor")?;
        let mut breakpoints = Self {
            address: kallsyms::address_of(COMMIT)?,
            program,
            set: BTreeMap::new(),
            told: BTreeSet::new(),
        };
        for cpu in online.iter() {
            breakpoints.set_on(cpu)?;
        }
        Ok(breakpoints)
    }

    fn set_on(&mut self, cpu: u32) -> Result<(), PerfError> {
        let breakpoint = Breakpoint::open(self.address, cpu, self.program.as_fd())?;
        self.set.insert(cpu, breakpoint);
        Ok(())
    }
}

impl Source for Breakpoints {
    const IN_KERNEL: bool = true;

    /// The kernel takes the breakpoints of a CPU that goes offline away for good (`perf_event_exit_cpu_context` in
    /// `kernel/events/core.c`).
    fn follow(&mut self, online: &CpuList) -> Vec<String> {
        self.set.retain(|cpu, _| online.contains(*cpu));
        let missing: Vec<u32> = online
            .iter()
            .filter(|cpu| !self.set.contains_key(cpu))
            .collect();
        missing
            .into_iter()
            .filter_map(|cpu| {
                let Err(error) = self.set_on(cpu) else {
                    self.told.remove(&cpu);
                    return None;
                };
                let error = anyhow::Error::from(error);
                self.told.insert(cpu).then(|| format!(
                    "no breakpoint can be set on CPU {cpu} ({error:#}): hwlat's records of that CPU are not seen"
                ))
            })
            .collect()
    }
}
