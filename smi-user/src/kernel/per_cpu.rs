//! How BPF programs find the kernel's per-CPU variables, of which kernels without `CONFIG_KALLSYMS_ALL` tell no addresses: the
//! running thread leads to its CPU's `rq`, and the others lie at a known distance from it.

use smi_common::RqPath;

use super::btf::{Btf, BtfError};

/// From a thread to its CPU's `rq` (`struct rq` in `kernel/sched/sched.h`).
///
/// # Errors
/// When the kernel has other structures.
pub fn rq(btf: &Btf) -> Result<RqPath, BtfError> {
    Ok(RqPath {
        task_cfs_rq: btf.offset_of("task_struct", &["se", "cfs_rq"])?,
        cfs_rq_rq: btf.offset_of("cfs_rq", &["rq"])?,
        rq_cpu: btf.offset_of("rq", &["cpu"])?,
    })
}

/// From a CPU's `rq` to its `variable`, in bytes, modulo 2^64.
///
/// # Errors
/// When the kernel has no such variable.
pub fn from_rq(btf: &Btf, variable: &str) -> Result<u64, BtfError> {
    Ok(btf
        .per_cpu(variable)?
        .wrapping_sub(btf.per_cpu("runqueues")?))
}
