//! Counts what is mapped and unmapped in the IOMMU.
//!
//! The tracepoints `iommu:map` and `iommu:unmap` tell of each, but not in which domain. Programs at the entries of the
//! functions that have these tracepoints hand that over ([`handoff`]).

mod changes;
mod groups;
mod handoff;
mod late;
mod live;
mod mapping;
mod nested;
mod record;
mod times;

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_F_NO_PREALLOC,
    helpers::generated::bpf_get_func_arg,
    macros::map,
    maps::{Array, PerCpuArray, PerCpuHashMap},
};
use smi_common::iommu::{DomainStats, IommuCpu, IommuKnobs};

pub use changes::*;
pub use groups::read_group;
pub use handoff::{attach_begins, map_begins, unmap_begins};
pub use mapping::{map, map_again, unmap, unmap_again};
pub use times::{timed_begins, timed_ends};

/// Domains that are counted apart: more than any machine seen has devices.
const DOMAINS: u32 = 4096;

/// What to look for; one entry.
#[map]
static IOMMU: Array<IommuKnobs> = Array::with_max_entries(1, 0);

/// Counts by the address of the domain. Room is made as it is needed: most machines have few domains, some have many CPUs.
type Rows = PerCpuHashMap<u64, DomainStats>;

/// What is counted.
#[map]
static IOMMU_DOMAINS: PerCpuHashMap<u64, DomainStats> =
    PerCpuHashMap::with_max_entries(DOMAINS, BPF_F_NO_PREALLOC);

/// What interrupts did while the program ran that counts into the others: it may be in the middle of a step.
#[map]
static IOMMU_NESTED: PerCpuHashMap<u64, DomainStats> =
    PerCpuHashMap::with_max_entries(DOMAINS, BPF_F_NO_PREALLOC);

/// What a domain begins with: too large for a program's stack.
#[map]
static IOMMU_NOTHING: Array<DomainStats> = Array::with_max_entries(1, 0);

/// What else is known of this CPU.
#[map]
static IOMMU_CPU: PerCpuArray<IommuCpu> = PerCpuArray::with_max_entries(1, 0);

/// The knobs.
#[inline(always)]
fn knobs() -> Option<&'static IommuKnobs> {
    IOMMU.get(0)
}

/// What else is known of this CPU.
#[inline(always)]
fn cpu() -> Option<&'static mut IommuCpu> {
    let cpu = IOMMU_CPU.get_ptr_mut(0)?;
    // SAFETY: a value of this CPU. The programs that change it run without being preempted; one that an interrupt runs within
    // another may undo a step of it, by which at worst a count of things seldom met is one too low.
    Some(unsafe { &mut *cpu })
}

/// The `n`th argument of the function at whose entry or exit the program runs, as a number: an argument that is a pointer to
/// something the kernel knows the type of may not be kept in a map.
#[inline(always)]
fn argument(ctx: &impl EbpfContext, n: u32) -> u64 {
    let mut value = 0;
    // SAFETY: the context is that of this program, and there is room for the value.
    unsafe { bpf_get_func_arg(ctx.as_ptr(), n, &raw mut value) };
    value
}
