//! IOMMUs and their groups as sysfs shows them (`Documentation/ABI/testing/sysfs-kernel-iommu_groups`,
//! `Documentation/ABI/testing/sysfs-class-iommu`), and what decides whether there are any.

use std::{fs::File, io, path::Path};

use super::{
    command_line::CommandLine,
    cpuid::{Cpu, Vendor},
    kconfig::Config,
    pci::{SysfsError, is_gone, link, list, text},
    release,
};
use crate::model::iommu_topology::{IommuUnit, ReservedRegion};

/// Where sysfs is mounted.
pub const SYS: &str = "/sys";

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IommuGroup {
    /// Its number.
    pub number: u32,
    /// Type of its default domain; `None` where it has none, or the kernel does not say.
    pub kind: Option<String>,
    /// Its devices.
    pub devices: Vec<Member>,
    /// Its reserved regions, ascending.
    pub reserved: Vec<ReservedRegion>,
}

/// A device of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As sysfs names it.
    pub name: String,
    /// On which kind of bus it is: `pci`, `platform`; `None` where sysfs does not say.
    pub bus: Option<String>,
    /// The driver that has it.
    pub driver: Option<String>,
}

/// The groups, ascending; none where there is no IOMMU. `sys` is where sysfs is mounted.
///
/// # Errors
/// When they cannot be listed, or one that is there not be read.
pub fn groups(sys: &Path) -> Result<Vec<IommuGroup>, SysfsError> {
    let folder = sys.join("kernel/iommu_groups");
    let mut groups = Vec::new();
    for name in list(&folder)? {
        let Ok(number) = name.parse() else {
            continue;
        };
        match group(&folder.join(&name), number) {
            Ok(group) => groups.push(group),
            // Went away meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    groups.sort_by_key(|group| group.number);
    Ok(groups)
}

/// Opens the folder of a group, for a BPF program to follow to the group itself.
///
/// # Errors
/// When there is no such group any more.
pub fn open_group(number: u32) -> io::Result<File> {
    File::open(
        Path::new(SYS)
            .join("kernel/iommu_groups")
            .join(number.to_string()),
    )
}

fn group(folder: &Path, number: u32) -> Result<IommuGroup, SysfsError> {
    let kind = match text(&folder.join("type")) {
        // A group without a default domain (`iommu_group_show_type` in `drivers/iommu/iommu.c`).
        Ok(kind) if kind == "unknown" || kind.is_empty() => None,
        Ok(kind) => Some(kind),
        // Kernels before 4.20 do not say it.
        Err(error) if is_gone(&error) => None,
        Err(error) => return Err(error),
    };
    let devices_folder = folder.join("devices");
    let devices = list(&devices_folder)?
        .into_iter()
        .map(|name| {
            let device = devices_folder.join(&name);
            Member {
                bus: link(&device.join("subsystem")),
                driver: link(&device.join("driver")),
                name,
            }
        })
        .collect();
    let path = folder.join("reserved_regions");
    let reserved = match text(&path) {
        Ok(regions) => regions.lines().map(|line| region(&path, line)).collect(),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }?;
    Ok(IommuGroup {
        number,
        kind,
        devices,
        reserved,
    })
}

/// Reads `0x00000000fee00000 0x00000000feefffff msi`.
fn region(path: &Path, line: &str) -> Result<ReservedRegion, SysfsError> {
    let mut words = line.split_whitespace();
    let mut number =
        || u64::from_str_radix(words.next()?.strip_prefix("0x").unwrap_or_default(), 16).ok();
    let ends = number().zip(number());
    match (ends, words.next()) {
        (Some((first, last)), Some(kind)) => Ok(ReservedRegion {
            first,
            last,
            kind: kind.to_owned(),
        }),
        _ => Err(SysfsError::Strange {
            path: path.to_owned(),
            found: line.to_owned(),
            wanted: "range of addresses with its kind",
        }),
    }
}

/// The IOMMUs, by name; none where there is none that the kernel drives.
///
/// # Errors
/// When they cannot be listed.
pub fn units(sys: &Path) -> Result<Vec<IommuUnit>, SysfsError> {
    let folder = sys.join("class/iommu");
    list(&folder)?
        .into_iter()
        .map(|name| {
            let devices = list(&folder.join(&name).join("devices"))?.len() as u64;
            Ok(IommuUnit { name, devices })
        })
        .collect()
}

/// The number of the newest uevent; `None` where sysfs does not tell it.
pub fn newest_uevent(sys: &Path) -> Option<u64> {
    text(&sys.join("kernel/uevent_seqnum")).ok()?.parse().ok()
}

/// A table of the firmware's that describes IOMMUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Intel's: `DMAR`.
    Intel,
    /// AMD's: `IVRS`.
    Amd,
    /// Arm's: `IORT`.
    Arm,
    /// Virtio's: `VIOT`.
    Virtio,
}

impl Table {
    const ALL: [Self; 4] = [Self::Intel, Self::Amd, Self::Arm, Self::Virtio];

    /// As ACPI names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intel => "DMAR",
            Self::Amd => "IVRS",
            Self::Arm => "IORT",
            Self::Virtio => "VIOT",
        }
    }
}

