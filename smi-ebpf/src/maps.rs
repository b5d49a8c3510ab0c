//! The maps, by the names under which user space finds them.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use smi_common::{CpuStats, GAPS_BYTES, Knobs, Sources, SpinSlot, TracerLayout};

/// `BPF_F_MMAPABLE`, `include/uapi/linux/bpf.h`.
const MMAPABLE: u32 = 1 << 10;

/// Settings; one entry.
#[map]
pub static KNOBS: Array<Knobs> = Array::with_max_entries(1, 0);

/// Everything counted; one entry for each CPU.
#[map]
pub static CPU_STATS: PerCpuArray<CpuStats> = PerCpuArray::with_max_entries(1, 0);

/// Sized by the loader to the number of possible CPUs.
#[map]
pub static SPIN_SLOTS: Array<SpinSlot> = Array::with_max_entries(1, MMAPABLE);

/// What is to be known of a kernel tracer; one entry.
#[map]
pub static TRACER: Array<TracerLayout> = Array::with_max_entries(1, 0);

/// Where causes are proven; one entry.
#[map]
pub static SOURCES: Array<Sources> = Array::with_max_entries(1, 0);

/// The newest single gaps.
#[map]
pub static GAPS: RingBuf = RingBuf::with_byte_size(GAPS_BYTES, 0);
