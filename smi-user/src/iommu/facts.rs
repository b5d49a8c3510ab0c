//! What the programs must know of this kernel: where its structures keep what they read.

use smi_common::iommu::IommuKnobs;

use crate::kernel::{
    btf::{Btf, BtfError},
    per_cpu,
};

/// What of it could not be found, and what is missing for that reason.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Devices and groups have no names.
    pub(super) names: Option<BtfError>,
    /// Need-resched cannot be seen.
    pub(super) resched: Option<BtfError>,
}

/// Fills in the offsets of this kernel.
///
/// # Errors
/// When the kernel does not describe its types at all.
pub(super) fn fill(knobs: &mut IommuKnobs) -> Result<Missing, BtfError> {
    let btf = Btf::kernel()?;
    Ok(Missing {
        names: names(&btf, knobs).err(),
        resched: resched(&btf, knobs).err(),
    })
}

fn names(btf: &Btf, knobs: &mut IommuKnobs) -> Result<(), BtfError> {
    let of = |structure, path: &[&str]| btf.offset_of(structure, path);
    knobs.device_name = of("device", &["kobj", "name"])?;
    knobs.device_driver = of("device", &["driver"])?;
    knobs.device_group = of("device", &["iommu_group"])?;
    knobs.driver_name = of("device_driver", &["name"])?;
    knobs.group_id = of("iommu_group", &["id"])?;
    knobs.group_domain = of("iommu_group", &["domain"])?;
    knobs.group_default_domain = of("iommu_group", &["default_domain"])?;
    knobs.group_kobj = of("iommu_group", &["kobj"])?;
    knobs.domain_type = of("iommu_domain", &["type"])?;
    knobs.task_files = of("task_struct", &["files"])?;
    knobs.files_fdt = of("files_struct", &["fdt"])?;
    knobs.fdt_fd = of("fdtable", &["fd"])?;
    knobs.file_inode = of("file", &["f_inode"])?;
    knobs.inode_private = of("inode", &["i_private"])?;
    knobs.node_priv = of("kernfs_node", &["priv"])?;
    Ok(())
}

fn resched(btf: &Btf, knobs: &mut IommuKnobs) -> Result<(), BtfError> {
    knobs.task_nvcsw = btf.offset_of("task_struct", &["nvcsw"])?;
    knobs.task_nivcsw = btf.offset_of("task_struct", &["nivcsw"])?;
    knobs.rq = per_cpu::rq(btf)?;
    knobs.rq_preempt_count = per_cpu::preempt_count(btf)?;
    Ok(())
}
