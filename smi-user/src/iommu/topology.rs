//! Groups, devices and bridges, put together, and parts of them.

use std::{collections::BTreeMap, path::Path};

use thiserror::Error;

use crate::{
    cli::Part,
    kernel::{
        iommu::{self, IommuGroup, Member, SYS},
        pci::{self, Address, PciDevice, SysfsError},
        pci_ids::Names,
    },
    model::iommu_topology::{Device, Group, Topology},
};

/// How many devices an error names at most.
const NAMED: usize = 24;

/// The driver of ports of PCI Express, and that which keeps others from a device.
const STAYS_WITH: [&str; 2] = ["pcieport", "pci-stub"];
/// Bridges, the upper 8 bits of a class.
const BRIDGE: u32 = 0x06;
/// Root Complex Event Collectors, the upper 16 bits.
const EVENT_COLLECTOR: u32 = 0x0807;

/// Why a part could not be picked out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectError {
    /// No such device.
    #[error("there is no device {device} in any group; there {there}")]
    NoDevice {
        /// As it was asked for.
        device: String,
        /// What there is.
        there: String,
    },
    /// A device that no group has: the IOMMU does not translate for it.
    #[error(
        "{device} is in no group, so the IOMMU translates nothing for it; in groups there {there}"
    )]
    NoGroup {
        /// As sysfs names it.
        device: String,
        /// What there is.
        there: String,
    },
    /// No such group.
    #[error("there is no group {group}; there {there}")]
    NoSuchGroup {
        /// As it was asked for.
        group: u32,
        /// What there is.
        there: String,
    },
}

/// All groups of this machine, with their devices; without groups where the kernel drives no IOMMU.
///
/// # Errors
/// When sysfs cannot be read.
pub fn read() -> Result<Topology, SysfsError> {
    read_in(Path::new(SYS), &mut Names::default())
}

/// The same from another sysfs, with names that may be known already.
pub(super) fn read_in(sys: &Path, names: &mut Names) -> Result<Topology, SysfsError> {
    let groups = iommu::groups(sys)?;
    let units = iommu::units(sys)?;
    if groups.is_empty() {
        return Ok(Topology {
            units,
            ..Topology::default()
        });
    }
    let pci: BTreeMap<String, PciDevice> = pci::devices(sys)?
        .into_iter()
        .map(|device| (device.name.clone(), device))
        .collect();
    names.learn(pci.values().map(|device| device.ids));
    Ok(Topology {
        units,
        devices: devices(&groups, &pci, names),
        groups: groups
            .into_iter()
            .map(|group| Group {
                group: group.number,
                kind: group.kind,
                travel_together: in_order(
                    group
                        .devices
                        .iter()
                        .filter(|member| must_travel(member, pci.get(&member.name)))
                        .map(|member| member.name.clone()),
                ),
                devices: in_order(group.devices.into_iter().map(|member| member.name)),
                reserved: group.reserved,
            })
            .collect(),
    })
}

/// Whether a device must be given to a guest with the others of its group.
///
/// The rule is the kernel's own, by which a group is fit to be given away. Until 5.18 that is `vfio_dev_viable` in
/// `drivers/vfio/vfio.c`: no device of the group may be left with a driver, except with those of VFIO, with `pci-stub`, or
/// if it is a bridge to another bus (its header type is not 0). Since then it is `driver_managed_dma` of drivers: those of
/// VFIO, `pci-stub` and `pcieport` have it, and PCI bridges have no other driver as a rule.
///
/// So bridges to other buses stay with the host, and what `pcieport` or `pci-stub` has. Other bridges (to the CPU, to
/// ISA) and collectors of errors stay if no driver has them. A device of another kind counts even if no driver has it: the
/// guest reaches it through the others, whether or not it is given along.
fn must_travel(member: &Member, pci: Option<&PciDevice>) -> bool {
    let Some(device) = pci else {
        return true;
    };
    let class = device.ids.class;
    let is_helper = class >> 16 == BRIDGE || class >> 8 == EVENT_COLLECTOR;
    !device.forwards
        && match member.driver.as_deref() {
            Some(driver) => !STAYS_WITH.contains(&driver),
            None => !is_helper,
        }
}

/// The devices of the groups, and the bridges above them.
fn devices(groups: &[IommuGroup], pci: &BTreeMap<String, PciDevice>, names: &Names) -> Vec<Device> {
    let mut devices: BTreeMap<String, Device> = BTreeMap::new();
    for group in groups {
        for member in &group.devices {
            let mut device = match pci.get(&member.name) {
                Some(device) => pci_device(device, names),
                None => other_device(member),
            };
            // By the group's own list, which is read before the devices.
            device.group = Some(group.number);
            devices.insert(member.name.clone(), device);
        }
    }
    let mut above: Vec<String> = devices
        .values()
        .filter_map(|device| device.parent.clone())
        .collect();
    while let Some(name) = above.pop() {
        if devices.contains_key(&name) {
            continue;
        }
        if let Some(bridge) = pci.get(&name) {
            above.extend(bridge.parent.clone());
            devices.insert(name, pci_device(bridge, names));
        }
    }
    in_order(devices.keys().cloned())
        .iter()
        .filter_map(|name| devices.remove(name))
        .collect()
}

