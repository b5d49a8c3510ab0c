//! What `smilat iommu` counts, beside the kernel's trace of the same time.

use std::{collections::BTreeMap, thread};

use smi_common::iommu::{size_bound, size_position};
use smi_user::{
    kernel::sched,
    model::iommu::{CpuMoves, IommuSnapshot, Moved, SizeCount},
};

use super::{
    disks,
    iommu_watch::{Told, Watch, count_and_bytes, domain_of},
    mapper::Mapper,
    pci::{self, BRIDGE, E1000, EDU, NEIGHBOUR, NVME_DISK, VIRTIO_DISK, VIRTIO_NET},
    raw_trace::{Sums, Traced, traced},
    wire::Wire,
};

const MEBIBYTES: usize = 16;

/// Numbers of maps or unmaps by size as smilat has them, from those of single sizes.
fn ranges(by_size: &BTreeMap<u64, u64>) -> Vec<SizeCount> {
    let mut ranges = BTreeMap::new();
    for (bytes, count) in by_size {
        *ranges.entry(size_position(*bytes)).or_insert(0) += count;
    }
    ranges
        .into_iter()
        .map(|(position, count)| SizeCount {
            le_bytes: size_bound(position),
            count,
        })
        .collect()
}

#[track_caller]
fn assert_same(moved: &Moved, sums: &Sums, what: &str) {
    assert_eq!(
        (moved.count, moved.bytes, &moved.sizes),
        (sums.count, sums.bytes, &ranges(&sums.by_size)),
        "{what}"
    );
}

/// All domains of a snapshot together.
fn total(snapshot: &IommuSnapshot) -> (Moved, Moved, u64) {
    let sum = |of: fn(&smi_user::model::iommu::DomainCounts) -> &Moved| {
        let mut total = Moved::default();
        let mut sizes = BTreeMap::new();
        for moved in snapshot.domains.iter().map(of) {
            total.count += moved.count;
            total.bytes += moved.bytes;
            for size in &moved.sizes {
                let bound = size.le_bytes.unwrap_or(u64::MAX);
                *sizes.entry(bound).or_insert(0) += size.count;
            }
        }
        total.sizes = sizes
            .into_iter()
            .map(|(bound, count)| SizeCount {
                le_bytes: (bound < u64::MAX).then_some(bound),
                count,
            })
            .collect();
        total
    };
    let asked = snapshot.domains.iter().map(|domain| domain.asked_bytes);
    (
        sum(|domain| &domain.maps),
        sum(|domain| &domain.unmaps),
        asked.sum(),
    )
}

/// What smilat counted in all is what was traced, to the event, the byte, the size and the CPU.
#[track_caller]
fn assert_counted(told: &Told, raw: &Traced) {
    told.assert_whole();
    let last = told.last();
    let (maps, unmaps, asked_bytes) = total(last);
    println!(
        "    {} maps of {} bytes, {} unmaps of {} bytes, by smilat and the trace alike; smilat missed {}",
        maps.count, maps.bytes, unmaps.count, unmaps.bytes, last.missed
    );
    assert_same(&maps, &raw.maps, "all maps");
    assert_same(&unmaps, &raw.unmaps, "all unmaps");
    assert_eq!(asked_bytes, raw.unmaps.asked_bytes);
    let on = |sums: &Sums, cpu: u32| sums.by_cpu.get(&cpu).copied().unwrap_or(0);
    let traced_cpus: Vec<CpuMoves> = (0..2)
        .map(|cpu| CpuMoves {
            cpu,
            maps: on(&raw.maps, cpu),
            unmaps: on(&raw.unmaps, cpu),
        })
        .filter(|moves| moves.maps + moves.unmaps > 0)
        .collect();
    assert_eq!(last.cpus, traced_cpus);
}

/// What was counted for the device's one domain is what was traced while it alone was used.
#[track_caller]
fn assert_of_device(told: &Told, device: &str, raw: &Traced) {
    let domain = domain_of(told.last(), device);
    assert_same(&domain.maps, &raw.maps, device);
    assert_same(&domain.unmaps, &raw.unmaps, device);
    assert_eq!(domain.asked_bytes, raw.unmaps.asked_bytes, "{device}");
    assert_eq!(domain.groups, [pci::group(device)]);
    assert_eq!(domain.devices, [device]);
    assert_eq!(domain.kind.as_deref(), Some("DMA"), "{device}");
    assert!(!domain.gone, "{device}");
}

