//! Counts maps and unmaps: the programs at the kernel's tracepoints.

use core::{hint::black_box, ptr};

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::bpf_get_smp_processor_id, programs::RawTracePointContext,
};
use smi_common::iommu::{
    CPU_WORDS, DomainStats, IommuCpu, IommuKnobs, Notice, RANGES, SIZES, size_position,
};

use super::{
    IOMMU_DOMAINS, IOMMU_NESTED, IOMMU_NOTHING, Rows, cpu, handoff, knobs, late, live, nested,
    record,
};
use crate::memory::marked;

/// Places of `IommuCpu::counted`.
const MAPS: usize = 0;
const UNMAPS: usize = 1;

/// Adds one to the bucket of `$bytes` in `$sizes`. The compiler knows the position's range and would drop the bounds check,
/// which the verifier insists on.
macro_rules! count_size {
    ($sizes:expr, $bytes:expr) => {
        let position = black_box(size_position($bytes));
        if position < SIZES {
            let bucket = (&raw mut $sizes).cast::<u64>().add(position);
            ptr::write(bucket, ptr::read(bucket) + 1);
        }
    };
}

/// Whether an event of `bytes` on this CPU is to be counted.
#[inline(always)]
fn is_asked_for(knobs: &IommuKnobs, bytes: u64) -> bool {
    if bytes < knobs.least_bytes || bytes > knobs.most_bytes {
        return false;
    }
    if knobs.some_cpus == 0 {
        return true;
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as usize;
    let word = black_box(cpu / 64);
    word < CPU_WORDS && knobs.cpus[word] >> (cpu % 64) & 1 == 1
}

/// The statistics of `domain` on this CPU.
#[inline(always)]
fn stats(rows: &Rows, domain: u64) -> Option<*mut DomainStats> {
    if let Some(stats) = rows.get_ptr_mut(domain) {
        return Some(stats);
    }
    let nothing = IOMMU_NOTHING.get(0)?;
    // Another CPU may have made it meanwhile.
    let _made = rows.insert(domain, nothing, u64::from(BPF_NOEXIST));
    rows.get_ptr_mut(domain)
}

/// `iommu:map(iova, paddr, size)`.
#[inline(always)]
pub fn map(ctx: &RawTracePointContext) {
    let (Some(knobs), Some(cpu)) = (knobs(), cpu()) else {
        return;
    };
    let paddr = ctx.arg(1);
    let is_ram = knobs.rams == 0 || is_ram(knobs, cpu, paddr, ctx.arg(2));
    count_map(ctx, knobs, cpu, &IOMMU_DOMAINS, is_ram);
    late::look(ctx, knobs, cpu);
    nested::counted(ctx, &mut cpu.counted[MAPS]);
}

/// The same, for a map that an interrupt made while [`map`] ran: the kernel does not run that one then.
#[inline(always)]
pub fn map_again(ctx: &RawTracePointContext) {
    let (Some(knobs), Some(cpu)) = (knobs(), cpu()) else {
        return;
    };
    if nested::was_counted(ctx, &mut cpu.counted[MAPS]) {
        return;
    }
    let (paddr, bytes): (u64, u64) = (ctx.arg(1), ctx.arg(2));
    let is_ram = knobs.rams == 0 || find_ram(paddr, paddr.wrapping_add(bytes)) < RANGES as u64;
    count_map(ctx, knobs, cpu, &IOMMU_NESTED, is_ram);
    cpu.nested += 1;
}

#[inline(always)]
fn count_map(
    ctx: &RawTracePointContext,
    knobs: &IommuKnobs,
    cpu: &mut IommuCpu,
    rows: &Rows,
    is_ram: bool,
) {
    let (iova, paddr, bytes): (u64, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let domain = handoff::take(iova, paddr);
    if knobs.track > 0 && !live::begins(domain, iova, bytes) {
        cpu.untracked_maps += 1;
    }
    if !is_asked_for(knobs, bytes) {
        return;
    }
    match stats(rows, domain) {
        None => cpu.uncounted += 1,
        Some(stats) => {
            // SAFETY: a value of this CPU in the map, of which no reference is made.
            unsafe {
                let maps = &raw mut (*stats).maps;
                let marks = (&raw mut (*maps).started, &raw mut (*maps).completed);
                marked(marks, || {
                    (*maps).count += 1;
                    (*maps).bytes += bytes;
                    count_size!((*maps).sizes, bytes);
                    if !is_ram {
                        (*maps).not_ram += 1;
                        (*maps).not_ram_bytes += bytes;
                    }
                });
            }
        }
    }
    if !is_ram {
        record::of_map(Notice::NotRam, domain, iova, paddr, bytes);
    }
}

/// `iommu:unmap(iova, size, unmapped_size)`.
#[inline(always)]
pub fn unmap(ctx: &RawTracePointContext) {
    let (Some(knobs), Some(cpu)) = (knobs(), cpu()) else {
        return;
    };
    count_unmap(ctx, knobs, cpu, &IOMMU_DOMAINS);
    late::look(ctx, knobs, cpu);
    nested::counted(ctx, &mut cpu.counted[UNMAPS]);
}

/// The same, for an unmap that an interrupt made while [`unmap`] ran.
#[inline(always)]
pub fn unmap_again(ctx: &RawTracePointContext) {
    let (Some(knobs), Some(cpu)) = (knobs(), cpu()) else {
        return;
    };
    if nested::was_counted(ctx, &mut cpu.counted[UNMAPS]) {
        return;
    }
    count_unmap(ctx, knobs, cpu, &IOMMU_NESTED);
    cpu.nested += 1;
}

#[inline(always)]
fn count_unmap(ctx: &RawTracePointContext, knobs: &IommuKnobs, cpu: &mut IommuCpu, rows: &Rows) {
    let (iova, asked, bytes): (u64, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let domain = handoff::take(iova, asked);
    let freed = asked.min(bytes);
    let found = if knobs.track > 0 {
        live::ends(domain, iova, freed)
    } else {
        live::UNKNOWN
    };
    if !is_asked_for(knobs, asked) {
        return;
    }
    match stats(rows, domain) {
        None => cpu.uncounted += 1,
        Some(stats) => {
            // SAFETY: as above.
            unsafe {
                let unmaps = &raw mut (*stats).unmaps;
                let marks = (&raw mut (*unmaps).started, &raw mut (*unmaps).completed);
                marked(marks, || {
                    (*unmaps).count += 1;
                    (*unmaps).bytes += bytes;
                    (*unmaps).asked_bytes += asked;
                    (*unmaps).freed_bytes += freed;
                    (*unmaps).whole += u64::from(found == live::WHOLE);
                    (*unmaps).pieces += u64::from(found == live::PIECE);
                    (*unmaps).untracked += u64::from(found == live::UNKNOWN);
                    count_size!((*unmaps).sizes, asked);
                });
            }
        }
    }
}

/// Whether all `bytes` from `paddr` on are main memory.
#[inline(always)]
fn is_ram(knobs: &IommuKnobs, cpu: &mut IommuCpu, paddr: u64, bytes: u64) -> bool {
    let end = paddr.wrapping_add(bytes);
    if paddr >= cpu.ram[0] && end <= cpu.ram[1] {
        return true;
    }
    let place = find_ram(paddr, end) as usize;
    if place >= RANGES {
        return false;
    }
    cpu.ram = knobs.ram[place];
    true
}

/// The range of main memory that `paddr` to `end` is in; [`RANGES`] where there is none. A global function: the verifier checks
/// its loop once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_ram(paddr: u64, end: u64) -> u64 {
    let Some(knobs) = knobs() else {
        return RANGES as u64;
    };
    let mut place = 0;
    while place < RANGES {
        if place as u64 >= knobs.rams {
            break;
        }
        let [first, last] = knobs.ram[place];
        if paddr >= first && end <= last {
            return place as u64;
        }
        place += 1;
    }
    RANGES as u64
}
