//! A made-up sysfs, laid out as the kernel's.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::kernel::pci_ids::Names;
use crate::model::iommu_topology::Topology;

/// See the module. Links are made absolute: what matters of them is where they lead.
pub(crate) struct Sys {
    folder: TempDir,
}

/// `vendor`, `device` and `class` of a device, and its header type.
pub(crate) type Kind = (u16, u16, u32, u8);

const HOST_BRIDGE: Kind = (0x8086, 0x29c0, 0x06_0000, 0);
const VGA: Kind = (0x1234, 0x1111, 0x03_0000, 0);
pub(crate) const NIC: Kind = (0x8086, 0x10d3, 0x02_0000, 0);
const VIRTIO_DISK: Kind = (0x1af4, 0x1042, 0x01_0000, 0);
const ROOT_PORT: Kind = (0x1b36, 0x000c, 0x06_0400, 1);
const NVME: Kind = (0x1b36, 0x0010, 0x01_0802, 0);
const ISA_BRIDGE: Kind = (0x8086, 0x2918, 0x06_0100, 0x80);
const AHCI: Kind = (0x8086, 0x2922, 0x01_0601, 0x80);
const SMBUS: Kind = (0x8086, 0x2930, 0x0c_0500, 0x80);

impl Sys {
    /// One without anything.
    pub(crate) fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// That of a QEMU machine `q35` with `intel-iommu`: a network card, a virtio disk, an `NVMe` disk behind a root port with
    /// a group of its own, another root port in one group with the network card behind it, and the chipset's functions in
    /// one group.
    pub(crate) fn q35() -> Self {
        let sys = Self::empty();
        let at = |place: &str, kind| sys.pci(&format!("pci0000:00/{place}"), kind);
        at("0000:00:00.0", HOST_BRIDGE);
        at("0000:00:01.0", VGA);
        at("0000:00:02.0", NIC);
        at("0000:00:03.0", VIRTIO_DISK);
        at("0000:00:04.0", ROOT_PORT);
        at("0000:00:04.0/0000:01:00.0", NVME);
        at("0000:00:05.0", ROOT_PORT);
        at("0000:00:05.0/0000:02:00.0", NIC);
        at("0000:00:1f.0", ISA_BRIDGE);
        at("0000:00:1f.2", AHCI);
        at("0000:00:1f.3", SMBUS);
        for (device, driver) in [
            ("0000:00:02.0", "e1000e"),
            ("0000:00:03.0", "virtio-pci"),
            ("0000:00:04.0", "pcieport"),
            ("0000:01:00.0", "nvme"),
            ("0000:00:05.0", "pcieport"),
            ("0000:02:00.0", "e1000e"),
            ("0000:00:1f.2", "ahci"),
            ("0000:00:1f.3", "i801_smbus"),
        ] {
            sys.bind(device, driver);
        }
        sys.group(0, "DMA", &["0000:00:00.0"]);
        sys.group(1, "DMA", &["0000:00:01.0"]);
        sys.group(2, "DMA", &["0000:00:02.0"]);
        sys.group(3, "DMA", &["0000:00:03.0"]);
        sys.group(4, "DMA", &["0000:00:04.0"]);
        sys.group(5, "DMA", &["0000:00:05.0", "0000:02:00.0"]);
        sys.group(10, "DMA", &["0000:00:1f.0", "0000:00:1f.2", "0000:00:1f.3"]);
        sys.group(11, "DMA", &["0000:01:00.0"]);
        sys.unit("dmar0", 11);
        let bus = "pci0000:00";
        sys.member("net", &format!("{bus}/0000:00:02.0/net/eth0"));
        sys.member("net", &format!("{bus}/0000:00:05.0/0000:02:00.0/net/eth1"));
        sys.member("net", "virtual/net/lo");
        let disk = format!("{bus}/0000:00:03.0/virtio0/block/vda");
        sys.member("block", &disk);
        let partition = sys.member("block", &format!("{disk}/vda1"));
        fs::write(partition.join("partition"), "1\n").expect("write");
        let nvme = format!("{bus}/0000:00:04.0/0000:01:00.0/nvme/nvme0");
        sys.member("nvme", &nvme);
        sys.member("block", &format!("{nvme}/nvme0n1"));
        let hidden = sys.member("block", &format!("{nvme}/nvme0c0n1"));
        fs::write(hidden.join("hidden"), "1\n").expect("write");
        sys.uevents(100);
        sys
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    fn folder(&self, path: impl AsRef<Path>) -> PathBuf {
        let folder = self.root().join(path);
        fs::create_dir_all(&folder).expect("folder");
        folder
    }

    fn link(&self, from: impl AsRef<Path>, to: &Path) {
        let from = self.root().join(from);
        fs::create_dir_all(from.parent().expect("a folder")).expect("folder");
        let _old = fs::remove_file(&from);
        symlink(to, from).expect("link");
    }

    /// A device at `place` below `/sys/devices`.
    pub(crate) fn pci(&self, place: &str, (vendor, device, class, header): Kind) {
        let folder = self.folder(Path::new("devices").join(place));
        let file = |name: &str, text: String| fs::write(folder.join(name), text).expect("write");
        file("vendor", format!("0x{vendor:04x}\n"));
        file("device", format!("0x{device:04x}\n"));
        file("class", format!("0x{class:06x}\n"));
        let mut config = [0; 64];
        config[0x0e] = header;
        fs::write(folder.join("config"), config).expect("write");
        let name = folder.file_name().expect("a name").to_owned();
        self.link(Path::new("bus/pci/devices").join(name), &folder);
    }

    /// Takes a PCI device away, from its group as well.
    pub(crate) fn remove(&self, device: &str) {
        let folder = self.device(device);
        if let Ok(group) = fs::read_link(folder.join("iommu_group")) {
            fs::remove_file(group.join("devices").join(device)).expect("remove");
        }
        fs::remove_file(self.root().join("bus/pci/devices").join(device)).expect("remove");
        fs::remove_dir_all(folder).expect("remove");
    }

    fn device(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.root().join("bus/pci/devices").join(name)).expect(name)
    }

