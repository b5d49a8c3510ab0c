//! Reads in the kernel's log what drivers of IOMMUs say of faults: the only source where they do not emit
//! `iommu:io_page_fault`, as Intel's does not.
//!
//! Each driver has words of its own; the modules below name the place in the kernel where they are written. All of them hold
//! messages back when more come than the kernel's usual limit allows, ten in five seconds, and say afterwards how many.

mod amd;
mod arm;
mod intel;
#[cfg(test)]
mod tests;
mod virtio;

use std::time::Duration;

use crate::{
    kernel::{kmsg::Message, viot::Endpoints},
    model::iommu::{Fault, FaultSource},
};

/// The lines of one event come within this time.
const TOGETHER: Duration = Duration::from_millis(500);

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// There was a fault.
    Fault(Fault),
    /// So many messages of faults were held back. Intel's driver counts two more for each interrupt: the line that comes before its
    /// faults, and the look for one more (`dmar_fault`).
    Suppressed(u64),
}

/// Picks the faults out of the log.
#[derive(Debug, Default)]
pub struct FaultReader {
    endpoints: Endpoints,
    /// Events of which more lines may come.
    begun: Vec<Begun>,
}

#[derive(Debug)]
struct Begun {
    since_boot: Duration,
    /// Whether the call in which it began is over.
    waited: bool,
    event: arm::Event,
}

impl FaultReader {
    /// `endpoints` tells which device a virtio-iommu's endpoint is.
    pub fn new(endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            begun: Vec::new(),
        }
    }

    /// What `messages` say, each with its time in the log. Call it with what came, be it nothing, at each interval: an event of
    /// several lines of which the last may be missing is told at the call after that.
    pub fn take(&mut self, messages: &[Message]) -> Vec<(Duration, Report)> {
        let mut told = Vec::new();
        for message in messages {
            let now = message.since_boot;
            self.end(&mut told, |begun| now > begun.since_boot + TOGETHER);
            self.take_one(message, &mut told);
        }
        self.end(&mut told, |begun| begun.waited);
        for begun in &mut self.begun {
            begun.waited = true;
        }
        told
    }

    fn take_one(&mut self, message: &Message, told: &mut Vec<(Duration, Report)>) {
        let text = message.text.as_str();
        // Messages of others may come between the lines of an event.
        if self.begun.iter_mut().any(|begun| begun.event.take(text)) {
            return;
        }
        let named = |begun: &Begun| begun.event.named(text);
        if let Some((index, fault)) = self
            .begun
            .iter()
            .enumerate()
            .find_map(|(index, begun)| Some((index, named(begun)?)))
        {
            let begun = self.begun.remove(index);
            told.push((begun.since_boot, Report::Fault(fault)));
            return;
        }
        if let Some(event) = arm::Event::begin(text) {
            self.end(told, |begun| begun.event.is_of_the_same(&event));
            self.begun.push(Begun {
                since_boot: message.since_boot,
                waited: false,
                event,
            });
            return;
        }
        let report = suppressed(text)
            .map(Report::Suppressed)
            .or_else(|| Some(Report::Fault(fault(text, &self.endpoints)?)));
        told.extend(report.map(|report| (message.since_boot, report)));
    }

    /// Tells of events to which no more lines come.
    fn end(&mut self, told: &mut Vec<(Duration, Report)>, over: impl Fn(&Begun) -> bool) {
        for begun in self.begun.extract_if(.., |begun| over(begun)) {
            let fault = begun.event.fault();
            told.extend(fault.map(|fault| (begun.since_boot, Report::Fault(fault))));
        }
    }
}

/// What one line says by itself.
fn fault(text: &str, endpoints: &Endpoints) -> Option<Fault> {
    intel::fault(text)
        .or_else(|| amd::fault(text))
        .or_else(|| arm::version_2(text))
        .or_else(|| virtio::fault(text, endpoints))
}

/// Functions whose messages are faults, for [`suppressed`].
const HELD_BACK: [&str; 12] = [
    // Intel.
    "dmar_fault",
    // AMD.
    "amd_iommu_report_page_fault",
    "amd_iommu_report_rmp_fault",
    "amd_iommu_report_rmp_hw_error",
    // Arm, version 2.
    "arm_smmu_context_fault",
    "arm_smmu_global_fault",
    "nvidia_smmu_context_fault_bank",
    "qcom_smmu_context_fault",
    // Arm, version 3.
    "arm_smmu_evtq_thread",
    "arm_smmu_evtq_common",
    "arm_smmu_dump_event",
    // virtio-iommu.
    "viommu_fault_handler",
];

/// `dmar_fault: 3 callbacks suppressed` (`___ratelimit` in `lib/ratelimit.c`), written when messages are let through again.
fn suppressed(text: &str) -> Option<u64> {
    let (function, rest) = text.split_once(": ")?;
    let count = rest.trim_end().strip_suffix(" callbacks suppressed")?;
    HELD_BACK
        .contains(&function)
        .then(|| count.parse().ok())
        .flatten()
}

/// Whether a fault that the log tells of is of a kind for which its driver emits the tracepoint too, if it does for any.
pub(super) fn is_traced_too(fault: &Fault) -> bool {
    fault
        .reason
        .as_deref()
        .is_some_and(|reason| reason.starts_with(amd::TRACED) || reason.starts_with(arm::TRACED))
}

/// What the flags of `iommu:io_page_fault` say of the access: `IOMMU_FAULT_READ` is 0 and `IOMMU_FAULT_WRITE` 1
/// (`include/linux/iommu.h`). `None` for what no driver is known to pass.
pub fn tracepoint_access(flags: u64) -> Option<&'static str> {
    match flags {
        0 => Some("read"),
        1 => Some("write"),
        _ => None,
    }
}

/// What is the same for all.
fn report(device: String) -> Fault {
    Fault {
        device,
        driver: None,
        group: None,
        iova: None,
        access: None,
        reason: None,
        source: FaultSource::KernelLog,
    }
}

fn read_or_write(is_write: bool) -> String {
    if is_write { "write" } else { "read" }.to_owned()
}

/// The name of a PCI device as sysfs has it: `00:02.0` is `0000:00:02.0`.
fn pci(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let device = hex(parts.next()?)?;
    let bus = hex(parts.next()?)?;
    let domain = parts.next().map_or(Some(0), hex)?;
    let function = hex(function)?;
    (parts.next().is_none() && bus <= 0xff && device <= 0x1f && function <= 7)
        .then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

/// A hexadecimal number with `0x` before it or not.
fn hex(text: &str) -> Option<u64> {
    let digits = text.trim();
    u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
}

/// What stands in `text` between `before` and `after`, or the text's end.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(if after.is_empty() {
        rest
    } else {
        rest.split(after).next().unwrap_or(rest)
    })
}

/// Whom a message about a device is about: `nvme 0000:03:00.0` before the first colon and space names driver and device. A device without driver has its bus in
/// that place (`dev_driver_string` in `drivers/base/core.c`).
fn prefixed(before: &str) -> Option<(Option<&str>, &str)> {
    let (driver, device) = before.rsplit_once(' ')?;
    let is_bus = matches!(driver, "pci" | "platform" | "amba" | "virtio");
    Some(((!is_bus).then_some(driver), device))
}
