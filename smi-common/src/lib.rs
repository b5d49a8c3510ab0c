//! What the kernel side (`smi-ebpf`) and the user side (`smi-user`) must agree on: the layout of every map value and
//! the bounds of the histogram.
//!
//! Every struct is `repr(C)` with explicit padding, so that both compilers see the same bytes. Durations and times are
//! nanoseconds of `CLOCK_MONOTONIC` as `bpf_ktime_get_ns()` reads it (`kernel/time/timekeeping.c`,
//! `ktime_get_mono_fast_ns`).

#![no_std]

pub mod buckets;
pub mod cause;
pub mod iommu;
pub mod irqsoff;
mod layout;

pub use layout::{
    CauseCounts, CauseTotals, CpuStats, Extremes, GAPS_BYTES, GAPS_HELD, GapRecord, GapTotals,
    Knobs, MAX_STRETCH_NS, Moves, RqPath, Sources, SpinSlot, StretchTotals, TracerLayout,
    TracerTotals,
};
