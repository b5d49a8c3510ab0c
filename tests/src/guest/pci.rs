//! PCI devices of the machines with an IOMMU, as `xtask/src/vm/qemu.rs` plugs them, and what sysfs says of them.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::wait_until;

/// A disk, whose driver is virtio's.
pub(super) const VIRTIO_DISK: &str = "0000:00:03.0";
/// A disk.
pub(super) const NVME_DISK: &str = "0000:00:04.0";
/// A network card on the same wire as [`E1000`], whose driver is virtio's.
pub(super) const VIRTIO_NET: &str = "0000:00:05.0";
/// A device without a driver, which accesses any address that it is told to.
pub(super) const EDU: &str = "0000:00:06.0";
/// A network card that shares its group with [`NEIGHBOUR`] and [`BRIDGE`].
pub(super) const E1000: &str = "0000:02:01.0";
/// A device without a driver.
pub(super) const NEIGHBOUR: &str = "0000:02:02.0";
/// The bridge above both.
pub(super) const BRIDGE: &str = "0000:01:00.0";

/// Its folder.
pub(super) fn folder(device: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(device)
}

/// The number of its group.
///
/// # Panics
/// When it is in none.
#[track_caller]
pub(super) fn group(device: &str) -> u32 {
    let group = fs::read_link(folder(device).join("iommu_group")).expect("a group");
    let number = group.file_name().and_then(|name| name.to_str());
    number.and_then(|name| name.parse().ok()).expect("a number")
}

/// The driver that has it.
pub(super) fn driver(device: &str) -> Option<String> {
    let driver = fs::read_link(folder(device).join("driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// Waits until there is exactly one entry of a folder somewhere below the device's: `at` is the way there, in which `*` is
/// any one name that begins as what stands before it. Returns its name.
#[track_caller]
pub(super) fn only_entry(device: &str, at: &[&str]) -> String {
    let mut found = Vec::new();
    wait_until(&format!("{at:?} of {device}"), || {
        found = entries(&folder(device), at);
        found.len() == 1
    });
    found.remove(0)
}

fn entries(dir: &Path, at: &[&str]) -> Vec<String> {
    let Ok(here) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = here.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let Some((first, rest)) = at.split_first() else {
        return names.collect();
    };
    names
        .filter(|name| match first.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == first,
        })
        .flat_map(|name| entries(&dir.join(name), rest))
        .collect()
}

/// Lets it be accessed and access memory by itself, which drivers do otherwise.
///
/// # Panics
/// When the kernel refuses.
#[track_caller]
pub(super) fn enable(device: &str) {
    const COMMAND: u64 = 4;
    const BUS_MASTER: u16 = 4;
    fs::write(folder(device).join("enable"), "1").expect("enabled");
    let config: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder(device).join("config"))
        .expect("its configuration space");
    let mut command = [0; 2];
    config.read_exact_at(&mut command, COMMAND).expect("read");
    let command = u16::from_le_bytes(command) | BUS_MASTER;
    config
        .write_all_at(&command.to_le_bytes(), COMMAND)
        .expect("written");
}
