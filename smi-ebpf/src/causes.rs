//! What moved across a gap: the SMI counter, NMIs, the hypervisor's account of steal.
//!
//! All are read when a CPU begins to sample, at each gap, and when it ends; a gap's causes are what moved since the reading
//! before. Reading them at each step would cost more than the step.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_CPU, bpf_perf_event_value},
    helpers::{bpf_perf_event_read_value, generated::bpf_perf_event_read},
    macros::map,
    maps::{PerCpuArray, PerfEventArray},
    programs::RawTracePointContext,
};
use smi_common::{CauseCounts, Moves, Sources};

use crate::{
    maps::SOURCES,
    memory::{read, rq},
    record,
    spin::{Clock, Kernel},
};

/// The SMI counter of each CPU, by its number.
#[map]
static SMI_EVENTS: PerfEventArray<()> = PerfEventArray::new(0);

/// NMIs on each CPU.
#[map]
static NMIS: PerCpuArray<Nmis> = PerCpuArray::with_max_entries(1, 0);

/// NMIs as far as they are known.
#[repr(C)]
struct Nmis {
    /// How often handlers ran.
    runs: u64,
    /// When the last one ended.
    last_ns: u64,
    /// How long they took in all.
    sum_ns: u64,
}

/// The readings before, of each CPU.
#[map]
static BEFORE: PerCpuArray<Readings> = PerCpuArray::with_max_entries(1, 0);

/// Where everything stood.
#[repr(C)]
struct Readings {
    /// 1 once this CPU has begun to sample: before, there is nothing to compare with.
    begun: u64,
    smis: u64,
    /// For how long the counter of SMIs had been enabled, in ns; 0 when it could not be read.
    smi_enabled: u64,
    /// For how long it had counted.
    smi_running: u64,
    nmis: u64,
    nmi_sum_ns: u64,
    steal_ns: u64,
    /// Address of this CPU's `steal_time`; 0 while it is not known.
    steal_at: u64,
}

/// What moved since the reading before.
#[derive(Clone, Copy, Default)]
pub struct Since {
    /// SMIs.
    pub smis: u64,
    /// Runs of NMI handlers.
    pub nmis: u64,
    /// How long they took.
    pub nmi_ns: u64,
    /// When the last of them ended.
    nmi_last_ns: u64,
    /// Steal.
    pub steal_ns: u64,
    /// The SMI counter itself; 0 when it was not read.
    smi_reading: u64,
    /// 1 when it could not be read.
    pub smi_unread: u64,
}

impl Since {
    /// Leaves what did not happen from `begin_ns` to `end_ns` to the reading that follows, where that can be told: of NMIs
    /// by when the last one was, of the others by how long it took to get here. What moved in that time made it as long as
    /// itself.
    #[inline(always)]
    pub fn keep_within<C: Clock>(&mut self, begin_ns: u64, end_ns: u64) {
        if self.nmis | self.smis | self.steal_ns == 0 {
            return;
        }
        let Some(before) = BEFORE.get_ptr_mut(0) else {
            return;
        };
        // SAFETY: as in `since`.
        let before = unsafe { &mut *before };
        if self.nmi_last_ns > end_ns {
            before.nmis = before.nmis.wrapping_sub(self.nmis);
        }
        if self.nmi_last_ns > end_ns || self.nmi_last_ns < begin_ns {
            self.nmis = 0;
        }
        if C::now().saturating_sub(end_ns) > end_ns.saturating_sub(begin_ns) {
            before.smis = before.smis.wrapping_sub(self.smis);
            before.steal_ns = before.steal_ns.wrapping_sub(self.steal_ns);
            self.smis = 0;
            self.steal_ns = 0;
        }
    }

    /// Adds it to what is counted, across a gap or not.
    #[inline(always)]
    pub fn add_to(&self, counted: &mut CauseCounts, gap: bool) {
        let add = |moves: &mut Moves, by: u64| {
            moves.sampled += by;
            if gap {
                moves.in_gaps += by;
            }
        };
        add(&mut counted.smis, self.smis);
        add(&mut counted.nmis, self.nmis);
        add(&mut counted.steal_ns, self.steal_ns);
        counted.smi_unread += self.smi_unread;
        if self.smi_reading > 0 {
            counted.smi_reading = self.smi_reading;
        }
    }
}

/// `nmi:nmi_handler(handler, delta_ns, handled)`, after each handler of an NMI (`nmi_handle` in `arch/x86/kernel/nmi.c`).
#[inline(always)]
pub fn nmi(ctx: &RawTracePointContext) {
    if let Some(nmis) = NMIS.get_ptr_mut(0) {
        // SAFETY: a value of this CPU, changed only here, and NMIs do not nest.
        let nmis = unsafe { &mut *nmis };
        nmis.runs += 1;
        nmis.last_ns = Kernel::now();
        nmis.sum_ns += ctx.arg::<u64>(1);
    }
}

/// This CPU begins to sample, or goes on after a gap was recorded: what moved before causes none of the gaps to come. To be
/// called before the first reading of the clock.
///
/// A global function: the verifier checks it once by itself. Returns 0; the verifier wants global functions to return a
/// number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin() -> u64 {
    let _before = since();
    0
}

