//! virtio-iommu: `viommu_fault_handler` in `drivers/iommu/virtio-iommu.c`: `virtio_iommu virtio0: page fault from EP 24 at 0xfffff000
//! [R]`, and without address where the host gives none.
//!
//! `EP` is the number of an endpoint, by which host and guest name devices to each other. Which one that is stands in the machine's
//! tables and not in the message; see [`crate::kernel::viot`].

use super::{Fault, hex, prefixed, report};
use crate::kernel::viot::Endpoints;

/// What it says of a fault.
pub(super) fn fault(text: &str, endpoints: &Endpoints) -> Option<Fault> {
    let (before, rest) = text.split_once(": ")?;
    let (kind, rest) = rest.split_once(" fault from EP ")?;
    let (Some("virtio_iommu"), iommu) = prefixed(before)? else {
        return None;
    };
    if !matches!(kind, "domain" | "page" | "unknown") {
        return None;
    }
    let (number, place) = match rest.split_once(" at ") {
        Some((number, place)) => (number, Some(place)),
        None => (rest.trim_end(), None),
    };
    let number: u32 = number.parse().ok()?;
    let device = endpoints
        .device(number)
        .unwrap_or_else(|| format!("endpoint {number} of {iommu}"));
    let (iova, letters) = match place.and_then(|place| place.split_once(" [")) {
        Some((iova, letters)) => (Some(hex(iova)?), letters.trim_end().trim_end_matches(']')),
        None => (None, ""),
    };
    let access = match (letters.contains('R'), letters.contains('W')) {
        (true, false) => Some("read".to_owned()),
        (false, true) => Some("write".to_owned()),
        _ => None,
    };
    let reason = match kind {
        "domain" => "the device is attached to no domain",
        "page" => "not mapped, or not for that",
        _ => "not told by the host",
    };
    Some(Fault {
        iova,
        access,
        reason: Some(reason.to_owned()),
        ..report(device)
    })
}
