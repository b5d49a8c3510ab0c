//! Finds the domain of a group: from the group's folder in sysfs, which user space has opened, to the kernel's structures.

use aya_ebpf::{
    helpers::bpf_get_current_task, macros::map, maps::Array, programs::RawTracePointContext,
};
use smi_common::iommu::GroupAnswer;

use super::knobs;
use crate::memory::read;

/// What was found; one entry.
#[map]
static IOMMU_GROUP: Array<GroupAnswer> = Array::with_max_entries(1, 0);

/// Run by user space, for a descriptor of `/sys/kernel/iommu_groups/N` of its own.
#[inline(always)]
pub fn read_group(ctx: &RawTracePointContext) {
    let Some(answer) = IOMMU_GROUP.get_ptr_mut(0) else {
        return;
    };
    let found = find(ctx.arg(0)).unwrap_or_default();
    // SAFETY: a place in the map; only this program, run by one thread, writes it.
    unsafe { *answer = found };
}

#[inline(always)]
fn find(descriptor: u64) -> Option<GroupAnswer> {
    let knobs = knobs()?;
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files = read::<u64>(task, knobs.task_files)?;
    let table = read::<u64>(files, knobs.files_fdt)?;
    let array = read::<u64>(table, knobs.fdt_fd)?;
    let file = read::<u64>(array, descriptor.checked_mul(8)?)?;
    let inode = read::<u64>(file, knobs.file_inode)?;
    let node = read::<u64>(inode, knobs.inode_private)?;
    // The kobject that the folder shows lies within the group.
    let group = read::<u64>(node, knobs.node_priv)?.wrapping_sub(knobs.group_kobj);
    let domain = read::<u64>(group, knobs.group_domain)?;
    let domain_type = if domain == 0 {
        0
    } else {
        read::<u32>(domain, knobs.domain_type)?
    };
    Some(GroupAnswer {
        domain,
        domain_type: domain_type.into(),
        default_domain: read(group, knobs.group_default_domain)?,
        id: u64::from(read::<u32>(group, knobs.group_id)?),
        found: 1,
    })
}
