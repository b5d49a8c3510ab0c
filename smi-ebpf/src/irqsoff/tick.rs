//! The tick: judges how late it is and what it interrupts.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_get_stack,
    },
    programs::{PerfEventContext, RawTracePointContext},
};
use smi_common::irqsoff::{
    EXEMPTIONS, FRAMES, Handler, IrqsoffRecord, Kind, Own, PICTURE, TRACE, Watch, What,
};

use super::{
    Cpu, IRQSOFF, IRQSOFF_ASKED, IRQSOFF_OWN, IRQSOFF_PROBES, IRQSOFF_RECORDS, count, cpu, section,
    stats,
};
use crate::{
    causes::{self, Since},
    memory::read,
    record::bucket_position,
    spin::{Clock, Kernel},
};

/// Privilege level in the code segment's selector; 3 in user mode.
const PRIVILEGE: u64 = 3;

/// What a tick found. In the map, not on a program's stack: the functions that count and send it are global ones, each
/// checked once by the verifier instead of again on every path that leads there.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    kind: u64,
    least_ns: u64,
    most_ns: u64,
    ticks: u64,
    exempt: u64,
    smis: u64,
    nmi_ns: u64,
    steal_ns: u64,
    handler: Handler,
    callback: Handler,
}

/// What a tick interrupts.
#[derive(Clone, Copy)]
struct Under {
    /// The context of the program that runs.
    ctx: *mut c_void,
    /// 1 in user mode.
    user_mode: u64,
    /// The instruction; 0 where it is not known, and the stack begins with the interrupt.
    address: u64,
}

impl EbpfContext for Under {
    fn as_ptr(&self) -> *mut c_void {
        self.ctx
    }
}

/// Runs at each tick of a CPU, as far as the kernel has it run.
#[inline(always)]
pub fn tick(ctx: &PerfEventContext) {
    // SAFETY: the context of a perf event program begins with the registers.
    let (cs, address) = unsafe { ((*ctx.ctx).regs.cs, (*ctx.ctx).regs.rip) };
    let under = Under {
        ctx: ctx.as_ptr(),
        user_mode: u64::from(cs & PRIVILEGE == PRIVILEGE),
        address,
    };
    let (Some(watch), Some(cpu)) = (IRQSOFF.get(0), cpu()) else {
        return;
    };
    if let Some(own) = IRQSOFF_OWN.get_ptr_mut(0)
        // SAFETY: a place in the map.
        && unsafe { (*own).program } == 0
    {
        let known = Own {
            callback: cpu.hrtimer.get().function,
            program: program(watch, cpu),
        };
        // SAFETY: as above; CPUs that do so at the same time write the same.
        unsafe { *own = known };
    }
    cpu.ticked.set(1);
    run(under, watch, cpu);
}

/// Where the program is that runs at the perf event whose timer's callback runs.
#[inline(always)]
fn program(watch: &Watch, cpu: &Cpu) -> u64 {
    let event = cpu.hrtimer_at.get().wrapping_sub(watch.event_hrtimer);
    read(event, watch.event_program).unwrap_or(0)
}

/// Runs where the callback of a high-resolution timer returns: perf runs no program where it does not know the registers, as
/// some kernels have it with idle CPUs, and there the tick is taken without them. Returns whether the timer is ours.
#[inline(always)]
pub(super) fn tick_without_registers(ctx: &RawTracePointContext, cpu: &Cpu) -> bool {
    let Some(own) = IRQSOFF_OWN.get(0) else {
        return false;
    };
    if cpu.hrtimer.get().function != own.callback {
        return false;
    }
    let Some(watch) = IRQSOFF.get(0) else {
        return false;
    };
    let ticked = cpu.ticked.take() > 0;
    // By what is known of those on other CPUs.
    let is_ours = ticked || own.program > 0 && program(watch, cpu) == own.program;
    if is_ours && !ticked {
        let under = Under {
            ctx: ctx.as_ptr(),
            user_mode: 0,
            address: 0,
        };
        run(under, watch, cpu);
    }
    if is_ours {
        cpu.left_ns.set(Kernel::now());
    }
    is_ours
}

