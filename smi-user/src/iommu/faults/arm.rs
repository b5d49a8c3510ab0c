//! Arm's SMMU, versions 2 and 3.
//!
//! Version 2 (`arm_smmu_context_fault`, from 6.11 `arm_smmu_print_context_fault_info`, in
//! `drivers/iommu/arm/arm-smmu/arm-smmu.c`): `arm-smmu 15000000.iommu: Unhandled context fault: fsr=0x402, iova=0x7ffc00000,
//! fsynr=0x100011, cbfrsynra=0x121, cb=6`; what newer ones write behind that says the same in words. And `Blocked unknown Stream ID
//! 0x429; boot with ...` for a device that nobody set up (`arm_smmu_global_fault`).
//!
//! Version 3 (`arm_smmu_evtq_thread`, from 6.14 `arm_smmu_dump_event`, in `drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c`) writes an
//! event as `arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:` and four lines with a number each, whose fields `arm-smmu-v3.h`
//! gives. From 6.14 on, `event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0xfffff040 ipa: 0x0` comes behind
//! that, and for some events a line more in words. Only that names the device: elsewhere it is `stream 0x100 of arm-smmu-v3.0.auto`,
//! and which device has that number is known to the machine's tables only.

use super::{Fault, between, hex, pci, prefixed, read_or_write, report};

/// How the reason of faults begins that the tracepoint tells of too.
pub(super) const TRACED: &str = "context fault [";

/// The access was a write (`ARM_SMMU_CB_FSYNR0_WNR` in `arm-smmu.h`).
const FSYNR_WRITE: u64 = 1 << 4;
/// The stream's number (`ARM_SMMU_CBFRSYNRA_SID`).
const STREAM: u64 = 0xffff;

/// What version 2 says of a fault.
pub(super) fn version_2(text: &str) -> Option<Fault> {
    let (before, rest) = text.split_once(": ")?;
    let (Some("arm-smmu"), iommu) = prefixed(before)? else {
        return None;
    };
    if let Some(fields) = rest.strip_prefix("Unhandled context fault: ") {
        let field = |name| hex(between(fields, name, ",").unwrap_or_default());
        let stream = field("cbfrsynra=")? & STREAM;
        let (fsr, fsynr) = (field("fsr=")?, field("fsynr=")?);
        return Some(Fault {
            iova: field("iova="),
            access: Some(read_or_write(fsynr & FSYNR_WRITE != 0)),
            reason: Some(format!("context fault [fsr={fsr:#x}, fsynr={fsynr:#x}]")),
            ..report(unnamed(stream, iommu))
        });
    }
    let stream = rest.strip_prefix("Blocked unknown Stream ID ")?;
    let stream = hex(stream.split(';').next()?)?;
    Some(Fault {
        reason: Some("the device was not set up, and is blocked".to_owned()),
        ..report(unnamed(stream, iommu))
    })
}

fn unnamed(stream: u64, iommu: &str) -> String {
    format!("stream {stream:#x} of {iommu}")
}

/// An event of version 3 of which not all lines came yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// What all its lines begin with.
    prefix: String,
    words: Vec<u64>,
}

impl Event {
    /// The first line of one.
    pub(super) fn begin(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once(": ")?;
        prefix.strip_prefix("arm-smmu-v3 ")?;
        let number = rest.strip_prefix("event ")?.strip_suffix(" received:")?;
        hex(number)?;
        Some(Self {
            prefix: prefix.to_owned(),
            words: Vec::new(),
        })
    }

    /// Whether `text` is the next line; it is taken then.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let word = text
            .strip_prefix(&self.prefix)
            .and_then(|rest| rest.strip_prefix(": "))
            .and_then(|rest| rest.strip_prefix('\t'))
            .and_then(hex);
        match word {
            Some(word) if self.words.len() < 4 => {
                self.words.push(word);
                true
            }
            _ => false,
        }
    }

    /// Whether `text` is the line that names the device; if so, what all lines together say.
    pub(super) fn named(&self, text: &str) -> Option<Fault> {
        let rest = text.strip_prefix(&self.prefix)?.strip_prefix(": event: ")?;
        let (_, rest) = rest.split_once(" client: ")?;
        let (client, _) = rest.split_once(" sid: ")?;
        let fault = self.fault()?;
        Some(if client.starts_with('(') {
            fault
        } else {
            Fault {
                device: pci(client).unwrap_or_else(|| client.to_owned()),
                ..fault
            }
        })
    }

    /// Whether both are of one IOMMU.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        self.prefix == other.prefix
    }

    /// What the numbers say; `None` before the first of them came.
    pub(super) fn fault(&self) -> Option<Fault> {
        let word = |index: usize| self.words.get(index).copied();
        let first = word(0)?;
        let iommu = self.prefix.strip_prefix("arm-smmu-v3 ")?;
        let id = first & 0xff;
        // Others tell of what the IOMMU's tables say, at no address.
        let at_an_address = matches!(id, 0x10..=0x13);
        let name = name(id).map_or_else(|| format!("event {id:#04x}"), str::to_owned);
        // `EVTQ_0_SSV` and `EVTQ_0_SSID`.
        let reason = if first & (1 << 11) == 0 {
            name
        } else {
            format!("{name}, PASID {:#x}", (first >> 12) & 0xf_ffff)
        };
        // `EVTQ_1_RnW`.
        let access = word(1).map(|second| read_or_write(second & (1 << 35) == 0));
        Some(Fault {
            iova: word(2).filter(|_| at_an_address),
            access: access.filter(|_| at_an_address),
            reason: Some(reason),
            // `EVTQ_0_SID`.
            ..report(unnamed(first >> 32, iommu))
        })
    }
}

/// `event_str` in `arm-smmu-v3.c`, and the names of the architecture for the rest.
fn name(id: u64) -> Option<&'static str> {
    Some(match id {
        0x01 => "F_UUT",
        0x02 => "C_BAD_STREAMID",
        0x03 => "F_STE_FETCH",
        0x04 => "C_BAD_STE",
        0x05 => "F_BAD_ATS_TREQ",
        0x06 => "F_STREAM_DISABLED",
        0x07 => "F_TRANSL_FORBIDDEN",
        0x08 => "C_BAD_SUBSTREAMID",
        0x09 => "F_CD_FETCH",
        0x0a => "C_BAD_CD",
        0x0b => "F_WALK_EABT",
        0x10 => "F_TRANSLATION",
        0x11 => "F_ADDR_SIZE",
        0x12 => "F_ACCESS",
        0x13 => "F_PERMISSION",
        0x20 => "F_TLB_CONFLICT",
        0x21 => "F_CFG_CONFLICT",
        0x24 => "E_PAGE_REQUEST",
        0x25 => "F_VMS_FETCH",
        _ => return None,
    })
}
