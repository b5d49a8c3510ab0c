//! Values of the maps that both sides read or write.

use crate::{
    buckets::{self, BUCKETS},
    cause,
};

/// Longest stretch in ns: 100 ms. Longer would delay every interrupt of the CPU by as much, and one `bpf_loop` call
/// (8,388,608 rounds, `BPF_MAX_LOOPS` in `include/linux/bpf.h`) must be able to cover it.
pub const MAX_STRETCH_NS: u64 = 100_000_000;

const NS_PER_S: u64 = 1_000_000_000;

/// What user space may change while the programs run. Map `KNOBS`, one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knobs {
    /// A gap shorter than this many ns is dropped in the kernel.
    pub threshold_ns: u64,
    /// At most this many single gaps a second go to the ring buffer from each CPU; the rest is only counted. A gap
    /// longer than all before it in its interval goes in any case, unless this is 0.
    pub records_per_s: u64,
    /// Number of the current interval; see [`Extremes`].
    pub interval: u64,
    /// Spin: a step at least this long, though no gap, has the counters read anew, so that an SMI too short to be a gap
    /// is not put down to the gap that follows it. 0 for none.
    pub look_ns: u64,
}

/// Hand-over between the sampling thread of a CPU and the spin program on it. Map `SPIN_SLOTS`, one for each possible
/// CPU, mapped into the process.
///
/// The thread writes the request and then `armed`; the program sees a number above `ended`, runs one
/// stretch and writes `ended = armed`. Because the thread must run in user mode between two stretches, every interrupt
/// that waited has been served before the next one begins, whatever the timer does.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct SpinSlot {
    /// Number of the stretch asked for.
    pub armed: u64,
    /// Length asked for, in ns.
    pub stretch_ns: u64,
    /// The stretch ends no later than this (`CLOCK_MONOTONIC`, ns): the end of the window.
    pub until_ns: u64,
    /// Keeps what the program writes on a cache line of its own.
    pub pad: [u64; 5],
    /// Number of the stretch that began last; ahead of `ended` while the program spins.
    pub begun: u64,
    /// When it began (`CLOCK_MONOTONIC`, ns).
    pub begun_ns: u64,
    /// Time this CPU spent in stretches since the program was loaded, in ns: exposure, and the time spent recording.
    pub spun_ns: u64,
    /// Number of the stretch that ended last; written after the rest.
    pub ended: u64,
    /// Keeps neighbouring CPUs apart.
    pub pad2: [u64; 4],
}

/// Count, sum and extremes of gaps since start, in ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GapTotals {
    /// Gaps at or above the threshold.
    pub count: u64,
    /// Sum of their durations. 2^64 ns is 584 years.
    pub sum_ns: u64,
    /// Shortest; meaningless while `count` is 0.
    pub min_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// The newest.
    pub last_ns: u64,
    /// When the newest ended.
    pub last_end_ns: u64,
}

/// Shortest and longest gap of one interval.
///
/// Two of them are kept, used in turn: user space advances [`Knobs::interval`] and then reads the one that was left.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extremes {
    /// The interval these belong to.
    pub interval: u64,
    /// Shortest; 0 when there was no gap.
    pub min_ns: u64,
    /// Longest; 0 when there was no gap.
    pub max_ns: u64,
}

/// What the spin program did, since start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StretchTotals {
    /// Stretches that spun.
    pub run: u64,
    /// Stretches whose timer fired after their window's end, so that nothing was left to spin.
    pub late: u64,
    /// Exposure: time spent reading the clock with interrupts off, without the time spent recording gaps.
    pub exposure_ns: u64,
    /// Readings of the clock.
    pub steps: u64,
    /// Readings that lay before the one preceding them; never counted as gaps.
    pub clock_went_back: u64,
}

/// What the records of a kernel tracer add up to, since start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TracerTotals {
    /// Steps of the tracer's loop above its threshold: one record of hwlat stands for this many of them.
    pub steps_over: u64,
    /// NMIs that the tracer saw in its windows.
    pub nmi_count: u64,
    /// Time they took, in ns.
    pub nmi_ns: u64,
}

/// How far something that causes gaps moved on, since start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// While this CPU was sampling.
    pub sampled: u64,
    /// Of that, across gaps.
    pub in_gaps: u64,
}

/// What the counters of causes say, since start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CauseCounts {
    /// SMIs.
    pub smis: Moves,
    /// Runs of NMI handlers; one NMI may run several.
    pub nmis: Moves,
    /// Time in ns for which the hypervisor let something else have the CPU.
    pub steal_ns: Moves,
    /// The newest reading of the SMI counter, in its own numbers; 0 before the first.
    pub smi_reading: u64,
    /// Times the SMI counter could not be read, or had not counted all the time.
    pub smi_unread: u64,
}