#[inline(always)]
fn run(under: Under, watch: &Watch, cpu: &Cpu) {
    let since = causes::since().unwrap_or_default();
    // After it: what stops the CPU while it reads is late and told by the same tick.
    let now_ns = Kernel::now();
    let before_ns = cpu.last_tick_ns.replace(now_ns);
    let mut due_ns = cpu.due_ns.get();
    // A timer is set on by whole periods: over those, too, that passed within its callback.
    if cpu.left_ns.get() >= before_ns + watch.tick_ns {
        due_ns = before_ns + watch.tick_ns;
    }
    let late_ns = now_ns.saturating_sub(due_ns);
    if due_ns.saturating_sub(before_ns) > 2 * watch.tick_ns {
        // The first, or the first since the CPU was away: what was before is not known.
        cpu.open_ns.set(now_ns);
        cpu.longest.take();
        cpu.section.take();
        return;
    }
    count(|| {
        let Some(stats) = stats() else { return };
        stats.ticks += 1;
        stats.smis_unread += since.smi_unread;
        stats.missed += late_ns / watch.tick_ns.max(1);
        stats.watched_ns += now_ns - before_ns;
        if late_ns > stats.late_max_ns {
            stats.late_max_ns = late_ns;
        }
    });

    let late = late_ns >= watch.threshold_ns;
    if section::follow(watch, cpu, under.user_mode == 1, late, now_ns, before_ns) {
        IRQSOFF_PROBES.output(&under, 0, 0);
    }
    let look = late || cpu.section.get().is_one() && watch.exemptions > 0;
    if look {
        take_stack(under, cpu);
    }
    if late {
        judge(under, cpu, &since, due_ns, now_ns);
        let exempt = is_exempt();
        cpu.found.set(Found {
            exempt,
            ..cpu.found.get()
        });
        add(0);
        send(under.user_mode, under.address, now_ns);
    }
    if cpu.section.get().is_one() {
        go_on(under, watch, cpu, &since, now_ns);
    }
    if let Some(asked) = IRQSOFF_ASKED.get(0)
        && *asked != cpu.answered.get()
    {
        cpu.answered.set(*asked);
        cpu.found.set(Found {
            kind: PICTURE,
            handler: cpu.softirq.get(),
            callback: cpu.timer.get(),
            ..Found::default()
        });
        take_stack(under, cpu);
        send(under.user_mode, under.address, now_ns);
    }
    cpu.longest.take();
    cpu.open_ns.set(now_ns);
}

/// What made the tick late that was due at `due_ns`.
#[inline(always)]
fn judge(under: Under, cpu: &Cpu, since: &Since, due_ns: u64, now_ns: u64) {
    let late_ns = now_ns - due_ns;
    let longest = cpu.longest.get();
    // What ran is what held the interrupts only if it ran for most of the time.
    let held = longest.ended_ns > due_ns && longest.length_ns() * 2 >= late_ns;
    let handler = if held { longest } else { cpu.softirq.get() };
    let callback = if held && longest.what != What::SoftirqEntry as u64 {
        Handler::default()
    } else {
        cpu.timer.get()
    };
    let mut kind = Kind::Disabled;
    let (idle_began_ns, idle_ended_ns) = (cpu.idle_began_ns.get(), cpu.idle_ended_ns.get());
    let in_idle = idle_began_ns > idle_ended_ns;
    let was_idle =
        idle_began_ns > 0 && idle_began_ns <= due_ns && (in_idle || idle_ended_ns >= due_ns);
    if since.smis > 0 {
        kind = Kind::Smi;
    } else if since.nmi_ns * 2 >= late_ns {
        kind = Kind::Nmi;
    } else if since.steal_ns * 2 >= late_ns {
        kind = Kind::Steal;
    } else if was_idle && !held {
        // What came after it was awake is software's. Interrupts that end an idle state come before the CPU says so.
        let softirq = cpu.softirq.get();
        let awake_since_ns = if !in_idle {
            idle_ended_ns
        } else if softirq.what > 0 {
            softirq.began_ns
        } else {
            now_ns
        };
        let awake_ns = now_ns.saturating_sub(awake_since_ns);
        if awake_ns * 2 < late_ns {
            kind = Kind::Idle;
        }
    } else if !held && (under.user_mode == 1 || interrupts_were_on(under.address) > 0) {
        kind = Kind::Stopped;
    }
    cpu.found.set(Found {
        kind: kind as u64,
        least_ns: late_ns,
        most_ns: now_ns.saturating_sub(cpu.open_ns.get().min(due_ns)),
        ticks: 1,
        exempt: 0,
        smis: since.smis,
        nmi_ns: since.nmi_ns,
        steal_ns: since.steal_ns,
        handler,
        callback,
    });
}

