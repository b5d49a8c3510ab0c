//! Faults that a device makes, as `smilat iommu` tells of them.

use std::{thread, time::Duration};

use smi_user::model::iommu::{Fault, FaultCounts, FaultSource, What};

use super::{
    edu::{Access, Edu},
    iommu_machine::UNMAPPED,
    iommu_watch::{Told, Watch},
    mapper::Mapper,
    pci::{self, EDU},
};

/// The faults told, the first one first.
fn faults(told: &Told) -> Vec<&Fault> {
    told.events
        .iter()
        .filter_map(|event| match &event.what {
            What::Fault(fault) => Some(fault),
            _ => None,
        })
        .collect()
}

/// What was counted of the one device that makes any.
#[track_caller]
fn counted(told: &Told) -> &FaultCounts {
    let [counts] = &told.last().faults[..] else {
        panic!("{:#?}", told.last().faults);
    };
    assert_eq!(counts.device, EDU);
    counts
}

/// The driver of Intel's IOMMU says it in the kernel log alone.
pub(super) fn faults_are_told_with_device_and_address() {
    let mut edu = Edu::open();
    let mut watch = Watch::start(&[]);
    for (number, (access, word)) in [
        (Access::Read, "read"),
        (Access::Write, "write"),
        (Access::Read, "read"),
    ]
    .into_iter()
    .enumerate()
    {
        let address = UNMAPPED + ((number as u64) << 12);
        edu.access(access, address);
        let event = watch.event(
            "a fault",
            |what| matches!(what, What::Fault(fault) if fault.iova == Some(address)),
        );
        let What::Fault(fault) = event.what else {
            unreachable!("a fault");
        };
        println!("    {fault:?}");
        assert_eq!(fault.device, EDU);
        assert_eq!(fault.group, Some(pci::group(EDU)));
        assert_eq!(fault.driver, None);
        assert_eq!(fault.access.as_deref(), Some(word));
        assert_eq!(fault.source, FaultSource::KernelLog);
        assert!(
            fault.reason.is_some_and(|reason| reason.contains("PTE")),
            "the driver's reason"
        );
    }
    let told = watch.end();
    assert_eq!(faults(&told).len(), 3);
    let counts = counted(&told);
    assert_eq!((counts.count, counts.suppressed), (3, 0));
    assert_eq!(counts.source, FaultSource::KernelLog);
    told.assert_whole();
}

/// The driver writes ten lines within five seconds at most, by its own count of them, which are three for each fault (`dmar_fault`
/// in `drivers/iommu/intel/dmar.c`).
const DRIVERS_INTERVAL: Duration = Duration::from_secs(6);

/// Few are reported, all are counted.
pub(super) fn max_faults_keeps_reports_back_and_counts_all() {
    const FAULTS: u64 = 3;
    let mut edu = Edu::open();
    let mut watch = Watch::start(&["--max-faults=2"]);
    thread::sleep(DRIVERS_INTERVAL);
    for _ in 0..FAULTS {
        edu.access(Access::Write, UNMAPPED);
    }
    watch.until("all faults", |told| {
        let faults = &told.last().faults;
        faults.iter().map(|of| of.count).sum::<u64>() >= FAULTS
    });
    let told = watch.end();
    let counts = counted(&told);
    assert_eq!((counts.count, counts.suppressed), (FAULTS, 1));
    assert_eq!(faults(&told).len(), 2);
}

/// The driver itself holds back what comes too often, and says so when it is over.
pub(super) fn what_the_driver_keeps_out_of_the_log_is_told() {
    const FAULTS: u64 = 20;
    let mut edu = Edu::open();
    let mut watch = Watch::start(&["--max-faults=100"]);
    thread::sleep(DRIVERS_INTERVAL);
    for _ in 0..FAULTS {
        edu.access(Access::Read, UNMAPPED);
    }
    thread::sleep(DRIVERS_INTERVAL);
    edu.access(Access::Read, UNMAPPED);
    watch.until("what was kept out", |told| told.last().log_suppressed > 0);
    let told = watch.end();
    let counts = counted(&told);
    println!(
        "    {} faults: {} counted, {} reported, {} said to be kept out",
        FAULTS + 1,
        counts.count,
        faults(&told).len(),
        told.last().log_suppressed,
    );
    assert!(counts.count < FAULTS);
    assert_eq!(faults(&told).len() as u64, counts.count);
    assert!(told.last().log_suppressed >= FAULTS + 1 - counts.count);
}

/// What is mapped makes none, and is one again once it is unmapped.
pub(super) fn what_is_mapped_makes_no_fault() {
    const MAPPED: u64 = 0x0bad_0000;
    let mut edu = Edu::open();
    let mapper = Mapper::attach();
    let mut watch = Watch::start(&[]);
    mapper.run(&format!("at {MAPPED} 4096"));
    edu.access(Access::Read, MAPPED);
    edu.access(Access::Read, UNMAPPED);
    watch.event(
        "the fault besides",
        |what| matches!(what, What::Fault(fault) if fault.iova == Some(UNMAPPED)),
    );
    mapper.run("unmap");
    edu.access(Access::Read, MAPPED);
    watch.event(
        "a fault of what was unmapped",
        |what| matches!(what, What::Fault(fault) if fault.iova == Some(MAPPED)),
    );
    let told = watch.end();
    assert_eq!(faults(&told).len(), 2, "{:#?}", told.events);
}

/// Faults of others are not told.
pub(super) fn faults_of_other_devices_are_left_out() {
    let mut edu = Edu::open();
    let disk = pci::VIRTIO_DISK;
    let mut watch = Watch::start(&[&format!("--device={disk}")]);
    edu.access(Access::Read, UNMAPPED);
    let told = watch.settled();
    assert!(faults(told).is_empty());
    assert!(told.last().faults.is_empty(), "{:#?}", told.last().faults);
}