/// Gaps with the same set of causes, since start.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseTotals {
    /// How many.
    pub count: u64,
    /// Sum of their durations.
    pub sum_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Gaps in each bucket of [`crate::buckets`].
    pub histogram: [u64; BUCKETS],
}

impl Default for CauseTotals {
    fn default() -> Self {
        Self {
            count: 0,
            sum_ns: 0,
            max_ns: 0,
            histogram: [0; BUCKETS],
        }
    }
}

/// Everything counted for one CPU. Map `CPU_STATS`, a per-CPU array of one entry.
///
/// `started` and `completed` make a copy of the whole consistent: the program advances `started`, changes the rest,
/// then advances `completed`. User space copies in ascending order, so that a copy in which the two are equal saw no
/// change under way.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuStats {
    /// Changes completed.
    pub completed: u64,
    /// Gaps.
    pub gaps: GapTotals,
    /// Extremes of the intervals, by the parity of their number.
    pub interval: [Extremes; 2],
    /// Stretches of the spin program; for a kernel tracer, the turns of its thread.
    pub stretches: StretchTotals,
    /// What a kernel tracer says about its own windows.
    pub tracer: TracerTotals,
    /// Single gaps sent to the ring buffer.
    pub records_sent: u64,
    /// Single gaps kept back by [`Knobs::records_per_s`].
    pub records_limited: u64,
    /// Single gaps lost because the ring buffer was full.
    pub records_lost: u64,
    /// Start of the second to which `second_records` belongs.
    pub second_began_ns: u64,
    /// Single gaps sent in that second.
    pub second_records: u64,
    /// Causes, whether of gaps or not.
    pub counted: CauseCounts,
    /// Gaps by their set of causes, see [`crate::cause`]. Each gap is in one of them.
    pub causes: [CauseTotals; cause::SETS],
    /// Changes started.
    pub started: u64,
}

impl Default for CpuStats {
    fn default() -> Self {
        Self {
            completed: 0,
            gaps: GapTotals::default(),
            interval: [Extremes::default(); 2],
            stretches: StretchTotals::default(),
            tracer: TracerTotals::default(),
            records_sent: 0,
            records_limited: 0,
            records_lost: 0,
            second_began_ns: 0,
            second_records: 0,
            counted: CauseCounts::default(),
            causes: [CauseTotals::default(); cause::SETS],
            started: 0,
        }
    }
}

impl CpuStats {
    /// Whether this copy was taken while no change was under way.
    #[must_use]
    pub const fn is_consistent(&self) -> bool {
        self.completed == self.started
    }

    /// Counts `gap`, whose duration belongs into the bucket at `position`; returns whether it is to be sent to user
    /// space: it is within the limit, or it is the longest of its interval so far, which is the one that people ask
    /// for and outdone only a few times.
    #[inline(always)]
    pub fn add(&mut self, gap: &GapRecord, position: usize, knobs: &Knobs) -> bool {
        let ns = gap.duration_ns;
        let gaps = &mut self.gaps;
        if gaps.count == 0 || ns < gaps.min_ns {
            gaps.min_ns = ns;
        }
        if ns > gaps.max_ns {
            gaps.max_ns = ns;
        }
        gaps.count += 1;
        gaps.sum_ns += ns;
        gaps.last_ns = ns;
        gaps.last_end_ns = gap.end_ns;
        self.tracer.steps_over += gap.steps_over;
        // Not otherwise: NMIs that osnoise tells are added by the NMI itself, which may come in between.
        if gap.nmi_count > 0 {
            self.tracer.nmi_count += gap.nmi_count;
            self.tracer.nmi_ns += gap.nmi_ns;
        }

        let extremes = if knobs.interval & 1 == 0 {
            &mut self.interval[0]
        } else {
            &mut self.interval[1]
        };
        let first = extremes.interval != knobs.interval || extremes.max_ns == 0;
        let longest = first || ns > extremes.max_ns;
        if first {
            extremes.interval = knobs.interval;
            extremes.min_ns = ns;
        }
        if ns < extremes.min_ns {
            extremes.min_ns = ns;
        }
        if longest {
            extremes.max_ns = ns;
        }

        if let Some(totals) = self.causes.get_mut(gap.cause as usize) {
            totals.count += 1;
            totals.sum_ns += ns;
            if ns > totals.max_ns {
                totals.max_ns = ns;
            }
            if let Some(count) = totals.histogram.get_mut(position) {
                *count += 1;
            }
        }

        if gap.end_ns.wrapping_sub(self.second_began_ns) >= NS_PER_S {
            self.second_began_ns = gap.end_ns;
            self.second_records = 0;
        }
        let within = self.second_records < knobs.records_per_s;
        if within || (longest && knobs.records_per_s > 0) {
            self.second_records += 1;
            true
        } else {
            self.records_limited += 1;
            false
        }
    }