/// 1 when the kernel's code before `address` does not turn interrupts on, nor may have called what does: then they were on when
/// the tick was due, or it would have come elsewhere. A global function, checked once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn interrupts_were_on(address: u64) -> u64 {
    const STI: u64 = 0xfb;
    const POPF: u64 = 0x9d;
    const CALL: u64 = 0xe8;
    const CALL_INDIRECT: u64 = 0xff;
    const RET: u8 = 0xc3;
    // As far as the longest instruction reaches: with `sti` interrupts are on after the next one.
    let (Some(far), Some(near), Some(next)) = (
        read::<u64>(address, 16_u64.wrapping_neg()),
        read::<u64>(address, 8_u64.wrapping_neg()),
        read::<u8>(address, 0),
    ) else {
        return 0;
    };
    let before = |bytes: u32| near >> (64 - 8 * bytes) & 0xff;
    let may_have = holds(far, STI)
        || holds(near, STI)
        || before(1) == POPF
        || before(5) == CALL
        || before(2) == CALL_INDIRECT
        || before(3) == CALL_INDIRECT
        || next == RET;
    u64::from(!may_have)
}

/// Whether one of the bytes of `word` is `byte`.
#[inline(always)]
fn holds(word: u64, byte: u64) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    let zero_where_equal = word ^ (ONES * byte);
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & (ONES << 7) != 0
}

/// Counts the section under way on from the threshold on, and tells it once.
#[inline(always)]
fn go_on(under: Under, watch: &Watch, cpu: &Cpu, since: &Since, now_ns: u64) {
    let mut section = cpu.section.get();
    let (least_ns, most_ns) = section.lasted_ns(now_ns);
    let mut found = Found {
        kind: section.kind() as u64,
        least_ns,
        most_ns,
        ticks: section.ticks,
        exempt: 0,
        smis: since.smis,
        nmi_ns: since.nmi_ns,
        steal_ns: since.steal_ns,
        handler: cpu.softirq.get(),
        callback: cpu.timer.get(),
    };
    cpu.found.set(found);
    section.exempt |= is_exempt();
    found.exempt = section.exempt;
    cpu.found.set(found);
    let counted_ns = section.counted_ns;
    let is_event = least_ns >= watch.threshold_ns;
    if is_event {
        section.counted_ns = least_ns;
    }
    cpu.section.set(section);
    if !is_event {
        return;
    }
    add(counted_ns);
    if counted_ns == 0 {
        take_stack(under, cpu);
        send(under.user_mode, under.address, now_ns);
    }
}

/// Counts what was found; `counted_ns` of it are counted already.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add(counted_ns: u64) -> u64 {
    let Some(cpu) = cpu() else { return 0 };
    let Found {
        kind,
        least_ns: ns,
        exempt,
        ..
    } = cpu.found.get();
    count(|| {
        if exempt > 0 {
            add_exempt(kind, ns, counted_ns);
            return;
        }
        add_length(kind, ns, counted_ns);
        if counted_ns > 0 {
            add_to_bucket(kind, bucket_position(counted_ns), u64::MAX);
        }
        add_to_bucket(kind, bucket_position(ns), 1);
    });
    0
}

/// Adds what of `ns` is not counted yet. A global function, as those below: the verifier of older kernels loses the bounds of
/// what a larger one keeps on its stack. Returns 0, since it must return a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_length(kind: u64, ns: u64, counted_ns: u64) -> u64 {
    if let Some(stats) = stats()
        && let Some(totals) = stats.kinds.get_mut(kind as usize)
    {
        totals.count += u64::from(counted_ns == 0);
        totals.sum_ns += ns - counted_ns;
        if ns > totals.max_ns {
            totals.max_ns = ns;
        }
    }
    0
}

/// The same of a stretch that is exempt.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_exempt(kind: u64, ns: u64, counted_ns: u64) -> u64 {
    if let Some(stats) = stats()
        && let Some(totals) = stats.kinds.get_mut(kind as usize)
    {
        totals.exempt += u64::from(counted_ns == 0);
        totals.exempt_ns += ns - counted_ns;
    }
    0
}

/// Adds `by`, modulo 2^64, to the bucket at `position`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_to_bucket(kind: u64, position: u64, by: u64) -> u64 {
    if let Some(stats) = stats()
        && let Some(totals) = stats.kinds.get_mut(kind as usize)
        && let Some(count) = totals.histogram.get_mut(position as usize)
    {
        *count = count.wrapping_add(by);
    }
    0
}

