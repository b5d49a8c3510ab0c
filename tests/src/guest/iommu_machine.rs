//! What the tests of `smilat iommu` take for granted: that the machine has the groups, faults and events that they build on,
//! without smilat.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use super::{
    disks,
    edu::{Access, Edu},
    kernel_log::KernelLog,
    mapper::{Done, Mapper},
    pci::{self, BRIDGE, E1000, EDU, NEIGHBOUR, NVME_DISK, VIRTIO_DISK, VIRTIO_NET},
    raw_trace::{Sums, Traced, traced},
    vfio::{Container, Given},
    wire::Wire,
};
use crate::wait_until;

/// An address that nothing is mapped at: the kernel hands out addresses from the top of the first 4 GiB down.
pub(super) const UNMAPPED: u64 = 0x0dea_d000;

const PAGE: u64 = 4096;
const SUPERPAGE: u64 = 2 << 20;

/// The devices of a group, by name.
fn members(group: u32) -> BTreeSet<String> {
    let devices = fs::read_dir(format!("/sys/kernel/iommu_groups/{group}/devices"));
    devices
        .expect("a group")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("UTF-8"))
        .collect()
}

pub(super) fn devices_are_in_groups_that_the_iommu_translates_for() {
    for device in [VIRTIO_DISK, NVME_DISK, VIRTIO_NET, EDU] {
        assert_eq!(
            members(pci::group(device)),
            BTreeSet::from([device.to_owned()])
        );
    }
    assert_eq!(
        members(pci::group(E1000)),
        BTreeSet::from([BRIDGE, E1000, NEIGHBOUR].map(str::to_owned))
    );
    for device in [VIRTIO_DISK, NVME_DISK, VIRTIO_NET, EDU, E1000] {
        let kind = format!("/sys/kernel/iommu_groups/{}/type", pci::group(device));
        // Each translation goes when it is unmapped: `DMA-FQ` would let some wait.
        assert_eq!(fs::read_to_string(kind).expect("a type"), "DMA\n");
    }
    for (device, driver) in [
        (VIRTIO_DISK, Some("virtio-pci")),
        (NVME_DISK, Some("nvme")),
        (VIRTIO_NET, Some("virtio-pci")),
        (E1000, Some("e1000")),
        (EDU, None),
        (NEIGHBOUR, None),
    ] {
        assert_eq!(pci::driver(device).as_deref(), driver, "{device}");
    }
}

/// All that was mapped was unmapped, and what sizes and CPUs were counted adds up.
#[track_caller]
fn assert_balanced(traced: &Traced, what: &str) {
    let Traced { maps, unmaps } = traced;
    println!(
        "    {what}: {} maps of {} bytes, {} unmaps of {} bytes",
        maps.count, maps.bytes, unmaps.count, unmaps.bytes
    );
    assert_eq!(maps.bytes, unmaps.bytes, "{what}: {traced:?}");
    for Sums {
        count,
        by_size,
        by_cpu,
        ..
    } in [maps, unmaps]
    {
        assert_eq!(by_size.values().sum::<u64>(), *count);
        assert_eq!(by_cpu.values().sum::<u64>(), *count);
    }
}

pub(super) fn what_a_read_maps_is_unmapped_and_nothing_else_maps() {
    const MEBIBYTES: usize = 16;
    // Of the memory of a read, virtio's driver maps each part by itself. NVMe's has it mapped in parts that follow one upon
    // the other, and unmapped in one.
    for (disk, is_one_by_one) in [(disks::virtio(), true), (disks::nvme(), false)] {
        disks::settle(&disk);
        let ((), read) = traced(|| disks::read(&disk, MEBIBYTES));
        assert_balanced(&read, &disk);
        assert!(read.maps.bytes >= (MEBIBYTES as u64) << 20, "{read:?}");
        assert_eq!(
            read.maps.count == read.unmaps.count,
            is_one_by_one,
            "{read:?}"
        );
    }
    let ((), idle) = traced(|| thread::sleep(Duration::from_secs(2)));
    assert_eq!(idle, Traced::default());
}

/// Not all that they map is unmapped when they are turned off: virtio's keeps room for what it may receive.
pub(super) fn network_cards_map_what_they_send_and_rest_when_they_are_off() {
    const FRAMES: u32 = 50;
    let ((), sent) = traced(|| Wire::up().exchange(FRAMES));
    println!(
        "    {FRAMES} frames each way: {} maps, {} unmaps",
        sent.maps.count, sent.unmaps.count
    );
    for sums in [&sent.maps, &sent.unmaps] {
        assert!(sums.count >= 2 * u64::from(FRAMES), "{sent:?}");
    }
    let ((), idle) = traced(|| thread::sleep(Duration::from_secs(2)));
    assert_eq!(idle, Traced::default());
}

