//! AMD: `iommu_print_event` and what it calls in `drivers/iommu/amd/iommu.c`.
//!
//! A fault of a device that the kernel knows begins with its driver and its name, as all messages about devices do:
//! `nvme 0000:03:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d address=0xcfd51ad0 flags=0x0070]`. Others name it within:
//! `AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:03:00.0 domain=...`, with the PCI domain left out before 6.0, and behind the name of the IOMMU's own device for all other events, such as `pci 0000:00:00.2: AMD-Vi: Event logged
//! [ILLEGAL_DEV_TABLE_ENTRY device=...`. Events of the IOMMU itself, such as `COMMAND_HARDWARE_ERROR`, name none: they are no faults of
//! a device, and not told.

use super::{hex, pci, prefixed, read_or_write, report};
use crate::model::iommu::Fault;

/// How the reason of faults begins that the tracepoint tells of too.
pub(super) const TRACED: &str = "IO_PAGE_FAULT [";

/// The request was for an interrupt (`EVENT_FLAG_I` in `amd_iommu_types.h`).
const INTERRUPT: u64 = 0x8;
/// It was a write (`EVENT_FLAG_RW`). By AMD's manual that means something only for pages that are there; the kernel takes it as it is
/// for the others too, as tests showed it to be right (the commit that made it call `report_iommu_fault`, 5.16).
const WRITE: u64 = 0x20;

/// What it says of a fault.
pub(super) fn fault(text: &str) -> Option<Fault> {
    if let Some(rest) = text.strip_prefix("AMD-Vi:") {
        // The second line of two; the first names no device.
        if let Some(device) = rest.trim_start().strip_prefix("device=") {
            return Some(Fault {
                reason: Some("Device not attached to domain properly".to_owned()),
                ..report(pci(device.split(' ').next()?)?)
            });
        }
    }
    let (before, event) = text.split_once("AMD-Vi: Event logged [")?;
    let event = event.trim_end().trim_end_matches(']');
    let (kind, fields) = event.split_once(' ')?;
    let field = |name: &str| {
        fields
            .split([' ', ','])
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let named = before.strip_suffix(": ").and_then(prefixed);
    let (device, driver) = match field("device") {
        Some(device) => (pci(device)?, None),
        // Who is named in front is the device itself where the event names none.
        None if kind.contains("PAGE_FAULT") || kind.starts_with("RMP_") => {
            let (driver, device) = named?;
            (pci(device)?, driver)
        }
        None => return None,
    };
    let flags = field("flags").and_then(hex);
    let interrupt = flags.is_some_and(|flags| flags & INTERRUPT != 0);
    let mut told = Vec::new();
    for name in ["flags", "vflags", "flags_rmp", "pasid", "vmg_tag", "tag"] {
        if let Some(value) = field(name) {
            told.push(format!("{name}={value}"));
        }
    }
    let of = if interrupt { " of an interrupt" } else { "" };
    Some(Fault {
        driver: driver.map(str::to_owned),
        iova: ["address", "gpa", "spa"]
            .into_iter()
            .find_map(field)
            .and_then(hex),
        access: flags
            .filter(|_| !interrupt && kind == "IO_PAGE_FAULT")
            .map(|flags| read_or_write(flags & WRITE != 0)),
        reason: Some(if told.is_empty() {
            format!("{kind}{of}")
        } else {
            format!("{kind}{of} [{}]", told.join(", "))
        }),
        ..report(device)
    })
}