/// [`begin`], and the first reading of the clock after it. What takes the CPU in between would be put down to the first gap; so
/// where that may have been an SMI, all is read again.
#[inline(always)]
pub fn begin_at<C: Clock>() -> u64 {
    /// Reading takes less even where a hypervisor has to read the register (`cargo xtask bench gap`), and most SMIs take more.
    const LONGEST_NS: u64 = 20_000;
    const TRIES: u32 = 3;
    let mut before_ns = if C::IS_REAL { C::now() } else { 0 };
    for _ in 0..TRIES {
        begin();
        let now_ns = C::now();
        if !C::IS_REAL || now_ns.wrapping_sub(before_ns) < LONGEST_NS {
            return now_ns;
        }
        before_ns = now_ns;
    }
    before_ns
}

/// This CPU has ended sampling, or had a step that is no gap but long enough for something to have happened in it.
///
/// A global function, as [`begin`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look() -> u64 {
    if let Some(since) = since() {
        record::change(|stats| since.add_to(&mut stats.counted, false));
    }
    0
}

/// Reads everything; `None` where nothing is to be proven.
#[inline(always)]
pub fn since() -> Option<Since> {
    moved::<false>()
}

/// [`since`], of a gap in a stretch or turn that [`begin`] has begun.
#[inline(always)]
pub fn since_at_gap() -> Option<Since> {
    moved::<true>()
}

/// What both share.
#[inline(always)]
fn moved<const AT_GAP: bool>() -> Option<Since> {
    let sources = SOURCES.get(0)?;
    let before = BEFORE.get_ptr_mut(0)?;
    // SAFETY: a value of this CPU, touched by the programs that sample it only, one at a time.
    let before = unsafe { &mut *before };
    let mut since = Since::default();
    let comparable = before.begun == 1;
    before.begun = 1;
    if sources.smi == 1 {
        read_smis::<AT_GAP>(before, comparable, &mut since);
    }
    if let Some(nmis) = NMIS.get(0)
        && sources.nmi == 1
    {
        if comparable {
            since.nmis = nmis.runs.wrapping_sub(before.nmis);
            since.nmi_last_ns = nmis.last_ns;
            since.nmi_ns = nmis.sum_ns.wrapping_sub(before.nmi_sum_ns);
        }
        before.nmis = nmis.runs;
        before.nmi_sum_ns = nmis.sum_ns;
    }
    if sources.steal == 1 {
        let known = before.steal_at > 0;
        if !known {
            before.steal_at = steal_at(sources).unwrap_or(0);
        }
        if let Some(steal_ns) = read::<u64>(before.steal_at, 0) {
            if known && comparable {
                since.steal_ns = steal_ns.saturating_sub(before.steal_ns);
            }
            before.steal_ns = steal_ns;
        }
    }
    Some(since)
}

/// Reads this CPU's counter of SMIs.
///
/// At a gap its count alone: for how long it was enabled and for how long it counted takes as long again to find out, and is
/// compared when the stretch or turn ends.
#[inline(always)]
fn read_smis<const AT_GAP: bool>(before: &mut Readings, comparable: bool, since: &mut Since) {
    // Below: nothing to compare with, or another counter.
    let mut known = comparable && before.smi_enabled > 0;
    let read = if AT_GAP && before.smi_enabled > 0 {
        smi_count()
    } else {
        smi_counter().map(|value| {
            let enabled = value.enabled.wrapping_sub(before.smi_enabled);
            let running = value.running.wrapping_sub(before.smi_running);
            if known && value.counter >= before.smis && (enabled == 0 || running != enabled) {
                // Its CPU was offline meanwhile, which ends it though it can be read; or it was shared.
                known = false;
                since.smi_unread = 1;
            }
            before.smi_enabled = value.enabled;
            before.smi_running = value.running;
            value.counter
        })
    };
    let Some(count) = read else {
        before.smi_enabled = 0;
        since.smi_unread = 1;
        return;
    };
    if known && count >= before.smis {
        since.smis = count - before.smis;
    }
    before.smis = count;
    since.smi_reading = count;
}

/// The count of this CPU's counter of SMIs; `None` when there is none to be read.
#[inline(always)]
fn smi_count() -> Option<u64> {
    // SAFETY: a map of perf events.
    let count = unsafe {
        bpf_perf_event_read((&raw const SMI_EVENTS).cast_mut().cast(), BPF_F_CURRENT_CPU)
    };
    // A negative number is an error.
    (count >> 63 == 0).then_some(count)
}

/// All of this CPU's counter of SMIs; `None` when there is none to be read.
#[inline(always)]
fn smi_counter() -> Option<bpf_perf_event_value> {
    let mut value = MaybeUninit::<bpf_perf_event_value>::uninit();
    // SAFETY: a map of perf events, and a buffer of the size told.
    let read = unsafe {
        bpf_perf_event_read_value(
            (&raw const SMI_EVENTS).cast_mut().cast(),
            BPF_F_CURRENT_CPU,
            value.as_mut_ptr(),
            size_of::<bpf_perf_event_value>() as u32,
        )
    };
    // SAFETY: the helper has written all of it.
    (read == 0).then(|| unsafe { value.assume_init() })
}

/// Where the hypervisor writes for how long it let something else have this CPU (`struct kvm_steal_time` in
/// `arch/x86/include/uapi/asm/kvm_para.h`; the first field is the time in ns).
#[inline(always)]
fn steal_at(sources: &Sources) -> Option<u64> {
    Some(rq(&sources.rq)?.wrapping_add(sources.rq_steal_time))
}