pub(super) fn edu_makes_faults_that_the_kernel_logs() {
    let mut log = KernelLog::from_now_on();
    let mut edu = Edu::open();
    for (access, told) in [(Access::Read, "DMA Read"), (Access::Write, "DMA Write")] {
        edu.access(access, UNMAPPED);
        let mut lines = Vec::new();
        let device = EDU.strip_prefix("0000:").expect("a domain");
        let is_of_fault = |line: &String| {
            line.contains(told) && line.contains(device) && line.contains("fault addr 0xdead000")
        };
        wait_until(told, || {
            lines.extend(log.lines());
            lines.iter().any(is_of_fault)
        });
        println!("    {}", lines.join(" | "));
    }
}

pub(super) fn a_device_goes_to_user_space_and_comes_back() {
    const IOVA: u64 = 1 << 32;
    const BYTES: u64 = 1 << 20;
    let group = pci::group(NVME_DISK);
    let ((), seen) = traced(|| {
        let given = Given::give(NVME_DISK);
        let container = Container::of(group);
        container.map(IOVA, BYTES);
        container.unmap(IOVA, BYTES);
        drop(container);
        given.take_back();
        disks::nvme();
    });
    println!("    {seen:?}");
    assert!(seen.maps.bytes >= BYTES && seen.unmaps.bytes >= BYTES);
    assert_eq!(pci::group(NVME_DISK), group);
    disks::settle(&disks::nvme());
    let ((), read) = traced(|| disks::read(&disks::nvme(), 1));
    assert_balanced(&read, "the disk that is back");
}

/// What the mapper says it did is what the kernel traced.
#[track_caller]
fn assert_traced(command: &str, done: Done, traced: &Traced) {
    let Traced { maps, unmaps } = traced;
    assert_eq!(
        (done.maps, done.map_bytes),
        (maps.count, maps.bytes),
        "{command}: {traced:?}"
    );
    assert_eq!(
        (done.unmaps, done.asked_bytes, done.unmap_bytes),
        (unmaps.count, unmaps.asked_bytes, unmaps.bytes),
        "{command}: {traced:?}"
    );
}

pub(super) fn the_mapper_does_what_it_says() {
    let mapper = Mapper::attach();
    // What is unmapped by the piece of a superpage goes as a whole with the first, and each piece says so.
    let pieces = SUPERPAGE / PAGE;
    for (command, maps, map_bytes, unmaps, asked_bytes) in [
        ("whole 65536 10", 10, 655_360, 10, 655_360),
        ("whole 4194304 3", 3, 12_582_912, 3, 12_582_912),
        ("pieces 65536 4096 10", 10, 655_360, 160, 655_360),
        (
            "pieces 2097152 4096 2",
            2,
            2 * SUPERPAGE,
            2 * pieces,
            2 * SUPERPAGE,
        ),
        (
            "super 2097152 4096 2",
            2,
            2 * SUPERPAGE,
            2 * pieces,
            2 * SUPERPAGE,
        ),
        ("merged 16384 8", 8, 131_072, 1, 131_072),
        ("map 8192", 1, 8192, 0, 0),
        ("unmap", 0, 0, 1, 8192),
        ("leak 12288 20", 20, 245_760, 0, 0),
        ("mmio", 1, 1 << 20, 0, 0),
        ("free", 0, 0, 21, 245_760 + (1 << 20)),
        ("times 500 4096", 500, 2_048_000, 500, 2_048_000),
    ] {
        let (done, traced) = traced(|| mapper.run(command));
        println!("    {command}: {done:?}");
        assert_traced(command, done, &traced);
        assert_eq!(
            (done.maps, done.map_bytes, done.unmaps, done.asked_bytes),
            (maps, map_bytes, unmaps, asked_bytes),
            "{command}"
        );
        let expected = if command.starts_with("super") {
            asked_bytes * pieces
        } else {
            asked_bytes
        };
        assert_eq!(done.unmap_bytes, expected, "{command}");
    }
    let (done, traced) = traced(|| mapper.run("spin 100"));
    println!("    spin 100: {done:?}");
    assert_traced("spin", done, &traced);
    assert!(done.maps > 0 && done.ns >= 100_000_000);
}

pub(super) fn a_machine_in_passthrough_translates_for_no_device() {
    for device in [VIRTIO_DISK, NVME_DISK, EDU] {
        let kind = format!("/sys/kernel/iommu_groups/{}/type", pci::group(device));
        assert_eq!(fs::read_to_string(kind).expect("a type"), "identity\n");
    }
    let ((), read) = traced(|| disks::read(&disks::virtio(), 1));
    assert_eq!(read, Traced::default());
}