/// Takes the kernel's stack under the tick.
#[inline(always)]
fn take_stack(under: Under, cpu: &Cpu) {
    // SAFETY: the context is that of this program, the buffer is of the size told.
    let bytes = unsafe {
        bpf_get_stack(
            under.ctx,
            cpu.stack.as_ptr().cast(),
            size_of_val(&cpu.stack) as u32,
            0,
        )
    };
    cpu.stack_bytes.set(bytes);
}

/// 1 when the stack last taken leads through an exempt function, or one of the handlers found is one.
#[inline(always)]
fn is_exempt() -> u64 {
    let (Some(watch), Some(cpu)) = (IRQSOFF.get(0), cpu()) else {
        return 0;
    };
    if watch.exemptions == 0 {
        return 0;
    }
    let Found {
        handler, callback, ..
    } = cpu.found.get();
    stack_is_exempt() | address_is_exempt(handler.function) | address_is_exempt(callback.function)
}

/// A global function: the verifier checks its loops once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stack_is_exempt() -> u64 {
    let Some(cpu) = cpu() else { return 0 };
    let bytes = cpu.stack_bytes.get();
    let stack = cpu.stack.as_array_of_cells();
    let mut frame = 0;
    while frame < FRAMES {
        if bytes <= 0 || frame as u64 * 8 >= bytes.cast_unsigned() {
            return 0;
        }
        let address = stack[frame].get();
        // What follows a call may belong to another function already.
        let within = if frame == 0 {
            address
        } else {
            address.wrapping_sub(1)
        };
        if address_is_exempt(within) > 0 {
            return 1;
        }
        frame += 1;
    }
    0
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn address_is_exempt(address: u64) -> u64 {
    let Some(watch) = IRQSOFF.get(0) else {
        return 0;
    };
    let mut place = 0;
    while place < EXEMPTIONS {
        if place as u64 >= watch.exemptions {
            return 0;
        }
        let [begin, end] = watch.exempt[place];
        if address >= begin && address < end {
            return 1;
        }
        place += 1;
    }
    0
}

/// Sends what was found to user space, with the stack last taken. A global function; returns 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send(user_mode: u64, address: u64, now_ns: u64) -> u64 {
    let Some(cpu) = cpu() else { return 0 };
    let Some(mut entry) = IRQSOFF_RECORDS.reserve::<IrqsoffRecord>(0) else {
        count(|| {
            if let Some(stats) = stats() {
                stats.records_lost += 1;
            }
        });
        return 0;
    };
    let record = entry.as_mut_ptr();
    // Field by field: as a whole it would be copied to the stack, of which programs have little.
    let found = cpu.found.as_ptr();
    let ids = bpf_get_current_pid_tgid();
    // SAFETY: the record has room for each field, and what was found lies in the map; the helpers have no preconditions.
    unsafe {
        (*record).at_ns = now_ns;
        (*record).kind = (*found).kind;
        (*record).cpu = u64::from(bpf_get_smp_processor_id());
        (*record).least_ns = (*found).least_ns;
        (*record).most_ns = (*found).most_ns;
        (*record).ticks = (*found).ticks;
        (*record).exempt = (*found).exempt;
        (*record).process = ids >> 32;
        (*record).thread = ids & u64::from(u32::MAX);
        (*record).comm = bpf_get_current_comm().unwrap_or_default();
        (*record).user_mode = user_mode;
        (*record).address = address;
        (*record).smis = (*found).smis;
        (*record).nmi_ns = (*found).nmi_ns;
        (*record).steal_ns = (*found).steal_ns;
        (*record).handler = (*found).handler;
        (*record).callback = (*found).callback;
        (*record).stack_bytes = cpu.stack_bytes.get();
        (*record).trace_next = cpu.trace_next.get();
    }
    let (stack, trace) = (cpu.stack.as_array_of_cells(), cpu.trace.as_array_of_cells());
    let mut place = 0;
    while place < FRAMES {
        // SAFETY: within both.
        unsafe { (*record).stack[place] = stack[place].get() };
        place += 1;
    }
    place = 0;
    while place < TRACE {
        // SAFETY: within both.
        unsafe { (*record).trace[place] = trace[place].get() };
        place += 1;
    }
    entry.submit(0);
    count(|| {
        if let Some(stats) = stats() {
            stats.records_sent += 1;
        }
    });
    0
}
