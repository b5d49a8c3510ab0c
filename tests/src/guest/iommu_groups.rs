//! Groups, their devices and drivers, as `smilat iommu` tells of them, beside sysfs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use smi_user::model::{
    iommu::{DomainCounts, What},
    iommu_boot::{Boot, BootSource, BootWhat},
    iommu_topology::Topology,
};

use super::{
    disks,
    iommu_watch::{Told, Watch, domains_of},
    pci::{self, BRIDGE, E1000, EDU, NEIGHBOUR, NVME_DISK},
    raw_trace::traced,
    vfio::{self, Container, Given},
};
use crate::{output, smilat, stderr};

const GROUPS: &str = "/sys/kernel/iommu_groups";

/// What `smilat iommu tree --json` says.
#[track_caller]
fn tree(args: &[&str]) -> Topology {
    let output = output(smilat().args(["iommu", "tree", "--json"]).args(args));
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("a topology")
}

/// Of each group its type and its devices, by sysfs.
fn by_sysfs() -> BTreeMap<u32, (String, BTreeSet<String>)> {
    let entries = fs::read_dir(GROUPS).expect(GROUPS);
    entries
        .map(|entry| {
            let group = entry.expect("an entry").path();
            let number = group.file_name().and_then(|name| name.to_str());
            let number = number.and_then(|name| name.parse().ok());
            let kind = fs::read_to_string(group.join("type")).expect("a type");
            let devices = fs::read_dir(group.join("devices")).expect("devices");
            let devices = devices
                .map(|device| device.expect("an entry").file_name())
                .map(|name| name.into_string().expect("UTF-8"));
            (
                number.expect("a number"),
                (kind.trim().to_owned(), devices.collect()),
            )
        })
        .collect()
}

/// The tree is what sysfs says now; returns it.
#[track_caller]
pub(super) fn assert_tree_is_sysfs() -> Topology {
    let tree = tree(&[]);
    let told: BTreeMap<u32, (String, BTreeSet<String>)> = tree
        .groups
        .iter()
        .map(|group| {
            let kind = group.kind.clone().unwrap_or_default();
            let devices: BTreeSet<String> = group.devices.iter().cloned().collect();
            assert_eq!(devices.len(), group.devices.len(), "{group:?}");
            (group.group, (kind, devices))
        })
        .collect();
    assert_eq!(told, by_sysfs());
    for device in tree.devices.iter().filter(|device| device.group.is_some()) {
        assert_eq!(device.driver, pci::driver(&device.name), "{device:?}");
        assert_eq!(device.group, Some(pci::group(&device.name)));
    }
    for group in &tree.groups {
        let file = format!("{GROUPS}/{}/reserved_regions", group.group);
        let regions = fs::read_to_string(file).expect("reserved regions");
        let told: Vec<String> = group
            .reserved
            .iter()
            .map(|region| {
                format!(
                    "{:#018x} {:#018x} {}",
                    region.first, region.last, region.kind
                )
            })
            .collect();
        assert_eq!(told, regions.lines().collect::<Vec<_>>());
    }
    tree
}

pub(super) fn the_tree_is_that_of_sysfs_and_says_what_must_travel_together() {
    let all = assert_tree_is_sysfs();
    let shared = all.group(pci::group(E1000)).expect("a group");
    assert_eq!(shared.devices, [BRIDGE, E1000, NEIGHBOUR]);
    assert_eq!(shared.travel_together, [E1000, NEIGHBOUR]);
    let bridge = all.device(BRIDGE).expect("a bridge");
    assert!(bridge.is_bridge);
    for device in [E1000, NEIGHBOUR] {
        let device = all.device(device).expect("a device");
        assert_eq!(device.parent.as_deref(), Some(BRIDGE));
    }
    let disk = all.device(NVME_DISK).expect("the disk");
    let name = disks::nvme().replace("/dev/", "");
    assert!(disk.known_as.contains(&name), "{disk:?}");
    assert!(!all.units.is_empty(), "{all:?}");

    let part = tree(&["--device=00:04.0"]);
    let devices: Vec<_> = part
        .groups
        .iter()
        .flat_map(|group| &group.devices)
        .collect();
    assert_eq!(devices, [NVME_DISK]);
    let part = tree(&[&format!("--group={}", pci::group(E1000))]);
    assert_eq!(part.groups, std::slice::from_ref(shared));

    let text = output(smilat().args(["iommu", "tree"]));
    assert!(text.status.success(), "{}", stderr(&text));
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    for device in &all.devices {
        assert!(text.contains(&device.name), "no {} in {text}", device.name);
    }
}