    /// Has `driver` take a PCI device.
    pub(crate) fn bind(&self, device: &str, driver: &str) {
        let drivers = self.folder(Path::new("bus/pci/drivers").join(driver));
        self.link(self.device(device).join("driver"), &drivers);
    }

    /// Has its driver give it up.
    pub(crate) fn unbind(&self, device: &str) {
        fs::remove_file(self.device(device).join("driver")).expect("a driver");
    }

    /// A group of PCI devices.
    pub(crate) fn group(&self, number: u32, kind: &str, devices: &[&str]) {
        let folder = self.folder(format!("kernel/iommu_groups/{number}"));
        fs::write(folder.join("type"), format!("{kind}\n")).expect("write");
        let reserved = "0x00000000fee00000 0x00000000feefffff msi\n";
        fs::write(folder.join("reserved_regions"), reserved).expect("write");
        self.folder(folder.join("devices"));
        for device in devices {
            let place = self.device(device);
            self.link(folder.join("devices").join(device), &place);
            self.link(place.join("iommu_group"), &folder);
        }
    }

    /// A device that is no PCI device, in a group of its own.
    pub(crate) fn platform(&self, name: &str, driver: &str, number: u32) {
        let place = self.folder(Path::new("devices/platform").join(name));
        self.link(place.join("subsystem"), &self.folder("bus/platform"));
        let drivers = self.folder(Path::new("bus/platform/drivers").join(driver));
        self.link(place.join("driver"), &drivers);
        self.group(number, "DMA", &[]);
        let group = self.root().join(format!("kernel/iommu_groups/{number}"));
        self.link(group.join("devices").join(name), &place);
        self.link(place.join("iommu_group"), &group);
    }

    /// An IOMMU.
    pub(crate) fn unit(&self, name: &str, devices: usize) {
        let place = self.folder(Path::new("devices/virtual/iommu").join(name));
        self.folder(place.join("devices"));
        for device in 0..devices {
            self.link(place.join(format!("devices/{device}")), Path::new("/"));
        }
        self.link(Path::new("class/iommu").join(name), &place);
    }

    /// A member of a class, at `place` below `/sys/devices`.
    fn member(&self, class: &str, place: &str) -> PathBuf {
        let folder = self.folder(Path::new("devices").join(place));
        let name = folder.file_name().expect("a name").to_owned();
        self.link(Path::new("class").join(class).join(name), &folder);
        folder
    }

    /// The number of the newest uevent.
    pub(crate) fn uevents(&self, number: u64) {
        let file = self.folder("kernel").join("uevent_seqnum");
        fs::write(file, format!("{number}\n")).expect("write");
    }

    /// What is read from it.
    pub(crate) fn topology(&self) -> Topology {
        super::topology::read_in(self.root(), &mut Names::without_list()).expect("a topology")
    }
}
