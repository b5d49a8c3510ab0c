//! Finds stretches in which software kept a CPU from being interrupted or preempted.
//!
//! A timer of our own ticks on each CPU. A tick that comes late tells of interrupts that were off, and it comes the moment
//! they are on again; ticks that come in time, but one after the other under code that cannot be preempted, tell of that
//! code. What handlers ran and what the scheduler did meanwhile is noted by programs at the kernel's tracepoints.

mod section;
mod self_test;
mod tick;
mod trace;

use core::cell::Cell;

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, PerfEventArray, RingBuf},
};
use smi_common::irqsoff::{FRAMES, Handler, IrqsoffStats, Own, TRACE, TraceEntry, Watch};

pub use self_test::self_test;
pub use tick::tick;
pub use trace::*;

use crate::memory::marked;
use section::Section;
use tick::Found;

/// Room for some 150 events, held until user space fetches them. A power of two.
const RECORDS_BYTES: u32 = 256 * 1024;

/// What to look for; one entry.
#[map]
static IRQSOFF: Array<Watch> = Array::with_max_entries(1, 0);

/// Everything counted; one entry for each CPU.
#[map]
static IRQSOFF_STATS: PerCpuArray<IrqsoffStats> = PerCpuArray::with_max_entries(1, 0);

/// Events, and what CPUs were doing when they were asked.
#[map]
static IRQSOFF_RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// User space adds one to have each CPU tell at its next tick what it does.
#[map]
static IRQSOFF_ASKED: Array<u64> = Array::with_max_entries(1, 0);

/// How our timers are known.
#[map]
static IRQSOFF_OWN: Array<Own> = Array::with_max_entries(1, 0);

/// Wakes up a thread on this CPU that preempts whatever can be preempted; by the CPU's number.
#[map]
static IRQSOFF_PROBES: PerfEventArray<u8> = PerfEventArray::new(0);

/// What is known of this CPU.
#[map]
static IRQSOFF_CPU: PerCpuArray<Cpu> = PerCpuArray::with_max_entries(1, 0);

/// What the programs on a CPU keep from one another's runs. Cells, since several of them, and functions that the verifier
/// checks by themselves, have hold of it at the same time.
#[repr(C)]
struct Cpu {
    /// When the tick before had come and all counters were read; 0 before the first.
    last_tick_ns: Cell<u64>,
    /// The newest moment at which interrupts are known to have been on.
    open_ns: Cell<u64>,
    /// When the high-resolution timer was due whose callback runs.
    due_ns: Cell<u64>,
    /// Where the timer is whose callback runs.
    hrtimer_at: Cell<u64>,
    /// 1 when the program ran at the tick under way.
    ticked: Cell<u64>,
    /// When the tick before was over.
    left_ns: Cell<u64>,
    /// What runs; `what` is 0 where nothing of the kind does.
    hrtimer: Cell<Handler>,
    timer: Cell<Handler>,
    softirq: Cell<Handler>,
    irq: Cell<Handler>,
    call: Cell<Handler>,
    work: Cell<Handler>,
    /// What has run for longest since the tick before, of all that is over.
    longest: Cell<Handler>,
    /// Switches from one thread to another.
    switches: Cell<u64>,
    /// Runs of softirqs' handlers.
    softirqs: Cell<u64>,
    /// When the CPU went idle last.
    idle_began_ns: Cell<u64>,
    /// When it ended being so.
    idle_ended_ns: Cell<u64>,
    /// Address of this CPU's `rq`; 0 while it is not known.
    rq: Cell<u64>,
    /// The counts of preemption and softirqs that a tick meets in user mode, where both are on.
    base: Cell<u64>,
    /// The section under way that cannot be preempted.
    section: Cell<Section>,
    /// What the tick under way found last.
    found: Cell<Found>,
    /// Which asking was answered last.
    answered: Cell<u64>,
    /// The stack under the tick, and how many bytes of it are filled.
    stack_bytes: Cell<i64>,
    stack: Cell<[u64; FRAMES]>,
    /// How many entries were put into the trace.
    trace_next: Cell<u64>,
    trace: Cell<[TraceEntry; TRACE]>,
}

// SAFETY: a CPU's value is touched by programs on that CPU only.
unsafe impl Sync for Cpu {}

/// What is known of this CPU.
#[inline(always)]
fn cpu() -> Option<&'static Cpu> {
    let cpu = IRQSOFF_CPU.get_ptr(0)?;
    // SAFETY: a value of this CPU, touched by programs on it only, all through cells. One that interrupts another finds each
    // field whole.
    Some(unsafe { &*cpu })
}

/// The statistics of this CPU.
#[inline(always)]
fn stats() -> Option<&'static mut IrqsoffStats> {
    let stats = IRQSOFF_STATS.get_ptr_mut(0)?;
    // SAFETY: a value of this CPU, changed by the tick only, which does not interrupt itself and has hold of it once at a time.
    Some(unsafe { &mut *stats })
}

/// Has `change` change the statistics of this CPU such that a concurrent copy can tell that it was under way.
#[inline(always)]
fn count(change: impl FnOnce()) {
    let Some(stats) = IRQSOFF_STATS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: places in the map, of which no reference is made here.
    let marks = unsafe { (&raw mut (*stats).started, &raw mut (*stats).completed) };
    // SAFETY: as above.
    unsafe { marked(marks, change) };
}
