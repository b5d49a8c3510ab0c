//! Makes events of the programs' records.

use jiff::Timestamp;
use smi_common::iommu::{IommuRecord, Notice};

use super::{
    domains::{Domains, kind},
    faults::tracepoint_access,
};
use crate::{
    bpf::iommu::text,
    kernel::{clock::Epoch, iomem::Iomem, kallsyms::SymbolError, naming::Naming},
    model::iommu::{Fault, FaultSource, What},
};

/// When it was.
pub(super) fn time(record: &IommuRecord, epoch: Epoch) -> Timestamp {
    Timestamp::try_from(epoch.date(record.at_ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A device by what a program read of its name. Arm's `SMMUv2` tells of faults without saying whose.
pub(super) fn device_name(bytes: &[u8]) -> String {
    match text(bytes) {
        name if name.is_empty() => "unknown".to_owned(),
        name => name,
    }
}

/// What kind of record that is; `None` of one that no program of this version writes.
pub(super) fn notice(record: &IommuRecord) -> Option<Notice> {
    [
        Notice::Added,
        Notice::Removed,
        Notice::Attached,
        Notice::Detached,
        Notice::Fault,
        Notice::NotRam,
        Notice::Late,
        Notice::DomainGone,
    ]
    .into_iter()
    .find(|notice| *notice as u64 == record.notice)
}

/// `record` as an event; `None` where it tells nothing to people.
///
/// # Errors
/// When the kernel's symbols cannot be read.
pub(super) fn what(
    record: &IommuRecord,
    domains: &mut Domains,
    iomem: Option<&Iomem>,
    naming: &mut Naming,
) -> Result<Option<What>, SymbolError> {
    let device = device_name(&record.device);
    let group = u32::try_from(record.group).ok();
    let driver = Some(text(&record.driver)).filter(|driver| !driver.is_empty());
    Ok(match notice(record) {
        Some(Notice::Added) => group.map(|group| What::Added { device, group }),
        Some(Notice::Removed) => group.map(|group| What::Removed { device, group }),
        Some(Notice::Attached) => Some(What::Attached {
            device,
            group,
            kind: (record.domain > 0)
                .then(|| kind(record.domain_type).map(str::to_owned))
                .flatten(),
            driver,
        }),
        Some(Notice::Detached) => Some(What::Detached { device, group }),
        Some(Notice::Fault) => Some(What::Fault(Fault {
            device,
            driver,
            group,
            iova: Some(record.iova),
            access: tracepoint_access(record.flags).map(str::to_owned),
            reason: Some(format!("flags {:#x}", record.flags)),
            source: FaultSource::Tracepoint,
        })),
        Some(Notice::NotRam) => {
            let counts = domains.at(record.domain);
            Some(What::NotRam {
                domain: counts.domain,
                groups: counts.groups.clone(),
                devices: counts.devices.clone(),
                iova: record.iova,
                paddr: record.paddr,
                bytes: record.bytes,
                of: iomem.and_then(|iomem| iomem.name_at(record.paddr)),
            })
        }
        Some(Notice::Late) => {
            let stack = stack(record);
            naming.learn(stack.iter().copied())?;
            Some(What::Late {
                cpu: record.cpu as u32,
                process: record.process as u32,
                thread: record.thread as u32,
                comm: text(&record.comm),
                length_ns: record.length_ns,
                no_stack: stack
                    .is_empty()
                    .then(|| format!("the kernel said {}", record.stack_bytes)),
                stack: stack
                    .into_iter()
                    .map(|address| naming.words(address))
                    .collect(),
            })
        }
        Some(Notice::DomainGone) | None => None,
    })
}

/// The addresses on its stack, such that each lies within the function that was left there: a return address may be that
/// of the next one.
fn stack(record: &IommuRecord) -> Vec<u64> {
    let frames = usize::try_from(record.stack_bytes).unwrap_or(0) / size_of::<u64>();
    record
        .stack
        .iter()
        .take(frames)
        .map(|address| address.saturating_sub(1))
        .collect()
}