/// Whether that is about a driver of the disk, and its name.
fn of_driver(what: &What) -> Option<(&'static str, Option<&str>)> {
    match what {
        What::Bound { device, driver, .. } if device == NVME_DISK => {
            Some(("bound", Some(driver.as_str())))
        }
        What::Unbound { device, driver, .. } if device == NVME_DISK => {
            Some(("unbound", driver.as_deref()))
        }
        _ => None,
    }
}

fn is_attached(what: &What) -> bool {
    matches!(what, What::Attached { device, .. } if device == NVME_DISK)
}

/// What was counted in the domain that user space has for a group.
#[track_caller]
fn guests_domain(told: &Told, group: u32) -> DomainCounts {
    let is_it = |domain: &&DomainCounts| {
        domain.groups == [group] && domain.kind.as_deref() == Some("unmanaged")
    };
    let found = told.last().domains.iter().find(is_it);
    found.expect("a domain of user space's").clone()
}

pub(super) fn a_device_given_to_user_space_and_taken_back_is_told_as_it_happens() {
    const IOVA: u64 = 1 << 32;
    const BYTES: u64 = 4 << 20;
    let group = pci::group(NVME_DISK);
    let before = assert_tree_is_sysfs();
    let mut watch = Watch::start(&[]);

    let given = Given::give(NVME_DISK);
    watch.event("vfio-pci", |what| {
        of_driver(what) == Some(("bound", Some(vfio::DRIVER)))
    });
    let during = assert_tree_is_sysfs();
    let disk = during.device(NVME_DISK).expect("the disk");
    assert_eq!(disk.driver.as_deref(), Some(vfio::DRIVER));

    let container = Container::of(group);
    watch.event("another domain", is_attached);
    // With it comes a trial of whether the IOMMU has superpages (`vfio_test_domain_fgsp` in
    // `drivers/vfio/vfio_iommu_type1.c`): two pages are mapped as one and unmapped one by one.
    let tried = guests_domain(watch.settled(), group);
    assert_eq!(
        (tried.maps.count, tried.unmaps.count, tried.pieces),
        (1, 2, 2)
    );
    let ((), raw) = traced(|| {
        container.map(IOVA, BYTES);
        container.unmap(IOVA, BYTES);
    });
    let guests = guests_domain(watch.settled(), group);
    println!(
        "    in user space's domain: {} maps of {} bytes, {} unmaps",
        guests.maps.count, guests.maps.bytes, guests.unmaps.count
    );
    for (after, before, traced) in [
        (&guests.maps, &tried.maps, &raw.maps),
        (&guests.unmaps, &tried.unmaps, &raw.unmaps),
    ] {
        assert_eq!(
            (after.count - before.count, after.bytes - before.bytes),
            (traced.count, traced.bytes)
        );
    }
    assert_eq!((guests.pieces, guests.net_bytes()), (tried.pieces, 0));

    drop(container);
    given.take_back();
    watch.event("nvme again", |what| {
        of_driver(what) == Some(("bound", Some("nvme")))
    });
    let after = assert_tree_is_sysfs();
    assert_eq!(after.groups, before.groups);
    let names = |tree: &Topology| -> Vec<String> {
        tree.devices
            .iter()
            .map(|device| device.name.clone())
            .collect()
    };
    assert_eq!(names(&after), names(&before));
    let told = watch.end();
    assert_eq!(told.code(), 0, "{}", told.words);
    let drivers: Vec<_> = told
        .events
        .iter()
        .filter_map(|event| of_driver(&event.what))
        .collect();
    assert_eq!(
        drivers,
        [
            ("unbound", Some("nvme")),
            ("bound", Some(vfio::DRIVER)),
            ("unbound", Some(vfio::DRIVER)),
            ("bound", Some("nvme")),
        ]
    );
    assert!(
        told.events.is_sorted_by_key(|event| event.time),
        "{:#?}",
        told.events
    );
    let position =
        |is_it: &dyn Fn(&What) -> bool| told.events.iter().position(|event| is_it(&event.what));
    let taken = position(&|what| of_driver(what) == Some(("bound", Some(vfio::DRIVER))));
    let given_up = position(&|what| of_driver(what) == Some(("unbound", Some(vfio::DRIVER))));
    let first = position(&is_attached);
    assert!(taken < first && first < given_up, "{:#?}", told.events);
    for event in told.events.iter().filter(|event| is_attached(&event.what)) {
        let What::Attached { group: of, .. } = &event.what else {
            unreachable!("attached");
        };
        assert_eq!(*of, Some(group));
    }
    assert!(told.last().changes >= 5);
    // User space's domain went with it; what was counted in it stays.
    let of_disk = domains_of(told.last(), NVME_DISK);
    let gone: Vec<_> = of_disk.iter().filter(|domain| domain.gone).collect();
    assert!(
        gone.iter().any(|domain| domain.domain == guests.domain
            && domain.maps.count >= guests.maps.count
            && domain.net_bytes() == 0),
        "{of_disk:#?}"
    );
}

