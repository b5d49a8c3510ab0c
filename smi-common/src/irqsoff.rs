//! Values of the maps that the programs of `smilat irqsoff` share with user space.

use crate::{RqPath, buckets::BUCKETS};

/// Frames of a stack that are kept.
pub const FRAMES: usize = 48;
/// Entries that each CPU's trace keeps: a power of two.
pub const TRACE: usize = 32;
/// Ranges of addresses that can be exempt.
pub const EXEMPTIONS: usize = 16;

/// What a stretch was, or what a late tick was taken for.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Interrupts were off.
    Disabled = 0,
    /// Ticks came, but the code under them could not be preempted.
    PreemptOff = 1,
    /// Ticks came, but the code under them had bottom halves (softirqs) off.
    BottomHalvesOff = 2,
    /// Ticks came, but one run of a softirq's handler went on under them.
    Softirq = 3,
    /// The tick came late because the hypervisor had the CPU do something else.
    Steal = 4,
    /// The tick came late, and the counter of SMIs moved meanwhile.
    Smi = 5,
    /// The tick came late, and handlers of NMIs ran for at least half of that.
    Nmi = 6,
    /// The tick came late because an idle CPU took that long to wake up.
    Idle = 7,
    /// The tick came late although interrupts were on: something took the CPU that neither counts nor tells.
    Stopped = 8,
}

impl Kind {
    /// All of them, by their number.
    pub const ALL: [Self; KINDS] = [
        Self::Disabled,
        Self::PreemptOff,
        Self::BottomHalvesOff,
        Self::Softirq,
        Self::Steal,
        Self::Smi,
        Self::Nmi,
        Self::Idle,
        Self::Stopped,
    ];

    /// Whether software kept the CPU from something, be it interrupts or preemption.
    #[must_use]
    pub const fn is_disablement(self) -> bool {
        (self as u64) < Self::Steal as u64
    }
}

/// How many [`Kind`]s there are.
pub const KINDS: usize = 9;

/// In a record in place of a [`Kind`]: no event, but what a CPU was doing when user space asked for it.
pub const PICTURE: u64 = KINDS as u64;

/// Settings and facts of this kernel. Map `IRQSOFF`, one entry, written before the programs are attached. Offsets are in
/// bytes; those of per-CPU variables are from a CPU's `rq`, modulo 2^64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Time between two ticks.
    pub tick_ns: u64,
    /// A stretch at least this long is an event.
    pub threshold_ns: u64,
    /// How many of the exemptions below are in use.
    pub exemptions: u64,
    /// First address of each exempt function and the one after its last.
    pub exempt: [[u64; 2]; EXEMPTIONS],
    /// From an `hrtimer` to the time it is due, and to its function.
    pub hrtimer_expires: u64,
    /// See there.
    pub hrtimer_function: u64,
    /// From a `timer_list` to its function.
    pub timer_function: u64,
    /// From an `irqaction` to its handler.
    pub irqaction_handler: u64,
    /// From the `hrtimer` of a `perf_event`, backwards, to the `perf_event`, and from there to the program that runs at it.
    pub event_hrtimer: u64,
    /// See there.
    pub event_program: u64,
    /// From a `task_struct` to its process id.
    pub task_pid: u64,
    /// 1 when the count below can be read.
    pub counts: u64,
    /// How to come to a CPU's `rq`.
    pub rq: RqPath,
    /// From an `rq` to the CPU's `preempt_count`.
    pub rq_preempt_count: u64,
    /// `PREEMPT_RT`: from a `task_struct` to `softirq_disable_cnt`; 0 elsewhere.
    pub task_softirq_disable: u64,
}

/// Events of one kind on one CPU, since start.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindTotals {
    /// How many.
    pub count: u64,
    /// Sum of their lengths in ns: as far as known for sure.
    pub sum_ns: u64,
    /// The longest of them.
    pub max_ns: u64,
    /// Those whose stack led through an exempt function; in none of the above.
    pub exempt: u64,
    /// Sum of their lengths in ns.
    pub exempt_ns: u64,
    /// Events in each bucket of [`crate::buckets`].
    pub histogram: [u64; BUCKETS],
}

impl Default for KindTotals {
    fn default() -> Self {
        Self {
            count: 0,
            sum_ns: 0,
            max_ns: 0,
            exempt: 0,
            exempt_ns: 0,
            histogram: [0; BUCKETS],
        }
    }
}

/// Everything counted for one CPU. Map `IRQSOFF_STATS`, a per-CPU array of one entry, copied as [`crate::CpuStats`] is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqsoffStats {
    /// Changes completed.
    pub completed: u64,
    /// Ticks that came.
    pub ticks: u64,
    /// Ticks that could not come because one before them was late.
    pub missed: u64,
    /// Ticks at which the counter of SMIs could not be read.
    pub smis_unread: u64,
    /// Time watched: from the first tick to the newest, without that for which the CPU was offline.
    pub watched_ns: u64,
    /// The longest lateness of a tick, whatever it was.
    pub late_max_ns: u64,
    /// By [`Kind`].
    pub kinds: [KindTotals; KINDS],
    /// Records sent to user space.
    pub records_sent: u64,
    /// Records lost because the ring buffer was full.
    pub records_lost: u64,
    /// Changes started.
    pub started: u64,
}