    /// All gaps by their duration.
    #[must_use]
    pub fn histogram(&self) -> [u64; BUCKETS] {
        let mut all = [0; BUCKETS];
        for totals in &self.causes {
            for (sum, count) in all.iter_mut().zip(&totals.histogram) {
                *sum += count;
            }
        }
        all
    }

    /// [`Self::add`] for user space, which has no verifier to please.
    pub fn add_gap(&mut self, gap: &GapRecord, knobs: &Knobs) -> bool {
        self.add(gap, buckets::position(gap.duration_ns), knobs)
    }
}

/// What the programs that follow a kernel tracer must know of this kernel. Map `TRACER`, one entry, written before they
/// are attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TracerLayout {
    /// First eight bytes of the names of the tracer's threads.
    pub comm: u64,
    /// Which of those bytes to compare.
    pub comm_mask: u64,
    /// A turn of the tracer's thread at least this long is a window; shorter ones are its own housekeeping.
    pub window_min_ns: u64,
    /// hwlat: `common_type` of its records; the offsets below are those of the fields in them.
    pub hwlat_id: u64,
    /// `duration`, in us: the longest inner gap.
    pub hwlat_inner: u64,
    /// `outer_duration`, in us.
    pub hwlat_outer: u64,
    /// `nmi_total_ts`, in us whatever its name.
    pub hwlat_nmi_us: u64,
    /// `nmi_count`.
    pub hwlat_nmi_count: u64,
    /// `count`: steps over the threshold.
    pub hwlat_steps_over: u64,
    /// `tv_sec` of the last gap, by the wall clock.
    pub hwlat_tv_sec: u64,
    /// `tv_nsec` of the same.
    pub hwlat_tv_nsec: u64,
    /// Wall clock less `CLOCK_MONOTONIC`, in ns.
    pub wall_offset_ns: u64,
    /// osnoise: 1 when interrupts stay on, so that their time must be taken off what the tracer reports.
    pub osnoise_subtract: u64,
}

/// Room for single gaps, held in the map `GAPS` until user space fetches them; bytes, a power of two.
pub const GAPS_BYTES: u32 = 512 * 1024;

/// How many of them it holds: each takes a header of 8 bytes, too (`BPF_RINGBUF_HDR_SZ`, `kernel/bpf/ringbuf.c`).
pub const GAPS_HELD: usize = GAPS_BYTES as usize / (size_of::<GapRecord>() + 8);

/// A single gap, or what a kernel tracer reports in its place. Map `GAPS`, a ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GapRecord {
    /// When it ended.
    pub end_ns: u64,
    /// How long it was.
    pub duration_ns: u64,
    /// hwlat: the longest gap of the window between the two readings of one step.
    pub inner_ns: u64,
    /// hwlat: the longest gap of the window between two steps.
    pub outer_ns: u64,
    /// hwlat: steps of the window above the threshold.
    pub steps_over: u64,
    /// hwlat: NMIs in the window.
    pub nmi_count: u64,
    /// hwlat: time they took.
    pub nmi_ns: u64,
    /// On which CPU. This and what follows is filled in by the recording path.
    pub cpu: u64,
    /// What is proven of its cause: a set, see [`crate::cause`].
    pub cause: u64,
    /// By how much the SMI counter of the CPU moved across it.
    pub smis: u64,
    /// How long the hypervisor let something else have the CPU meanwhile.
    pub steal_ns: u64,
}

/// Where the programs find what proves causes. Map `SOURCES`, one entry, written before they are attached; all zero when
/// nothing is to be proven.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// 1 when the map `SMI_EVENTS` holds a counter of SMIs for each CPU.
    pub smi: u64,
    /// 1 when NMIs are counted in the map `NMIS`.
    pub nmi: u64,
    /// 1 when the hypervisor tells steal, where the offsets below lead to.
    pub steal: u64,
    /// How to come to a CPU's `rq`.
    pub rq: RqPath,
    /// From a CPU's `rq` to its `steal_time`, modulo 2^64.
    pub rq_steal_time: u64,
}

/// How to come from the running thread to the `rq` of its CPU, and so to all of the kernel's per-CPU variables, which lie at
/// the same distance from each other for every CPU. In bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RqPath {
    /// From a `task_struct` to the pointer to its `cfs_rq`.
    pub task_cfs_rq: u64,
    /// From a `cfs_rq` to the pointer to its CPU's `rq`.
    pub cfs_rq_rq: u64,
    /// From an `rq` to the number of its CPU.
    pub rq_cpu: u64,
}