pub(super) fn a_device_that_goes_and_comes_is_told_with_its_group() {
    let group = pci::group(NEIGHBOUR);
    let mut watch = Watch::start(&[]);
    fs::write(pci::folder(NEIGHBOUR).join("remove"), "1").expect("removed");
    watch.event("it went", |what| {
        matches!(what, What::Removed { device, group: of } if device == NEIGHBOUR && *of == group)
    });
    let without = assert_tree_is_sysfs();
    assert_eq!(without.device(NEIGHBOUR), None);
    fs::write("/sys/bus/pci/rescan", "1").expect("looked for");
    watch.event("it came", |what| {
        matches!(what, What::Added { device, group: of } if device == NEIGHBOUR && *of == group)
    });
    let with = assert_tree_is_sysfs();
    assert_eq!(
        with.device(NEIGHBOUR).and_then(|device| device.group),
        Some(group)
    );
    let told = watch.end();
    let count = |is_it: fn(&What) -> bool| {
        told.events
            .iter()
            .filter(|event| is_it(&event.what))
            .count()
    };
    assert_eq!(
        (
            count(|what| matches!(what, What::Removed { .. })),
            count(|what| matches!(what, What::Added { .. }))
        ),
        (1, 1),
        "{:#?}",
        told.events
    );
}

pub(super) fn boot_is_told_as_far_as_the_kernel_kept_it() {
    let line = fs::read_to_string("/proc/cmdline").expect("the command line");
    let is_traced = line.contains("trace_event=iommu:");
    let output = output(smilat().args(["iommu", "boot", "--json"]));
    assert!(output.status.success(), "{}", stderr(&output));
    let boot: Boot = serde_json::from_slice(&output.stdout).expect("boot");
    let group = pci::group(EDU);
    let source = if is_traced {
        BootSource::Trace
    } else {
        BootSource::KernelLog
    };
    let added = boot.events.iter().filter(|event| {
        matches!(&event.what, BootWhat::Added { device, group: of } if device == EDU && *of == group)
    });
    let sources: Vec<BootSource> = added.map(|event| event.source).collect();
    assert_eq!(sources, [source], "{:#?}", boot.events);
    let attached = boot
        .events
        .iter()
        .any(|event| matches!(&event.what, BootWhat::Attached { device } if device == EDU));
    println!(
        "    traced: {:?}; {} events; to add: {:?}",
        boot.traced,
        boot.events.len(),
        boot.add
    );
    assert_eq!(attached, is_traced);
    assert_eq!(boot.traced.len(), if is_traced { 2 } else { 0 });
    assert_eq!(boot.add.is_none(), is_traced);
    if let Some(add) = &boot.add {
        for event in ["iommu:add_device_to_group", "iommu:attach_device_to_domain"] {
            assert!(add.contains(event), "{add}");
        }
    }
    assert!(
        boot.command_line
            .iter()
            .any(|option| option == "intel_iommu=on"),
        "{:?}",
        boot.command_line
    );
}
