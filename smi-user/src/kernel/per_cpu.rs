//! How BPF programs find the kernel's per-CPU variables, of which kernels without `CONFIG_KALLSYMS_ALL` tell no addresses: the
//! running thread leads to its CPU's `rq`, and the others lie at a known distance from it.

use smi_common::RqPath;

use super::btf::{Btf, BtfError};

/// Where `preempt_count` is kept: in a variable of its own, or from 6.2 to 6.14 in one with others (`arch/x86/include/asm/
/// current.h`).
const ALONE: &str = "__preempt_count";
const TOGETHER: &str = "pcpu_hot";

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

/// From a CPU's `rq` to its `preempt_count`.
///
/// # Errors
/// When the kernel does not describe it.
pub fn preempt_count(btf: &Btf) -> Result<u64, BtfError> {
    from_rq(btf, ALONE).or_else(|error| {
        let within = btf.offset_of(TOGETHER, &["preempt_count"]);
        let (Ok(variable), Ok(within)) = (from_rq(btf, TOGETHER), within) else {
            return Err(error);
        };
        Ok(variable.wrapping_add(within))
    })
}
