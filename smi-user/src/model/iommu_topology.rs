//! The IOMMU's groups and devices, as plain data.

use serde::{Deserialize, Serialize};

/// How devices' accesses are translated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IommuUnit {
    /// As `/sys/class/iommu` names it: `dmar0`, `ivhd0`, `smmu3.0x...`.
    pub name: String,
    /// How many devices are behind it.
    pub devices: u64,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// As sysfs names it: `0000:00:03.0`.
    pub name: String,
    /// Its group.
    pub group: Option<u32>,
    /// Of a PCI device: its class in words, vendor and device as pci.ids names them, or `[8086:10d3]` where that knows nothing.
    pub description: String,
    /// `vendor:device` in hexadecimal, of a PCI device.
    pub ids: Option<String>,
    /// Its class code, 24 bits, of a PCI device.
    pub class: Option<u32>,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// The bridge above it, as sysfs names it; `None`: it is on a root bus, or no PCI device.
    pub parent: Option<String>,
    /// Network interfaces, disks and the like that it is known by: `eth0`, `vda`.
    pub known_as: Vec<String>,
}

/// A range of addresses that no mapping of a group may use, or that is mapped for it from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedRegion {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// `direct`, `reserved`, `msi`, ...
    pub kind: String,
}

/// A group: devices that the IOMMU cannot isolate from one another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number.
    pub group: u32,
    /// Type of its default domain: `DMA`, `DMA-FQ`, `identity`, `auto`; `None` where the kernel does not say.
    pub kind: Option<String>,
    /// Its devices, by name, in the order of their addresses.
    pub devices: Vec<String>,
    /// Its reserved regions.
    pub reserved: Vec<ReservedRegion>,
    /// Which devices must be given to a guest together: the group's without bridges and those that need not be.
    pub travel_together: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The IOMMUs.
    pub units: Vec<IommuUnit>,
    /// The groups, ascending.
    pub groups: Vec<Group>,
    /// All devices in groups, and bridges above them, in the order of their addresses.
    pub devices: Vec<Device>,
}

impl Topology {
    /// The device of that name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The group of that number.
    pub fn group(&self, number: u32) -> Option<&Group> {
        self.groups.iter().find(|group| group.group == number)
    }
}
