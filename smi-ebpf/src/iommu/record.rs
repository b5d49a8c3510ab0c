//! Tells user space of single things.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_smp_processor_id,
        bpf_probe_read_kernel_str_bytes, generated::bpf_get_stack,
    },
    macros::map,
    maps::{RingBuf, ring_buf::RingBufEntry},
};
use smi_common::iommu::{IommuRecord, Notice, STACK};

use super::{cpu, knobs};
use crate::{
    memory::read,
    spin::{Clock, Kernel},
};

/// Room for some 400 records, held until user space fetches them. A power of two.
const RECORDS_BYTES: u32 = 256 * 1024;

/// Single things.
#[map]
static IOMMU_RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// A record with what all have; the rest is 0.
#[inline(always)]
pub(super) fn begin(notice: Notice) -> Option<RingBufEntry<IommuRecord>> {
    let cpu = cpu()?;
    let Some(mut entry) = IOMMU_RECORDS.reserve::<IommuRecord>(0) else {
        cpu.records_lost += 1;
        return None;
    };
    cpu.records_sent += 1;
    let record = entry.as_mut_ptr();
    let ids = bpf_get_current_pid_tgid();
    // Field by field: as a whole it would be made on the stack, of which programs have little.
    // SAFETY: the record has room for each field; the helpers have no preconditions.
    unsafe {
        (*record).at_ns = Kernel::now();
        (*record).notice = notice as u64;
        (*record).cpu = u64::from(bpf_get_smp_processor_id());
        (*record).process = ids >> 32;
        (*record).thread = ids & u64::from(u32::MAX);
        (*record).comm = bpf_get_current_comm().unwrap_or_default();
        (*record).group = -1;
        (*record).domain = 0;
        (*record).domain_type = 0;
        (*record).device[0] = 0;
        (*record).driver[0] = 0;
        (*record).iova = 0;
        (*record).paddr = 0;
        (*record).bytes = 0;
        (*record).flags = 0;
        (*record).length_ns = 0;
        (*record).stack_bytes = 0;
    }
    Some(entry)
}

/// Hands it over.
#[inline(always)]
pub(super) fn end(entry: RingBufEntry<IommuRecord>) {
    entry.submit(0);
}

/// Notes `device`, its driver and its group. One driver tells of faults without saying whose: what is at address 0 cannot be read.
#[inline(always)]
pub(super) fn of_device(entry: &mut RingBufEntry<IommuRecord>, device: u64) {
    let Some(knobs) = knobs() else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: the record has room; the helper checks the addresses it reads from.
    unsafe {
        name(&mut (*record).device, device, knobs.device_name);
        if let Some(driver) = read::<u64>(device, knobs.device_driver)
            && driver > 0
        {
            name(&mut (*record).driver, driver, knobs.driver_name);
        }
        let Some(group) = read::<u64>(device, knobs.device_group) else {
            return;
        };
        if group == 0 {
            return;
        }
        if let Some(id) = read::<i32>(group, knobs.group_id) {
            (*record).group = i64::from(id);
        }
    }
}

/// The string that the pointer at `offset` from `base` leads to.
#[inline(always)]
pub(super) fn name(to: &mut [u8], base: u64, offset: u64) {
    let Some(from) = read::<u64>(base, offset) else {
        return;
    };
    // SAFETY: the helper checks the address. Where it cannot be read, `to` stays as it is.
    let _read = unsafe { bpf_probe_read_kernel_str_bytes(from as *const u8, to) };
}

/// Tells of a map. A global function returns a number: 0.
#[inline(always)]
pub(super) fn of_map(notice: Notice, domain: u64, iova: u64, paddr: u64, bytes: u64) {
    let Some(mut entry) = begin(notice) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record has room for each field.
    unsafe {
        (*record).domain = domain;
        (*record).iova = iova;
        (*record).paddr = paddr;
        (*record).bytes = bytes;
    }
    end(entry);
}

/// Tells of a run with need-resched pending, with the stack of the program whose context is `ctx`.
#[inline(always)]
pub(super) fn of_late(ctx: *mut c_void, length_ns: u64) {
    let Some(mut entry) = begin(Notice::Late) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record has room for each field, the buffer is of the size told.
    unsafe {
        (*record).length_ns = length_ns;
        (*record).stack_bytes = bpf_get_stack(
            ctx,
            (&raw mut (*record).stack).cast(),
            (STACK * size_of::<u64>()) as u32,
            0,
        );
    }
    end(entry);
}