impl Default for IrqsoffStats {
    #[expect(
        clippy::large_stack_arrays,
        reason = "only user space makes one, with megabytes of stack"
    )]
    fn default() -> Self {
        Self {
            completed: 0,
            ticks: 0,
            missed: 0,
            smis_unread: 0,
            watched_ns: 0,
            late_max_ns: 0,
            kinds: [KindTotals::default(); KINDS],
            records_sent: 0,
            records_lost: 0,
            started: 0,
        }
    }
}

impl IrqsoffStats {
    /// Whether this copy was taken while no change was under way.
    #[must_use]
    pub const fn is_consistent(&self) -> bool {
        self.completed == self.started
    }
}

/// What an entry of the trace tells.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing yet.
    Nothing = 0,
    /// The scheduler went from the process `first` to `second`.
    Switch = 1,
    /// The handler at `second` of the interrupt number `first` began.
    IrqEntry = 2,
    /// It returned.
    IrqExit = 3,
    /// The softirq number `first` began.
    SoftirqEntry = 4,
    /// It returned.
    SoftirqExit = 5,
    /// The callback at `first` of a timer began.
    TimerEntry = 6,
    /// It returned.
    TimerExit = 7,
    /// The callback at `first` of a high-resolution timer began.
    HrtimerEntry = 8,
    /// It returned.
    HrtimerExit = 9,
    /// The CPU goes idle, into the state number `first`.
    IdleEntry = 10,
    /// It is idle no more.
    IdleExit = 11,
    /// The function at `first` that another CPU asked for began, in an interrupt; 0 where the kernel does not say which.
    CallEntry = 12,
    /// It returned.
    CallExit = 13,
    /// The CPU's `irq_work` began, in an interrupt.
    WorkEntry = 14,
    /// It ended.
    WorkExit = 15,
}

/// An entry of a CPU's trace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceEntry {
    /// When, in ns of `CLOCK_MONOTONIC`; 0 of an entry that was never written.
    pub at_ns: u64,
    /// A [`What`].
    pub what: u64,
    /// See there.
    pub first: u64,
    /// See there.
    pub second: u64,
}

/// A handler that ran, or still runs, where a stretch was.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handler {
    /// The [`What`] of its entry; 0 of none.
    pub what: u64,
    /// Number of the interrupt or softirq.
    pub number: u64,
    /// Address of its function; 0 of a softirq, whose function is known by its number, and where it is not told.
    pub function: u64,
    /// When it began.
    pub began_ns: u64,
    /// When it returned; 0 while it runs.
    pub ended_ns: u64,
}

impl Handler {
    /// How long it ran, in ns; 0 while it runs.
    #[must_use]
    #[inline(always)]
    pub const fn length_ns(&self) -> u64 {
        self.ended_ns.saturating_sub(self.began_ns)
    }
}

/// An event. Map `IRQSOFF_RECORDS`, a ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqsoffRecord {
    /// When it was noticed: interrupts came back on right before, or the section has reached the threshold.
    pub at_ns: u64,
    /// A [`Kind`].
    pub kind: u64,
    /// On which CPU.
    pub cpu: u64,
    /// Shortest and longest time it may have taken so far.
    pub least_ns: u64,
    /// See there.
    pub most_ns: u64,
    /// Ticks that arrived in it.
    pub ticks: u64,
    /// 1 when its stack leads through an exempt function, or that of an earlier tick of it did.
    pub exempt: u64,
    /// The process under it, and the thread.
    pub process: u64,
    /// See there.
    pub thread: u64,
    /// Name of the thread, up to a zero byte.
    pub comm: [u8; 16],
    /// 1 when the tick came while the CPU was in user mode.
    pub user_mode: u64,
    /// Address of the instruction that the tick interrupted; 0 where it is not known, and the stack begins with the interrupt.
    pub address: u64,
    /// How far the counter of SMIs moved meanwhile.
    pub smis: u64,
    /// How long handlers of NMIs ran meanwhile.
    pub nmi_ns: u64,
    /// How long the hypervisor had something else run.
    pub steal_ns: u64,
    /// What ran there besides the thread.
    pub handler: Handler,
    /// The timer's callback within a softirq, if that is what ran.
    pub callback: Handler,
    /// Number of bytes of `stack` that are filled; negative: the kernel's reason why it is not.
    pub stack_bytes: i64,
    /// The kernel's return addresses, innermost first.
    pub stack: [u64; FRAMES],
    /// How many entries were ever put into the trace: the newest is before this number modulo [`TRACE`].
    pub trace_next: u64,
    /// The trace.
    pub trace: [TraceEntry; TRACE],
}

/// How the programs know their own timers. Map `IRQSOFF_OWN`, one entry, which the first tick that has a program run fills.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The callback of such timers, which is perf's.
    pub callback: u64,
    /// The program that runs at their events.
    pub program: u64,
}

/// A stretch with interrupts off, made on purpose. Map `IRQSOFF_SELF_TEST`, one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfTest {
    /// How long it is to be, in ns; 0 when none is asked for.
    pub asked_ns: u64,
    /// How long the last one was; 0 before the first.
    pub done_ns: u64,
}
