//! Reading disks so that it is known what was read: past the kernel's cache, a piece after the other.

use std::{
    fs::OpenOptions,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
};

use super::pci::{self, NVME_DISK, VIRTIO_DISK};

/// Bytes of each read.
const PIECE: usize = 128 << 10;
const PAGE: usize = 4096;

/// Where the virtio disk is.
#[track_caller]
pub(super) fn virtio() -> String {
    format!(
        "/dev/{}",
        pci::only_entry(VIRTIO_DISK, &["virtio*", "block"])
    )
}

/// Where the `NVMe` disk is.
#[track_caller]
pub(super) fn nvme() -> String {
    // `nvme/nvme0/` has the disk among other things.
    let name = pci::only_entry(NVME_DISK, &["nvme"]);
    let disk = format!("/dev/{name}n1");
    crate::wait_until(&disk, || std::path::Path::new(&disk).exists());
    disk
}

/// Has a disk's driver map what it keeps mapped from its first reads on.
pub(super) fn settle(disk: &str) {
    read(disk, 1);
}

/// Reads the first `mebibytes` of a disk.
///
/// # Panics
/// When it cannot be read so far.
#[track_caller]
pub(super) fn read(disk: &str, mebibytes: usize) {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(disk)
        .unwrap_or_else(|error| panic!("{disk}: {error}"));
    // Past the cache, a buffer begins on a page.
    let mut buffer = vec![0u8; PIECE + PAGE];
    let begin = buffer.as_ptr().align_offset(PAGE);
    for piece in 0..(mebibytes << 20) / PIECE {
        let at = (piece * PIECE) as u64;
        let read = file.read_at(&mut buffer[begin..begin + PIECE], at);
        assert_eq!(read.expect(disk), PIECE, "{disk}, at {at}");
    }
}
