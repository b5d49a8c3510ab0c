//! Groups, their devices, and the bridges above them, as text.

use std::fmt::Write as _;

use crate::model::iommu_topology::{Device, Group, Topology};

/// Names that a device is known by, shown at most.
const NAMES: usize = 6;

/// The kind of reserved regions that all groups have alike: where interrupts are written to.
const INTERRUPTS: &str = "msi";

/// Renders it.
pub fn text(topology: &Topology) -> String {
    let mut text = String::new();
    let units: Vec<String> = topology
        .units
        .iter()
        .map(|unit| format!("{} ({})", unit.name, devices(unit.devices as usize)))
        .collect();
    let units = if units.is_empty() {
        "not named in /sys/class/iommu".to_owned()
    } else {
        units.join(", ")
    };
    // Writing to a string does not fail.
    let _written = writeln!(text, "IOMMUs: {units}");
    for group in &topology.groups {
        text.push('\n');
        show_group(&mut text, topology, group);
    }
    show_bridges(&mut text, topology);
    text
}

fn devices(count: usize) -> String {
    format!("{count} device{}", if count == 1 { "" } else { "s" })
}

fn show_group(text: &mut String, topology: &Topology, group: &Group) {
    let kind = group.kind.as_deref().unwrap_or("type unknown");
    let _written = writeln!(
        text,
        "group {}  {kind}  {}: {}",
        group.group,
        devices(group.devices.len()),
        isolation(group)
    );
    for name in &group.devices {
        match topology.device(name) {
            Some(device) => {
                let _written = writeln!(text, "  {}", line(device));
            }
            None => {
                let _written = writeln!(text, "  {name}");
            }
        }
    }
    for region in &group.reserved {
        if region.kind != INTERRUPTS {
            let _written = writeln!(
                text,
                "  reserved: {:#x}-{:#x} {}",
                region.first, region.last, region.kind
            );
        }
    }
}

/// What can be given to a guest.
fn isolation(group: &Group) -> String {
    let stay = match group.devices.len() - group.travel_together.len() {
        0 => "",
        1 => "; the other one stays with the host",
        _ => "; the others stay with the host",
    };
    match group.travel_together.as_slice() {
        [] => "nothing to assign".to_owned(),
        [_] if stay.is_empty() => "can be assigned alone".to_owned(),
        [only] => format!("{only} can be assigned alone{stay}"),
        all => format!("must travel together: {}{stay}", all.join(", ")),
    }
}

/// Address, what it is, who has it, what it is known by.
fn line(device: &Device) -> String {
    let mut line = format!("{}  {}", device.name, device.description);
    if let Some(ids) = &device.ids {
        let ids = format!("[{ids}]");
        if !device.description.contains(&ids) {
            line.push(' ');
            line.push_str(&ids);
        }
    }
    line.push_str("  ");
    line.push_str(device.driver.as_deref().unwrap_or("no driver"));
    if !device.known_as.is_empty() {
        line.push_str("  ");
        let shown = device.known_as.iter().take(NAMES);
        line.push_str(&shown.cloned().collect::<Vec<_>>().join(" "));
        if device.known_as.len() > NAMES {
            let _written = write!(line, " and {} more", device.known_as.len() - NAMES);
        }
    }
    line
}

/// The bridges with what is behind them; nothing where all is on root buses.
fn show_bridges(text: &mut String, topology: &Topology) {
    let tops: Vec<&Device> = topology
        .devices
        .iter()
        .filter(|device| device.parent.is_none() && has_below(topology, device))
        .collect();
    if tops.is_empty() {
        return;
    }
    text.push_str("\nbridges, and what is behind them\n");
    for top in tops {
        show_below(text, topology, top, 1);
    }
}

fn has_below(topology: &Topology, bridge: &Device) -> bool {
    below(topology, bridge).next().is_some()
}

fn below<'a>(topology: &'a Topology, bridge: &'a Device) -> impl Iterator<Item = &'a Device> {
    topology
        .devices
        .iter()
        .filter(|device| device.parent.as_deref() == Some(bridge.name.as_str()))
}

