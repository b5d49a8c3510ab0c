//! Hardware's own count of SMIs. One file for each counter, behind one trait.
//!
//! Every counter belongs to one CPU. Most SMIs stop all CPUs at once and are counted by each of them, so counts of
//! several CPUs are never added up: they are shown one by one, and the highest stands for the machine.

pub mod cost;

mod amd;
mod events;
mod msr_device;
mod msr_pmu;

use std::os::fd::BorrowedFd;

use anyhow::{Error, bail};
use clap::ValueEnum;
use thiserror::Error;

use crate::{
    detector::Availability,
    kernel::{
        cpuid::Cpu,
        cpus::{CpuList, CpuListError},
        msr::MsrError,
        perf::{PerfError, paranoid},
        pmu::PmuError,
        process,
    },
};

/// A way to count SMIs.
pub trait Counter {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// What it reads, for people.
    fn source(&self) -> &'static str;

    /// Whether it can be had here, and if not, why and what would help. Changes nothing.
    fn probe(&self) -> Availability;

    /// Whether it counts every SMI once, by its maker's word.
    fn is_exact(&self) -> bool;

    /// Starts counting on these CPUs.
    ///
    /// # Errors
    /// When one of them is offline, or the kernel refuses.
    fn open(&self, cpus: &CpuList) -> Result<Box<dyn Counting>, CounterError>;
}

/// A counter at work.
pub trait Counting: Send {
    /// The count of one CPU, which only grows. Where it begins is the counter's affair: two readings tell how many SMIs
    /// came in between.
    ///
    /// # Errors
    /// When the CPU is not among those it was opened for or has gone offline since, even if it is back; when the reading
    /// is refused; when the counter did not count all the time.
    fn read(&mut self, cpu: u32) -> Result<u64, CounterError>;

    /// Its perf events by CPU, for BPF programs to read; none where it is no perf event.
    fn events(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        Vec::new()
    }
}

/// Why a count cannot be had.
#[derive(Debug, Error)]
pub enum CounterError {
    /// The counter was not opened for that CPU.
    #[error("SMIs of CPU {0} are not counted; name it when the counter is opened")]
    NotOpened(u32),
    /// The CPU has gone offline, and its counter with it.
    #[error(
        "CPU {0} went offline, which ended its count of SMIs; when it is back online, start counting anew"
    )]
    Offline(u32),
    /// The counter was shared.
    #[error(
        "SMIs of CPU {cpu} were counted only {percent:.1} % of the time, since other perf events took turns with the counter; end other users of perf there and try again"
    )]
    Multiplexed {
        /// The CPU.
        cpu: u32,
        /// Share of the time for which SMIs were counted.
        percent: f64,
    },
    /// The PMU is not what it was.
    #[error("the event that counts SMIs cannot be made out")]
    Pmu(#[from] PmuError),
    /// The perf event was refused.
    #[error("SMIs of CPU {cpu} cannot be counted by a perf event")]
    Event {
        /// The CPU.
        cpu: u32,
        /// What was refused.
        source: PerfError,
    },
    /// The MSR could not be read.
    #[error("the SMI count of CPU {cpu} cannot be read{}", remedy(.source))]
    Msr {
        /// The CPU.
        cpu: u32,
        /// What was refused.
        source: MsrError,
    },
    /// Which CPUs are online is not known.
    #[error(transparent)]
    Cpus(#[from] CpuListError),
}

/// What would help against a refusal.
fn remedy(error: &MsrError) -> &'static str {
    match error.errno() {
        Some(libc::ENOENT) => " (is the module msr still loaded? try modprobe msr)",
        Some(libc::EPERM | libc::EACCES) => " (it takes CAP_SYS_RAWIO; run it as root)",
        Some(libc::EIO) => " (this CPU or its hypervisor has no such register)",
        _ => "",
    }
}

/// What to bear in mind about any counter on this machine.
pub fn caveats(counter: &dyn Counter) -> Vec<&'static str> {
    caveats_on(counter.is_exact(), Cpu::this().hypervisor)
}

fn caveats_on(exact: bool, hypervisor: bool) -> Vec<&'static str> {
    let mut caveats = Vec::new();
    if hypervisor {
        caveats.push(
            "this is a virtual machine: the count is its own virtual one, and SMIs of the host are not in it",
        );
    }
    if !exact {
        caveats
            .push("the count is not exact: this event may miss SMIs or count one more than once");
    }
    caveats
}

