//! Finds stretches in which software kept a CPU from being interrupted or preempted.
//!
//! A timer of our own ticks on each CPU. A tick that comes late tells of interrupts that were off, and it comes the moment
//! they are on again; ticks that come in time, but one after the other under code that cannot be preempted, tell of that
//! code. What handlers ran and what the scheduler did meanwhile is noted by programs at the kernel's tracepoints.

mod section;
mod self_test;
mod tick;
mod trace;

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use smi_common::irqsoff::{FRAMES, Handler, IrqsoffStats, TRACE, TraceEntry, Watch};

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

/// What is known of this CPU.
#[map]
static IRQSOFF_CPU: PerCpuArray<Cpu> = PerCpuArray::with_max_entries(1, 0);

/// What the programs on a CPU keep from one another's runs.
#[repr(C)]
struct Cpu {
    /// When the tick before came; 0 before the first.
    last_tick_ns: u64,
    /// The newest moment at which interrupts are known to have been on.
    open_ns: u64,
    /// When the high-resolution timer was due whose callback runs.
    due_ns: u64,
    /// The callback of our timer, which is the kernel's; left out of the trace.
    own_callback: u64,
    /// Where our timer is, and the one whose callback ran last.
    own_timer: u64,
    hrtimer_at: u64,
    /// 1 when the program ran at the tick under way.
    ticked: u64,
    /// What runs; `what` is 0 where nothing of the kind does.
    hrtimer: Handler,
    timer: Handler,
    softirq: Handler,
    irq: Handler,
    call: Handler,
    /// What has run for longest since the tick before, of all that is over.
    longest: Handler,
    /// Switches from one thread to another.
    switches: u64,
    /// Runs of softirqs' handlers.
    softirqs: u64,
    /// When the CPU went idle last.
    idle_began_ns: u64,
    /// When it ended being so.
    idle_ended_ns: u64,
    /// Address of this CPU's `rq`; 0 while it is not known.
    rq: u64,
    /// The counts of preemption and softirqs that a tick meets in user mode, where both are on.
    base: u64,
    /// The section under way that cannot be preempted.
    section: Section,
    /// What the tick under way found last.
    found: Found,
    /// Which asking was answered last.
    answered: u64,
    /// The stack under the tick, and how many bytes of it are filled.
    stack_bytes: i64,
    stack: [u64; FRAMES],
    /// How many entries were put into the trace.
    trace_next: u64,
    trace: [TraceEntry; TRACE],
}

/// What is known of this CPU.
#[inline(always)]
fn cpu() -> Option<&'static mut Cpu> {
    let cpu = IRQSOFF_CPU.get_ptr_mut(0)?;
    // SAFETY: a value of this CPU, touched by programs on it only. One that interrupts another finds each field whole.
    Some(unsafe { &mut *cpu })
}

/// The statistics of this CPU.
#[inline(always)]
fn stats() -> Option<&'static mut IrqsoffStats> {
    let stats = IRQSOFF_STATS.get_ptr_mut(0)?;
    // SAFETY: a value of this CPU, changed by the tick only, which does not interrupt itself.
    Some(unsafe { &mut *stats })
}

/// Has `change` change the statistics of this CPU such that a concurrent copy can tell that it was under way.
#[inline(always)]
fn count(change: impl FnOnce()) {
    let Some(stats) = stats() else { return };
    let marks = (&raw mut stats.started, &raw mut stats.completed);
    // SAFETY: both are places in the map.
    unsafe { marked(marks, change) };
}
