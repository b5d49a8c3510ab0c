//! What the chipset makes of a write to the port that raises SMIs. As it comes, it sends one to the CPU that wrote.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::{fw_cfg::FwCfg, port::Ports};

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

/// Configuration space of the LPC bridge, and in it the address of the power management's ports (Intel's I/O Controller
/// Hub 9 datasheet, `PMBASE`; its lowest bit says that it is one of ports).
const LPC_BRIDGE: &str = "/sys/bus/pci/devices/0000:00:1f.0/config";
const PMBASE: u64 = 0x40;
const PMBASE_MASK: u16 = 0xff80;

/// Among those ports, which events raise SMIs, and the bit for writes to `APM_CNT` (same datasheet, `SMI_EN`).
const SMI_EN: u16 = 0x30;
const APMC_EN: u32 = 1 << 5;

/// Has writes to the port raise no SMI from now on, as in a machine whose firmware has no use for it.
///
/// QEMU's `smm=off` does no such thing by itself: under TCG it only keeps firmware from putting a handler in place, by
/// showing it this bit as already set (`pm_reset` in `hw/acpi/ich9.c` of QEMU), so that SMIs do come.
///
/// # Errors
/// When the chipset does not let go of it.
pub fn disarm_port() -> io::Result<()> {
    let mut pmbase = [0; 2];
    File::open(LPC_BRIDGE)?.read_exact_at(&mut pmbase, PMBASE)?;
    let ports = Ports::open((u16::from_le_bytes(pmbase) & PMBASE_MASK) + SMI_EN, 4)?;
    ports.write(0, ports.read(0) & !APMC_EN);
    match ports.read(0) & APMC_EN {
        0 => Ok(()),
        _ => Err(io::Error::other("SMI_EN cannot be changed")),
    }
}
