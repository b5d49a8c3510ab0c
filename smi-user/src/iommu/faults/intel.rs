//! Intel: `dmar_fault_do_one` in `drivers/iommu/intel/dmar.c`.
//!
//! | from | looks like |
//! | --- | --- |
//! | 4.2 | `DMAR: [DMA Write] Request device [00:1f.2] fault addr 7ffdf000 [fault reason 05] PTE Write access is not set` |
//! | 5.10 | the same with ` PASID ffffffff` before `fault addr`: that is for none |
//! | 5.14 | `DMAR: [DMA Read NO_PASID] Request device [0x00:0x02.0] fault addr 0xfffff000 [fault reason 0x06] PTE Read access ...` |
//! | 5.18 | the same with `[00:02.0]`; `PASID 0x1` in place of `NO_PASID` where there is one |
//! | 7.x | the same with the PCI domain, `[0000:00:02.0]` |
//!
//! Interrupts: `DMAR: [INTR-REMAP] Request device [00:1f.0] fault index 0x1c [fault reason 0x26] Blocked an interrupt request ...`.
//! Up to then the PCI domain is left out, be it 0000 or not, and taken for that.

use super::{between, hex, pci, read_or_write, report};
use crate::model::iommu::Fault;

/// What it says of a fault.
pub(super) fn fault(text: &str) -> Option<Fault> {
    let text = text.strip_prefix("DMAR: ")?.trim_start();
    let (kind, rest) = text.strip_prefix('[')?.split_once("] Request device [")?;
    let (device, rest) = rest.split_once(']')?;
    let (address, words) = rest.split_once(" [fault reason ")?;
    let (number, words) = words.split_once(']')?;
    let words = words.trim();
    let device = pci(&device.replace("0x", ""))?;
    if kind == "INTR-REMAP" {
        let index = hex(address.trim().strip_prefix("fault index ")?)?;
        return Some(Fault {
            reason: Some(format!(
                "{words} [fault reason {number}], interrupt {index:#x}"
            )),
            ..report(device)
        });
    }
    let access = kind.strip_prefix("DMA ")?;
    let pasid = between(kind, " PASID ", "")
        .or_else(|| between(address, "PASID ", " "))
        .filter(|pasid| hex(pasid) != Some(u64::from(u32::MAX)));
    let pasid = pasid
        .and_then(hex)
        .map_or_else(String::new, |pasid| format!(", PASID {pasid:#x}"));
    Some(Fault {
        iova: hex(between(address, "fault addr ", "")?),
        access: Some(read_or_write(access.starts_with("Write"))),
        reason: Some(format!("{words} [fault reason {number}]{pasid}")),
        ..report(device)
    })
}
