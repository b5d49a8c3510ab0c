//! Steal: the time for which a hypervisor had a CPU of this machine ready to run and ran something else.
//!
//! KVM writes it in ns into a per-CPU variable of the guest, `steal_time` (`arch/x86/kernel/kvm.c`), before it lets the CPU
//! run again. So it is up to date at any moment the guest can look, while the kernel's own account of it, `/proc/stat`,
//! follows only with the tick.

use std::{fs, io};

use smi_common::RqPath;
use thiserror::Error;

use super::{
    btf::{Btf, BtfError},
    per_cpu,
};

/// What the kernel was booted with.
const COMMAND_LINE: &str = "/proc/cmdline";

/// Leaves at which hypervisors present themselves to `CPUID` (`hypervisor_cpuid_base` in
/// `arch/x86/include/asm/processor.h`).
#[cfg(target_arch = "x86_64")]
const LEAVES: std::ops::Range<u32> = 0x4000_0000..0x4001_0000;
#[cfg(target_arch = "x86_64")]
const LEAF_STEP: usize = 0x100;
#[cfg(target_arch = "x86_64")]
const SIGNATURE: &[u8; 12] = b"KVMKVMKVM\0\0\0";
/// `KVM_FEATURE_STEAL_TIME` (`Documentation/virt/kvm/x86/cpuid.rst`).
#[cfg(target_arch = "x86_64")]
const STEAL_TIME: u32 = 1 << 5;

/// Why steal is not told.
#[derive(Debug, Error)]
pub enum StealError {
    /// No hypervisor that writes it.
    #[error("no KVM below this machine tells it")]
    Untold,
    /// The kernel was told not to ask for it.
    #[error("the kernel was booted with no-steal-acc")]
    SwitchedOff,
    /// It is not known what the kernel was told.
    #[error("cannot read {COMMAND_LINE}, which may switch it off")]
    CommandLine(#[source] io::Error),
    /// The variable cannot be found.
    #[error(transparent)]
    Btf(#[from] BtfError),
}

/// How a BPF program comes from the running thread to its CPU's `steal_time`; all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// To its CPU's `rq`.
    pub rq: RqPath,
    /// From a CPU's `rq` to its `steal_time`, modulo 2^64.
    pub rq_steal_time: u64,
}

impl Path {
    /// The one of this kernel.
    ///
    /// # Errors
    /// When no hypervisor tells steal here, the kernel may have been told not to ask, or does not describe its types.
    pub fn find() -> Result<Self, StealError> {
        if !told() {
            return Err(StealError::Untold);
        }
        let options = fs::read_to_string(COMMAND_LINE).map_err(StealError::CommandLine)?;
        if options
            .split_whitespace()
            .any(|option| option == "no-steal-acc")
        {
            return Err(StealError::SwitchedOff);
        }
        let btf = Btf::kernel()?;
        Ok(Self {
            rq: per_cpu::rq(&btf)?,
            rq_steal_time: per_cpu::from_rq(&btf, "steal_time")?,
        })
    }
}

/// Whether KVM says that it tells steal.
#[cfg(target_arch = "x86_64")]
fn told() -> bool {
    use std::arch::x86_64::__cpuid;
    super::cpuid::Cpu::this().hypervisor
        && LEAVES
            .step_by(LEAF_STEP)
            .find(|leaf| {
                let present = __cpuid(*leaf);
                [present.ebx, present.ecx, present.edx]
                    .iter()
                    .flat_map(|register| register.to_le_bytes())
                    .eq(SIGNATURE.iter().copied())
            })
            .is_some_and(|leaf| __cpuid(leaf + 1).eax & STEAL_TIME != 0)
}

/// Whether KVM says that it tells steal.
#[cfg(not(target_arch = "x86_64"))]
fn told() -> bool {
    false
}