/// The counters by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The best that can be had here
    #[default]
    Auto,
    /// Intel's MSR 0x34, by the kernel's msr PMU
    MsrPmu,
    /// AMD's event 0x2B of the core PMU, from Zen 2 on; not exact
    LsSmiRx,
    /// Intel's MSR 0x34, by the module msr: compared with the gaps of each interval only
    MsrDevice,
    /// No counter: no gap is proven to be an SMI
    None,
}

/// The counter of that choice; `None` when none is wanted.
///
/// # Errors
/// When it cannot be had here: says why, and what would help.
pub fn chosen(choice: Choice) -> Result<Option<Box<dyn Counter>>, Error> {
    let counter: Box<dyn Counter> = match choice {
        Choice::Auto => return choose().map(Some),
        Choice::None => return Ok(None),
        Choice::MsrPmu => Box::new(msr_pmu::MsrPmu),
        Choice::LsSmiRx => Box::new(amd::LsSmiRx),
        Choice::MsrDevice => Box::new(msr_device::MsrDevice),
    };
    match counter.probe() {
        Availability::Ready => Ok(Some(counter)),
        Availability::Missing { reason, remedy } => bail!(
            "SMIs cannot be counted by {}: {reason}; {remedy}",
            counter.source()
        ),
    }
}

/// The counters, the best first.
pub fn counters() -> [Box<dyn Counter>; 3] {
    [
        Box::new(msr_pmu::MsrPmu),
        Box::new(amd::LsSmiRx),
        Box::new(msr_device::MsrDevice),
    ]
}

/// Whether the counter of that name opens `/dev/cpu/N/msr`, which takes `CAP_SYS_RAWIO`.
pub fn reads_registers(name: &str) -> bool {
    name == msr_device::NAME
}

/// The best counter that can be had here.
///
/// # Errors
/// When there is none: says of each why, and what would help.
pub fn choose() -> Result<Box<dyn Counter>, Error> {
    let mut refusals = Vec::new();
    for counter in counters() {
        match counter.probe() {
            Availability::Ready => return Ok(counter),
            Availability::Missing { reason, remedy } => {
                refusals.push(format!("{}: {reason}; {remedy}", counter.name()));
            }
        }
    }
    Err(Error::msg(refusals.join(". ")))
}

/// A refusal.
fn missing(reason: impl Into<String>, remedy: impl Into<String>) -> Availability {
    Availability::Missing {
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

/// Whether this process may count what happens on whole CPUs.
fn may_count_cpus() -> Availability {
    if !process::Capabilities::own().has(process::CAP_PERFMON) {
        return missing(
            "this process lacks CAP_PERFMON",
            "run it as root, for example with sudo",
        );
    }
    match paranoid::in_the_way() {
        Some(reason) => missing(reason, paranoid::REMEDY),
        None => Availability::Ready,
    }
}

/// Whether `open` works on the first CPU that is online, which it is closed on again at once.
fn try_open(counter: &dyn Counter) -> Availability {
    let opened = CpuList::online()
        .map_err(CounterError::from)
        .map(|online| online.iter().take(1).collect::<CpuList>())
        .and_then(|first| counter.open(&first)?.read(first.highest().unwrap_or(0)));
    match opened {
        Ok(_) => Availability::Ready,
        Err(error) => missing(
            format!("{:#}", Error::from(error)),
            "see whether a hypervisor or a security policy (seccomp) withholds it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_count_leaves_out_is_said() {
        assert!(caveats_on(true, false).is_empty());
        let [virtual_count, inexact] = caveats_on(false, true)[..] else {
            panic!("two of them");
        };
        assert!(virtual_count.contains("SMIs of the host are not in it"));
        assert!(inexact.contains("not exact"));
    }

    #[test]
    fn the_best_comes_first_and_only_amds_is_inexact() {
        let names: Vec<_> = counters().iter().map(|counter| counter.name()).collect();
        assert_eq!(names, ["msr/smi", "ls_smi_rx", "MSR 0x34"]);
        let inexact: Vec<_> = counters()
            .iter()
            .filter(|counter| !counter.is_exact())
            .map(|counter| counter.name())
            .collect();
        assert_eq!(inexact, ["ls_smi_rx"]);
    }
}