fn pci_device(device: &PciDevice, names: &Names) -> Device {
    Device {
        name: device.name.clone(),
        group: device.group,
        description: names.words(device.ids),
        ids: Some(device.ids.pair()),
        class: Some(device.ids.class),
        driver: device.driver.clone(),
        is_bridge: device.is_bridge,
        parent: device.parent.clone(),
        known_as: device.known_as.clone(),
    }
}

fn other_device(member: &Member) -> Device {
    Device {
        name: member.name.clone(),
        description: match &member.bus {
            Some(bus) => format!("{bus} device"),
            None => "device".to_owned(),
        },
        driver: member.driver.clone(),
        ..Device::default()
    }
}

/// PCI devices by address, then the others by name.
fn in_order(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by_cached_key(|name| {
        let address = Address::of_name(name);
        (address.is_none(), address, name.clone())
    });
    names
}

/// The groups that were asked for and those of the devices that were, with their devices and the bridges above; all of
/// them if nothing was asked for.
///
/// # Errors
/// When there is no such device or group; the error says what there is.
pub fn select(topology: &Topology, part: &Part) -> Result<Topology, SelectError> {
    if part.device.is_empty() && part.group.is_empty() {
        return Ok(topology.clone());
    }
    let mut wanted = Vec::new();
    for number in &part.group {
        if topology.group(*number).is_none() {
            return Err(SelectError::NoSuchGroup {
                group: *number,
                there: groups_there(topology),
            });
        }
        wanted.push(*number);
    }
    for asked in &part.device {
        wanted.push(group_of(topology, asked)?);
    }
    let groups: Vec<Group> = topology
        .groups
        .iter()
        .filter(|group| wanted.contains(&group.group))
        .cloned()
        .collect();
    let mut kept: Vec<&str> = Vec::new();
    for name in groups.iter().flat_map(|group| &group.devices) {
        let mut next = Some(name.as_str());
        while let Some(device) = next.and_then(|name| topology.device(name)) {
            kept.push(&device.name);
            next = device.parent.as_deref();
        }
    }
    Ok(Topology {
        units: topology.units.clone(),
        devices: topology
            .devices
            .iter()
            .filter(|device| kept.contains(&device.name.as_str()))
            .cloned()
            .collect(),
        groups,
    })
}

fn group_of(topology: &Topology, asked: &str) -> Result<u32, SelectError> {
    let name = asked.trim();
    let with_domain = format!("0000:{name}");
    let found = topology.devices.iter().find(|device| {
        device.name.eq_ignore_ascii_case(name) || device.name.eq_ignore_ascii_case(&with_domain)
    });
    match found {
        None => Err(SelectError::NoDevice {
            device: asked.to_owned(),
            there: devices_there(topology),
        }),
        Some(device) => device.group.ok_or_else(|| SelectError::NoGroup {
            device: device.name.clone(),
            there: devices_there(topology),
        }),
    }
}

fn devices_there(topology: &Topology) -> String {
    let names: Vec<&str> = topology
        .groups
        .iter()
        .flat_map(|group| &group.devices)
        .map(String::as_str)
        .collect();
    there(&names)
}