pub(super) fn a_read_counts_as_in_the_raw_trace_of_the_same_time() {
    let (virtio, nvme) = (disks::virtio(), disks::nvme());
    for disk in [&virtio, &nvme] {
        disks::settle(disk);
    }
    let watch = Watch::start(&[]);
    let ((), of_virtio) = traced(|| disks::read(&virtio, MEBIBYTES));
    let ((), of_nvme) = traced(|| disks::read(&nvme, MEBIBYTES));
    let told = watch.end();
    assert_eq!(told.code(), 0, "{}", told.words);
    assert_of_device(&told, VIRTIO_DISK, &of_virtio);
    assert_of_device(&told, NVME_DISK, &of_nvme);
    assert_eq!(told.last().domains.len(), 2, "{:#?}", told.last().domains);
    // All of it was mapped while smilat watched, and unmapped as it had been mapped.
    for device in [VIRTIO_DISK, NVME_DISK] {
        let domain = domain_of(told.last(), device);
        assert_eq!(
            (domain.whole, domain.pieces, domain.untracked),
            (domain.unmaps.count, 0, 0),
            "{device}"
        );
        assert_eq!(
            (domain.net_bytes(), domain.not_ram),
            (0, 0),
            "{device}: {domain:#?}"
        );
    }
    assert_eq!(
        (told.last().ratio_alarms, told.last().changes),
        (0, 0),
        "{:#?}",
        told.events
    );
    let all = of_virtio.with(&of_nvme);
    assert_counted(&told, &all);
}

/// Threads of both CPUs map at the same time, and interrupts unmap in between.
pub(super) fn what_all_devices_map_at_the_same_time_counts_as_in_the_raw_trace() {
    const FRAMES: u32 = 100;
    let (virtio, nvme) = (disks::virtio(), disks::nvme());
    for disk in [&virtio, &nvme] {
        disks::settle(disk);
    }
    let watch = Watch::start(&[]);
    let ((), raw) = traced(|| {
        thread::scope(|scope| {
            for (cpu, disk) in [(0, &virtio), (1, &nvme), (1, &virtio), (0, &nvme)] {
                scope.spawn(move || {
                    sched::set_affinity([cpu]).expect("on one CPU");
                    disks::read(disk, MEBIBYTES);
                });
            }
            scope.spawn(|| Wire::up().exchange(FRAMES));
            scope.spawn(|| {
                let mapper = Mapper::attach();
                mapper.run("whole 65536 500");
                mapper.run("pieces 65536 4096 20");
            });
        });
    });
    let told = watch.end();
    assert_counted(&told, &raw);
    for device in [VIRTIO_DISK, NVME_DISK, VIRTIO_NET, E1000, EDU] {
        assert!(domain_of(told.last(), device).maps.count > 0, "{device}");
    }
    let shared = domain_of(told.last(), E1000);
    assert_eq!(shared.groups, [pci::group(E1000)]);
    assert_eq!(shared.devices, [BRIDGE, E1000, NEIGHBOUR]);
    assert!(shared.maps.count >= u64::from(FRAMES));
}

pub(super) fn filters_leave_out_all_else() {
    let disk = disks::virtio();
    disks::settle(&disk);
    let mapper = Mapper::attach();
    let group = format!("--group={}", pci::group(EDU));
    for filter in [
        &["--device=0000:00:06.0"][..],
        &["--device=00:06.0"],
        &[&group],
    ] {
        let watch = Watch::start(filter);
        disks::read(&disk, 1);
        mapper.run("whole 65536 10");
        let told = watch.end();
        let [domain] = &told.last().domains[..] else {
            panic!("{filter:?}: {:#?}", told.last().domains);
        };
        assert_eq!(domain.devices, [EDU], "{filter:?}");
        assert_eq!(count_and_bytes(&domain.maps), (10, 655_360), "{filter:?}");
        let cpus: u64 = told.last().cpus.iter().map(|cpu| cpu.maps).sum();
        assert_eq!(cpus, 10, "{filter:?}: {:?}", told.last().cpus);
    }

    let watch = Watch::start(&["--cpus=1"]);
    for (cpu, command) in [(0, "whole 65536 7"), (1, "whole 65536 5")] {
        thread::scope(|scope| {
            scope.spawn(|| {
                sched::set_affinity([cpu]).expect("on one CPU");
                mapper.run(command);
            });
        });
    }
    let told = watch.end();
    let domain = domain_of(told.last(), EDU);
    assert_eq!((domain.maps.count, domain.unmaps.count), (5, 5));
    assert_eq!(
        told.last().cpus,
        [CpuMoves {
            cpu: 1,
            maps: 5,
            unmaps: 5
        }]
    );

    for (size, maps) in [
        ("--size=64KiB", 3),
        ("--size=8KiB-64KiB", 8),
        ("--size=-8KiB", 7),
        ("--size=128KiB-", 4),
    ] {
        let watch = Watch::start(&[size]);
        for command in [
            "whole 65536 3",
            "whole 8192 5",
            "whole 4096 2",
            "whole 131072 4",
        ] {
            mapper.run(command);
        }
        let told = watch.end();
        let domain = domain_of(told.last(), EDU);
        assert_eq!(
            (domain.maps.count, domain.unmaps.count),
            (maps, maps),
            "{size}"
        );
    }
}
