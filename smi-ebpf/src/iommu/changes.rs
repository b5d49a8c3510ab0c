//! Tells of devices that change their group or domain, of faults, and of domains that go.

use aya_ebpf::{
    macros::map,
    maps::PerCpuHashMap,
    programs::{FEntryContext, RawTracePointContext},
};
use smi_common::iommu::{FaultStats, Notice};

use super::{argument, cpu, handoff, knobs, record};
use crate::memory::read;

/// Devices with faults that are counted apart.
const FAULTY: u32 = 1024;

/// Faults, by the address of the device.
#[map]
static IOMMU_FAULTS: PerCpuHashMap<u64, FaultStats> = PerCpuHashMap::with_max_entries(FAULTY, 0);

/// `iommu:add_device_to_group(group_id, dev)` and `remove_device_from_group`.
#[inline(always)]
pub fn of_group(ctx: &RawTracePointContext, notice: Notice) {
    let Some(mut entry) = record::begin(notice) else {
        return;
    };
    record::of_device(&mut entry, ctx.arg(1));
    // While it is being added or removed, the device itself may not say.
    let group = (ctx.arg::<u64>(0) as u32).cast_signed();
    // SAFETY: the record has room.
    unsafe { (*entry.as_mut_ptr()).group = i64::from(group) };
    record::end(entry);
}

/// `iommu:attach_device_to_domain(dev)`. Its group has the domain it had before still.
#[inline(always)]
pub fn attached(ctx: &RawTracePointContext) {
    let device: u64 = ctx.arg(0);
    let domain = handoff::take(device, 0);
    let Some(mut entry) = record::begin(Notice::Attached) else {
        return;
    };
    record::of_device(&mut entry, device);
    let domain_type = match knobs() {
        Some(knobs) if domain > 0 => read::<u32>(domain, knobs.domain_type).unwrap_or(0),
        _ => 0,
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record has room for both fields.
    unsafe {
        (*record).domain = domain;
        (*record).domain_type = domain_type.into();
    }
    record::end(entry);
}

/// `iommu:detach_device_from_domain(dev)`.
#[inline(always)]
pub fn detached(ctx: &RawTracePointContext) {
    let Some(mut entry) = record::begin(Notice::Detached) else {
        return;
    };
    record::of_device(&mut entry, ctx.arg(0));
    record::end(entry);
}

/// `iommu:io_page_fault(dev, iova, flags)`.
#[inline(always)]
pub fn fault(ctx: &RawTracePointContext) {
    let device: u64 = ctx.arg(0);
    count_fault(device);
    let Some(mut entry) = record::begin(Notice::Fault) else {
        return;
    };
    record::of_device(&mut entry, device);
    let record = entry.as_mut_ptr();
    // SAFETY: the record has room for both fields.
    unsafe {
        (*record).iova = ctx.arg(1);
        (*record).flags = ctx.arg::<u64>(2) & u64::from(u32::MAX);
    }
    record::end(entry);
}

#[inline(always)]
fn count_fault(device: u64) {
    let (Some(knobs), Some(cpu)) = (knobs(), cpu()) else {
        return;
    };
    let had = IOMMU_FAULTS.get_ptr_mut(device).or_else(|| {
        // On other CPUs it begins without a name.
        let mut new = FaultStats::default();
        record::name(&mut new.device, device, knobs.device_name);
        let _made = IOMMU_FAULTS.insert(device, new, 0);
        IOMMU_FAULTS.get_ptr_mut(device)
    });
    match had {
        // SAFETY: a value of this CPU in the map.
        Some(stats) => unsafe { (*stats).count += 1 },
        None => cpu.uncounted += 1,
    }
}

/// Entry of `iommu_domain_free(domain)`: what comes to lie at its address later is another.
#[inline(always)]
pub fn domain_gone(ctx: &FEntryContext) {
    let Some(mut entry) = record::begin(Notice::DomainGone) else {
        return;
    };
    // SAFETY: the record has room.
    unsafe { (*entry.as_mut_ptr()).domain = argument(ctx, 0) };
    record::end(entry);
}