/// What decides whether the kernel drives an IOMMU, and how.
#[derive(Debug)]
pub struct Facts {
    /// The first table that the firmware has.
    pub table: Option<Table>,
    /// What the kernel was booted with.
    pub command_line: CommandLine,
    /// What it was built with; `None` where that is not known.
    pub config: Option<Config>,
    /// Who made the CPUs.
    pub vendor: Vendor,
    /// Whether a hypervisor is below.
    pub is_virtual: bool,
}

impl Facts {
    /// Those of this machine; what cannot be read counts as not there.
    pub fn read() -> Self {
        let cpu = Cpu::this();
        Self {
            table: table(Path::new(SYS)),
            command_line: CommandLine::read().unwrap_or_default(),
            config: Config::of_running(&release::release()).ok(),
            vendor: cpu.vendor,
            is_virtual: cpu.hypervisor,
        }
    }
}

/// Not everybody may read the tables, but everybody sees which there are.
fn table(sys: &Path) -> Option<Table> {
    let folder = sys.join("firmware/acpi/tables");
    Table::ALL
        .into_iter()
        .find(|table| folder.join(table.name()).exists())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::iommu::made_up_sysfs::Sys;

    #[test]
    fn groups_are_read_with_their_devices_in_the_order_of_their_numbers() {
        let sys = Sys::q35();
        sys.platform("arm-smmu-test", "testdrv", 12);
        let groups = groups(sys.root()).expect("groups");
        let numbers: Vec<u32> = groups.iter().map(|group| group.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 10, 11, 12]);
        let chipset = &groups[6];
        assert_eq!(chipset.kind.as_deref(), Some("DMA"));
        assert_eq!(chipset.devices.len(), 3);
        assert_eq!(chipset.devices[1].driver.as_deref(), Some("ahci"));
        assert_eq!(
            chipset.reserved,
            [ReservedRegion {
                first: 0xfee0_0000,
                last: 0xfeef_ffff,
                kind: "msi".to_owned()
            }]
        );
        assert_eq!(groups[8].devices[0].bus.as_deref(), Some("platform"));
        let units = units(sys.root()).expect("units");
        assert_eq!((units[0].name.as_str(), units[0].devices), ("dmar0", 11));
    }

    #[test]
    fn a_kernel_that_says_no_type_or_region_is_read_all_the_same() {
        let sys = Sys::q35();
        let folder = sys.root().join("kernel/iommu_groups");
        fs::write(folder.join("0/type"), "unknown\n").expect("write");
        fs::remove_file(folder.join("1/type")).expect("remove");
        fs::remove_file(folder.join("1/reserved_regions")).expect("remove");
        let groups = groups(sys.root()).expect("groups");
        assert_eq!((&groups[0].kind, &groups[1].kind), (&None, &None));
        assert_eq!(groups[1].reserved, []);
    }

    #[test]
    fn a_region_that_is_none_is_told_with_its_file() {
        let sys = Sys::q35();
        let path = sys.root().join("kernel/iommu_groups/3/reserved_regions");
        fs::write(&path, "0xfee00000 msi\n").expect("write");
        let error = groups(sys.root()).expect_err("no region").to_string();
        assert!(error.contains("3/reserved_regions reads"), "{error}");
    }

    #[test]
    fn a_machine_without_an_iommu_has_no_group_and_no_unit() {
        let sys = Sys::empty();
        assert_eq!(groups(sys.root()).expect("none"), []);
        assert_eq!(units(sys.root()).expect("none"), []);
        assert_eq!(newest_uevent(sys.root()), None);
        assert_eq!(table(sys.root()), None);
    }

    #[test]
    fn the_firmwares_table_is_found_by_its_name() {
        let sys = Sys::empty();
        let folder = sys.root().join("firmware/acpi/tables");
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("FACP"), "").expect("write");
        assert_eq!(table(sys.root()), None);
        fs::write(folder.join("IVRS"), "").expect("write");
        assert_eq!(table(sys.root()), Some(Table::Amd));
    }
}