fn groups_there(topology: &Topology) -> String {
    let names: Vec<String> = topology
        .groups
        .iter()
        .map(|group| group.group.to_string())
        .collect();
    there(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn there(names: &[&str]) -> String {
    match names {
        [] => "is none at all".to_owned(),
        [only] => format!("is {only}"),
        names if names.len() <= NAMED => format!("are {}", names.join(", ")),
        names => format!(
            "are {} and {} more (smilat iommu tree shows all)",
            names[..NAMED].join(", "),
            names.len() - NAMED
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up_sysfs::{NIC, Sys};

    fn part(devices: &[&str], groups: &[u32]) -> Part {
        Part {
            device: devices.iter().map(ToString::to_string).collect(),
            group: groups.to_vec(),
        }
    }

    fn names(topology: &Topology) -> Vec<&str> {
        topology
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect()
    }

    #[test]
    fn devices_come_with_their_groups_in_the_order_of_their_addresses() {
        let sys = Sys::q35();
        sys.platform("a-platform-device", "testdrv", 12);
        let topology = sys.topology();
        assert_eq!(
            names(&topology),
            [
                "0000:00:00.0",
                "0000:00:01.0",
                "0000:00:02.0",
                "0000:00:03.0",
                "0000:00:04.0",
                "0000:00:05.0",
                "0000:00:1f.0",
                "0000:00:1f.2",
                "0000:00:1f.3",
                "0000:01:00.0",
                "0000:02:00.0",
                "a-platform-device",
            ]
        );
        let nic = topology.device("0000:00:02.0").expect("a device");
        assert_eq!(nic.description, "Ethernet controller [8086:10d3]");
        assert_eq!(nic.ids.as_deref(), Some("8086:10d3"));
        assert_eq!(nic.group, Some(2));
        let platform = topology.device("a-platform-device").expect("a device");
        assert_eq!(platform.description, "platform device");
        assert_eq!(
            (platform.group, platform.driver.as_deref()),
            (Some(12), Some("testdrv"))
        );
    }

    #[test]
    fn bridges_and_helpers_without_a_driver_need_not_travel() {
        let sys = Sys::q35();
        let travel = |sys: &Sys, group| {
            let topology = sys.topology();
            topology
                .group(group)
                .expect("a group")
                .travel_together
                .clone()
        };
        assert!(travel(&sys, 0).is_empty(), "the host's bridge");
        assert_eq!(travel(&sys, 1), ["0000:00:01.0"], "no driver, no bridge");
        assert!(travel(&sys, 4).is_empty(), "a root port");
        assert_eq!(travel(&sys, 5), ["0000:02:00.0"], "the port stays");
        assert_eq!(travel(&sys, 10), ["0000:00:1f.2", "0000:00:1f.3"]);

        sys.bind("0000:00:1f.0", "lpc_ich");
        assert_eq!(travel(&sys, 10).len(), 3, "its driver must give it up");
        sys.bind("0000:00:1f.3", "pci-stub");
        sys.bind("0000:00:1f.2", "vfio-pci");
        assert_eq!(travel(&sys, 10), ["0000:00:1f.0", "0000:00:1f.2"]);
        sys.bind("0000:00:05.0", "some-switch");
        assert_eq!(travel(&sys, 5), ["0000:02:00.0"], "by its header");
    }

    #[test]
    fn bridges_above_come_along_without_being_in_a_group() {
        let sys = Sys::q35();
        sys.pci("pci0000:00/0000:00:06.0", (0x1b36, 0xc, 0x06_0400, 1));
        sys.pci("pci0000:00/0000:00:06.0/0000:03:00.0", NIC);
        sys.group(13, "identity", &["0000:03:00.0"]);
        sys.pci("pci0000:00/0000:00:07.0", NIC);
        let topology = sys.topology();
        let bridge = topology.device("0000:00:06.0").expect("the bridge");
        assert_eq!(bridge.group, None);
        assert!(topology.device("0000:00:07.0").is_none(), "in no group");
        let error = select(&topology, &part(&["00:06.0"], &[])).expect_err("no group");
        assert!(
            error.to_string().contains("0000:00:06.0 is in no group"),
            "{error}"
        );
    }

    #[test]
    fn a_part_has_the_groups_asked_for_and_those_of_the_devices() {
        let topology = Sys::q35().topology();
        assert_eq!(
            select(&topology, &part(&[], &[])).as_ref(),
            Ok(&topology),
            "everything"
        );
        let some = select(&topology, &part(&["00:1F.2", "0000:01:00.0"], &[3])).expect("a part");
        let groups: Vec<u32> = some.groups.iter().map(|group| group.group).collect();
        assert_eq!(groups, [3, 10, 11]);
        assert_eq!(
            names(&some),
            [
                "0000:00:03.0",
                "0000:00:04.0",
                "0000:00:1f.0",
                "0000:00:1f.2",
                "0000:00:1f.3",
                "0000:01:00.0",
            ],
            "with the bridge above"
        );
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_there_is() {
        let topology = Sys::q35().topology();
        let refused = |devices: &[&str], groups: &[u32]| {
            let error = select(&topology, &part(devices, groups));
            error.expect_err("not there").to_string()
        };
        let device = refused(&["0000:00:19.0"], &[]);
        assert!(
            device.starts_with(
                "there is no device 0000:00:19.0 in any group; there are 0000:00:00.0, "
            ),
            "{device}"
        );
        assert_eq!(
            refused(&[], &[6]),
            "there is no group 6; there are 0, 1, 2, 3, 4, 5, 10, 11"
        );
        let none = select(&Topology::default(), &part(&[], &[0])).expect_err("no group");
        assert_eq!(
            none.to_string(),
            "there is no group 0; there is none at all"
        );
    }

    #[test]
    fn a_long_list_is_cut_short() {
        let names: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(there(&names).ends_with("22, 23 and 6 more (smilat iommu tree shows all)"));
    }

    #[test]
    fn without_an_iommu_there_is_nothing() {
        assert_eq!(Sys::empty().topology(), Topology::default());
    }
}
