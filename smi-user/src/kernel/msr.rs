//! Model-specific registers through `/dev/cpu/N/msr` (`msr(4)`).

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

/// Counts SMIs on Intel CPUs since Nehalem (Intel SDM volume 4, `MSR_SMI_COUNT`).
pub const SMI_COUNT: u32 = 0x34;
/// Abilities of VMX beyond the basic ones (Intel SDM volume 3, appendix A.6).
pub const IA32_VMX_MISC: u32 = 0x485;

/// The device of `cpu`.
pub fn device(cpu: u32) -> PathBuf {
    PathBuf::from(format!("/dev/cpu/{cpu}/msr"))
}

/// The value of `register` of `cpu`.
///
/// # Errors
/// `ENOENT` without the driver, `EPERM` or `EACCES` without the privilege, `EIO` where the CPU has no such register.
pub fn read(cpu: u32, register: u32) -> io::Result<u64> {
    let mut value = [0; 8];
    File::open(device(cpu))?.read_exact_at(&mut value, register.into())?;
    Ok(u64::from_le_bytes(value))
}
