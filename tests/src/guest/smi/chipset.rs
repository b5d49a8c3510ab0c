//! What the chipset makes of a write to the port that raises SMIs. As it comes, it sends one to the CPU that wrote.

use std::io;

use super::fw_cfg::FwCfg;

/// Files by which firmware and QEMU settle what SMIs are like (`hw/isa/lpc_ich9.c` of QEMU). Reading the last one ends the
/// negotiation, for good until the machine is reset, and tells whether QEMU agreed.
const SUPPORTED: &str = "etc/smi/supported-features";
const REQUESTED: &str = "etc/smi/requested-features";
const FEATURES_OK: &str = "etc/smi/features-ok";

/// A write to the port stops all CPUs (`ICH9_LPC_SMI_F_BROADCAST_BIT`).
const BROADCAST: u64 = 1 << 0;

/// Has each write to the port send an SMI to all CPUs from now on, as real machines do. `SeaBIOS` leaves undecided what
/// OVMF negotiates like this.
///
/// # Errors
/// When QEMU does not offer that, or something else was settled before.
pub fn broadcast() -> io::Result<()> {
    let device = FwCfg::open()?;
    let supported = u64::from_le_bytes(device.read(SUPPORTED)?);
    if supported & BROADCAST == 0 {
        return Err(io::Error::other(format!(
            "QEMU cannot send SMIs to all CPUs; it supports {supported:#x}"
        )));
    }
    device.write(REQUESTED, &BROADCAST.to_le_bytes())?;
    match device.read(FEATURES_OK)? {
        [1] => Ok(()),
        [other] => Err(io::Error::other(format!(
            "QEMU does not agree to send SMIs to all CPUs: {FEATURES_OK} is {other}"
        ))),
    }
}
