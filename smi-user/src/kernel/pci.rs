//! PCI devices as sysfs shows them (`Documentation/ABI/testing/sysfs-bus-pci`).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::pci_ids::Ids;

/// Classes whose members a device is known by.
const KNOWN_BY: [&str; 5] = ["net", "infiniband", "block", "nvme", "drm"];

/// Where the header type stands in a device's configuration space, and which of its bits tell the type
/// (`include/uapi/linux/pci_regs.h`).
const HEADER_TYPE: usize = 0x0e;
const HEADER_TYPE_MASK: u8 = 0x7f;

/// Bridges, the upper 8 bits of a class.
const BRIDGE: u32 = 0x06;
/// Bridges to other buses, the upper 16 bits of a class: PCI and `CardBus`.
const TO_OTHER_BUSES: [u32; 2] = [0x0604, 0x0607];

/// A file of sysfs that could not be used.
#[derive(Debug, Error)]
pub enum SysfsError {
    /// Reading failed.
    #[error("cannot read {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else than it should.
    #[error("{path} reads \"{found}\", which is no {wanted}")]
    Strange {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Where a device is: domain, bus, device, function. They order devices as people expect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(u32, u8, u8, u8);

impl Address {
    /// Reads `0000:00:1f.3`, and nothing else; of some machines the domain has five digits.
    pub fn of_name(name: &str) -> Option<Self> {
        let (domain, rest) = name.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let lengths = (bus.len(), device.len(), function.len());
        if domain.len() < 4 || lengths != (2, 2, 1) {
            return None;
        }
        let small = |digits| u8::from_str_radix(digits, 16).ok();
        Some(Self(
            u32::from_str_radix(domain, 16).ok()?,
            small(bus)?,
            small(device)?,
            small(function)?,
        ))
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciDevice {
    /// As sysfs names it.
    pub name: String,
    /// What names and class it has.
    pub ids: Ids,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// The bridge above it; `None`: it is on a root bus.
    pub parent: Option<String>,
    /// Whether it is a bridge: to another bus, or by its class, as that to ISA.
    pub is_bridge: bool,
    /// Whether it forwards between buses (its header type is not 0): what VFIO leaves with the host whatever has it.
    pub forwards: bool,
    /// Network interfaces, disks and the like that it is known by.
    pub known_as: Vec<String>,
}

/// All devices, in the order of their addresses; `sys` is where sysfs is mounted. None where there is no PCI.
///
/// # Errors
/// When they cannot be listed, or one that is there not be read.
pub fn devices(sys: &Path) -> Result<Vec<PciDevice>, SysfsError> {
    let folder = sys.join("bus/pci/devices");
    let known_as = known_as(sys);
    let mut devices = Vec::new();
    for name in list(&folder)? {
        match device(&folder.join(&name), &name) {
            Ok(mut device) => {
                device.known_as = known_as.get(&name).cloned().unwrap_or_default();
                devices.push(device);
            }
            // Went away meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    devices.sort_by_cached_key(|device| (Address::of_name(&device.name), device.name.clone()));
    Ok(devices)
}

/// Whether it was not there.
pub(super) fn is_gone(error: &SysfsError) -> bool {
    match error {
        // A file that was opened before its device went.
        SysfsError::Read { source, .. } => {
            source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV)
        }
        SysfsError::Strange { .. } => false,
    }
}

/// The names in a folder; none where it does not exist.
pub(super) fn list(folder: &Path) -> Result<Vec<String>, SysfsError> {
    let failed = |source| SysfsError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The text of a file, trimmed.
pub(super) fn text(path: &Path) -> Result<String, SysfsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(SysfsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The last part of what a link leads to.
pub(super) fn link(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

fn device(folder: &Path, name: &str) -> Result<PciDevice, SysfsError> {
    let number = |file: &str| {
        let path = folder.join(file);
        let found = text(&path)?;
        let digits = found.strip_prefix("0x").unwrap_or(&found);
        u32::from_str_radix(digits, 16).map_err(|_| SysfsError::Strange {
            path,
            found: found.clone(),
            wanted: "number in hexadecimal",
        })
    };
    let class = number("class")?;
    let forwards = header_type(folder).map_or_else(
        || TO_OTHER_BUSES.contains(&(class >> 8)),
        |header| header != 0,
    );
    let real = fs::canonicalize(folder).map_err(|source| SysfsError::Read {
        path: folder.to_owned(),
        source,
    })?;
    Ok(PciDevice {
        name: name.to_owned(),
        ids: Ids {
            vendor: number("vendor")? as u16,
            device: number("device")? as u16,
            class,
        },
        driver: link(&folder.join("driver")),
        group: link(&folder.join("iommu_group")).and_then(|group| group.parse().ok()),
        // Above the devices of a root bus is a folder such as `pci0000:00`.
        parent: real
            .parent()
            .and_then(Path::file_name)
            .map(|above| above.to_string_lossy().into_owned())
            .filter(|above| Address::of_name(above).is_some()),
        is_bridge: forwards || class >> 16 == BRIDGE,
        forwards,
        known_as: Vec::new(),
    })
}

/// The header's type; anybody may read the first 64 bytes of the configuration space.
fn header_type(folder: &Path) -> Option<u8> {
    let mut start = [0; HEADER_TYPE + 1];
    File::open(folder.join("config"))
        .and_then(|mut config| config.read_exact(&mut start))
        .ok()?;
    Some(start[HEADER_TYPE] & HEADER_TYPE_MASK)
}

/// The innermost PCI device on a path.
fn address_in(path: &Path) -> Option<String> {
    path.iter()
        .rev()
        .map(|part| part.to_string_lossy())
        .find(|part| Address::of_name(part).is_some())
        .map(std::borrow::Cow::into_owned)
}

/// By PCI device, the members of [`KNOWN_BY`] that are below it, in the order of the classes.
fn known_as(sys: &Path) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for class in KNOWN_BY {
        let folder = sys.join("class").join(class);
        for member in list(&folder).unwrap_or_default() {
            let member_folder = folder.join(&member);
            let Some(device) = fs::canonicalize(&member_folder)
                .ok()
                .and_then(|real| address_in(&real))
            else {
                continue;
            };
            let names = all.entry(device).or_default();
            if stands_for_device(class, &member, &member_folder, names) {
                names.push(member);
            }
        }
    }
    all
}

/// Not partitions, hidden paths to a namespace, connectors of graphics cards; and `NVMe`'s controllers only where they have no
/// namespace, or those of several controllers are one.
fn stands_for_device(class: &str, member: &str, folder: &Path, others: &[String]) -> bool {
    match class {
        "block" => {
            !folder.join("partition").exists()
                && !text(&folder.join("hidden")).is_ok_and(|hidden| hidden == "1")
        }
        "nvme" => !others.iter().any(|other| other.starts_with(member)),
        "drm" => member.starts_with("card") && !member.contains('-'),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up_sysfs::Sys;

    #[test]
    fn addresses_are_ordered_by_their_numbers() {
        let mut names = ["10000:e0:06.0", "0000:0a:00.0", "0000:00:1f.3"];
        names.sort_by_key(|name| Address::of_name(name));
        assert_eq!(names, ["0000:00:1f.3", "0000:0a:00.0", "10000:e0:06.0"]);
        for other in ["00:1f.3", "pci0000:00", "0000:00:1c.0:pcie001", "eth0", ""] {
            assert_eq!(Address::of_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_device_is_read_with_its_driver_group_bridge_and_names() {
        let sys = Sys::q35();
        let devices = devices(sys.root()).expect("devices");
        let one = |name: &str| {
            devices
                .iter()
                .find(|device| device.name == name)
                .unwrap_or_else(|| panic!("{name} in {devices:?}"))
        };
        let nic = one("0000:00:02.0");
        assert_eq!(nic.ids.pair(), "8086:10d3");
        assert_eq!(nic.ids.class, 0x02_0000);
        assert_eq!(nic.driver.as_deref(), Some("e1000e"));
        assert_eq!((nic.group, nic.parent.as_deref()), (Some(2), None));
        assert_eq!(nic.known_as, ["eth0"]);
        assert!(!nic.is_bridge && !nic.forwards);

        let disk = one("0000:00:03.0");
        assert_eq!(disk.known_as, ["vda"], "no partition");
        let nvme = one("0000:01:00.0");
        assert_eq!(nvme.parent.as_deref(), Some("0000:00:04.0"));
        assert_eq!(nvme.known_as, ["nvme0n1"], "no controller, no hidden path");

        let port = one("0000:00:04.0");
        assert!(port.is_bridge && port.forwards);
        let isa = one("0000:00:1f.0");
        assert!(isa.is_bridge && !isa.forwards, "by its class only");
        assert!(one("0000:00:00.0").driver.is_none());
    }

    #[test]
    fn a_header_that_cannot_be_read_leaves_the_class() {
        let sys = Sys::q35();
        let folder = sys.root().join("bus/pci/devices/0000:00:04.0");
        fs::remove_file(folder.join("config")).expect("remove");
        assert!(device(&folder, "0000:00:04.0").expect("device").forwards);
    }

    #[test]
    fn what_is_no_number_is_told_with_its_file() {
        let sys = Sys::q35();
        let folder = sys.root().join("bus/pci/devices/0000:00:02.0");
        fs::write(folder.join("class"), "network\n").expect("write");
        let error = devices(sys.root()).expect_err("no class").to_string();
        assert!(
            error.contains("0000:00:02.0/class reads \"network\""),
            "{error}"
        );
    }

    #[test]
    fn no_pci_is_no_device() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(devices(folder.path()).expect("none"), []);
    }
}
