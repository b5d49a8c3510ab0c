//! Which IOMMUs' drivers emit `iommu:io_page_fault`, and where faults of the others are told.
//!
//! The tracepoint is emitted by `report_iommu_fault` (`drivers/iommu/iommu.c`) and nothing else, so it depends on who calls that:
//! AMD's driver does since 5.16, for accesses to memory by devices that the kernel knows, and whether the kernel logs them or not
//! (in 2025 it was proposed to take that out again); that of Arm's `SMMUv2` does since 5.10, with no device; many of those for the IOMMUs of
//! systems on a chip do. Intel's, that of Arm's `SMMUv3`, virtio-iommu's and RISC-V's do not.

use crate::model::iommu_topology::IommuUnit;

/// A driver of IOMMUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Driver {
    Intel,
    Amd,
    Smmu2,
    Smmu3,
    Virtio,
    RiscV,
    Other,
}

impl Driver {
    /// By the name that each gives its IOMMUs in `/sys/class/iommu` (`iommu_device_sysfs_add`).
    fn of(unit: &str) -> Self {
        let is_numbered = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
        let numbered = |prefix| unit.strip_prefix(prefix).is_some_and(is_numbered);
        if numbered("dmar") {
            Self::Intel
        } else if numbered("ivhd") {
            Self::Amd
        } else if unit.starts_with("smmu3.") {
            Self::Smmu3
        } else if unit.starts_with("smmu.") {
            Self::Smmu2
        } else if unit.starts_with("riscv-iommu@") {
            Self::RiscV
        } else if is_pci(unit) || unit.contains("virtio") {
            // The name of what the virtio device sits on: a PCI device, or one of the platform such as `a003e00.virtio_mmio`.
            Self::Virtio
        } else {
            Self::Other
        }
    }

    fn emits(self) -> bool {
        matches!(self, Self::Amd | Self::Smmu2 | Self::Other)
    }

    fn message(self) -> Option<&'static str> {
        Some(match self {
            Self::Amd => return None,
            Self::Intel => {
                "Intel's driver never emits iommu:io_page_fault; faults are read from the kernel log, which holds some back when many \
                 come"
            }
            Self::Smmu3 => {
                "the driver of Arm's SMMUv3 never emits iommu:io_page_fault; faults are read from the kernel log, which holds some \
                 back when many come"
            }
            Self::Virtio => {
                "virtio-iommu's driver never emits iommu:io_page_fault; faults are read from the kernel log, which holds some back \
                 when many come"
            }
            Self::Smmu2 => {
                "the driver of Arm's SMMUv2 does not name the device in iommu:io_page_fault; the kernel log names its stream, and \
                 holds some faults back when many come"
            }
            Self::RiscV => {
                "RISC-V's driver never emits iommu:io_page_fault, and what it writes to the kernel log is not read: its faults are \
                 not seen; see dmesg"
            }
            Self::Other => {
                "it is not known whether this IOMMU's driver emits iommu:io_page_fault, and what it writes to the kernel log is not \
                 read: if no faults are seen, see dmesg"
            }
        })
    }
}

/// Where faults are told on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultSources {
    /// Whether the driver of one of its IOMMUs emits the tracepoint, or may.
    pub tracepoint: bool,
    /// What to tell people, one message for each driver that does not, or not with everything.
    pub messages: Vec<&'static str>,
}

/// By the IOMMUs that `/sys/class/iommu` has.
pub fn emits_tracepoint(units: &[IommuUnit]) -> FaultSources {
    let mut drivers: Vec<Driver> = units.iter().map(|unit| Driver::of(&unit.name)).collect();
    drivers.sort_unstable();
    drivers.dedup();
    FaultSources {
        tracepoint: drivers.iter().any(|driver| driver.emits()),
        messages: drivers.into_iter().filter_map(Driver::message).collect(),
    }
}

/// `0000:00:02.0`.
fn is_pci(name: &str) -> bool {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split([':', '.']).collect();
    parts.len() == 4 && name.matches(':').count() == 2 && parts.into_iter().all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(names: &[&str]) -> FaultSources {
        let units: Vec<IommuUnit> = names
            .iter()
            .map(|name| IommuUnit {
                name: (*name).to_owned(),
                devices: 1,
            })
            .collect();
        emits_tracepoint(&units)
    }

    #[test]
    fn drivers_are_known_by_the_names_of_their_iommus() {
        for (name, driver) in [
            ("dmar0", Driver::Intel),
            ("dmar12", Driver::Intel),
            ("ivhd1", Driver::Amd),
            ("smmu.0x0000000012c00000", Driver::Smmu2),
            ("smmu3.0x0000000009050000", Driver::Smmu3),
            ("0000:00:02.0", Driver::Virtio),
            ("a003e00.virtio_mmio", Driver::Virtio),
            ("riscv-iommu@0000:00:01.0", Driver::RiscV),
            ("13650000.sysmmu", Driver::Other),
            ("ff930800.iommu", Driver::Other),
            ("dmarx", Driver::Other),
        ] {
            assert_eq!(Driver::of(name), driver, "{name}");
        }
    }

    #[test]
    fn where_the_tracepoint_is_never_emitted_that_is_told_once() {
        let intel = sources(&["dmar0", "dmar1"]);
        assert!(!intel.tracepoint);
        assert_eq!(
            intel.messages,
            [
                "Intel's driver never emits iommu:io_page_fault; faults are read from the kernel log, which holds some back when many come"
            ]
        );
        for log_only in ["smmu3.0x9050000", "0000:00:02.0", "riscv-iommu@1"] {
            let sources = sources(&[log_only]);
            assert!(!sources.tracepoint, "{log_only}");
            assert!(sources.messages[0].contains("never emits"), "{log_only}");
        }
    }

    #[test]
    fn where_it_is_emitted_nothing_needs_to_be_told_but_what_is_missing() {
        assert_eq!(
            sources(&["ivhd0", "ivhd1"]),
            FaultSources {
                tracepoint: true,
                messages: vec![]
            }
        );
        let arm = sources(&["smmu.0x12c00000"]);
        assert!(arm.tracepoint);
        assert!(arm.messages[0].contains("does not name the device"));
        let other = sources(&["ff930800.iommu"]);
        assert!(other.tracepoint && other.messages[0].contains("dmesg"));
        assert_eq!(sources(&[]), FaultSources::default());
    }
}