fn show_below(text: &mut String, topology: &Topology, device: &Device, depth: usize) {
    let group = device
        .group
        .map_or_else(|| "no group".to_owned(), |group| format!("group {group}"));
    let indent = 2 * depth;
    let _written = writeln!(
        text,
        "{:indent$}{}  {group}  {}",
        "", device.name, device.description
    );
    for device in below(topology, device) {
        show_below(text, topology, device, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{iommu::made_up_sysfs::Sys, model::iommu_topology::ReservedRegion};

    #[test]
    fn groups_devices_and_bridges_are_seen_at_a_glance() {
        assert_eq!(
            text(&Sys::q35().topology()),
            "IOMMUs: dmar0 (11 devices)\n\
             \n\
             group 0  DMA  1 device: nothing to assign\n  \
               0000:00:00.0  Host bridge [8086:29c0]  no driver\n\
             \n\
             group 1  DMA  1 device: can be assigned alone\n  \
               0000:00:01.0  VGA compatible controller [1234:1111]  no driver\n\
             \n\
             group 2  DMA  1 device: can be assigned alone\n  \
               0000:00:02.0  Ethernet controller [8086:10d3]  e1000e  eth0\n\
             \n\
             group 3  DMA  1 device: can be assigned alone\n  \
               0000:00:03.0  SCSI storage controller [1af4:1042]  virtio-pci  vda\n\
             \n\
             group 4  DMA  1 device: nothing to assign\n  \
               0000:00:04.0  PCI bridge [1b36:000c]  pcieport\n\
             \n\
             group 5  DMA  2 devices: 0000:02:00.0 can be assigned alone; the other one stays with the host\n  \
               0000:00:05.0  PCI bridge [1b36:000c]  pcieport\n  \
               0000:02:00.0  Ethernet controller [8086:10d3]  e1000e  eth1\n\
             \n\
             group 10  DMA  3 devices: must travel together: 0000:00:1f.2, 0000:00:1f.3; the other one stays with the host\n  \
               0000:00:1f.0  ISA bridge [8086:2918]  no driver\n  \
               0000:00:1f.2  SATA controller [8086:2922]  ahci\n  \
               0000:00:1f.3  SMBus [8086:2930]  i801_smbus\n\
             \n\
             group 11  DMA  1 device: can be assigned alone\n  \
               0000:01:00.0  Non-Volatile memory controller [1b36:0010]  nvme  nvme0n1\n\
             \n\
             bridges, and what is behind them\n  \
               0000:00:04.0  group 4  PCI bridge [1b36:000c]\n    \
                 0000:01:00.0  group 11  Non-Volatile memory controller [1b36:0010]\n  \
               0000:00:05.0  group 5  PCI bridge [1b36:000c]\n    \
                 0000:02:00.0  group 5  Ethernet controller [8086:10d3]\n"
        );
    }

    #[test]
    fn names_of_the_list_have_the_numbers_beside_them_and_many_names_are_cut_short() {
        let device = Device {
            name: "0000:00:03.0".to_owned(),
            description: "RAID bus controller: Somebody Something".to_owned(),
            ids: Some("1000:005d".to_owned()),
            known_as: (0..8).map(|disk| format!("sd{disk}")).collect(),
            ..Device::default()
        };
        assert_eq!(
            line(&device),
            "0000:00:03.0  RAID bus controller: Somebody Something [1000:005d]  no driver  sd0 sd1 sd2 sd3 sd4 sd5 and 2 more"
        );
    }

    #[test]
    fn what_firmware_keeps_for_itself_is_shown() {
        let region = |kind: &str| ReservedRegion {
            first: 0xb_0000,
            last: 0xb_ffff,
            kind: kind.to_owned(),
        };
        let topology = Topology {
            groups: vec![Group {
                devices: vec!["0000:00:03.0".to_owned()],
                reserved: vec![region("direct"), region("msi")],
                ..Group::default()
            }],
            ..Topology::default()
        };
        assert_eq!(
            text(&topology),
            "IOMMUs: not named in /sys/class/iommu\n\
             \n\
             group 0  type unknown  1 device: nothing to assign\n  \
               0000:00:03.0\n  \
               reserved: 0xb0000-0xbffff direct\n"
        );
    }

    #[test]
    fn the_json_is_read_back() {
        let topology = Sys::q35().topology();
        let text = serde_json::to_string(&topology).expect("JSON");
        let back: Topology = serde_json::from_str(&text).expect("a topology");
        assert_eq!(back, topology);
    }
}
