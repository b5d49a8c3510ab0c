//! What tests make up: two domains, and one event of each kind.

use jiff::Timestamp;

use crate::model::iommu::{
    CallTimes, CpuMoves, DomainCounts, Fault, FaultCounts, FaultSource, Following,
    IOMMU_SCHEMA_VERSION, IommuEvent, IommuSnapshot, LateRuns, Lately, LeftOver, Moved, SizeCount,
    What,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// When everything happened.
pub(crate) fn time() -> Timestamp {
    "2026-11-23T01:25:54.093Z".parse().expect("a time")
}

fn moved(sizes: &[(u64, u64)]) -> Moved {
    Moved {
        count: sizes.iter().map(|(_, count)| count).sum(),
        bytes: sizes.iter().map(|(bytes, count)| bytes * count).sum(),
        sizes: sizes
            .iter()
            .map(|(bytes, count)| SizeCount {
                le_bytes: Some(*bytes),
                count: *count,
            })
            .collect(),
    }
}

/// A guest's: nine of its mappings of 2 MiB were unmapped page by page.
pub(crate) fn guest() -> DomainCounts {
    DomainCounts {
        domain: 1,
        kind: Some("unmanaged".to_owned()),
        groups: vec![4],
        devices: vec!["0000:00:03.0".to_owned(), "0000:00:04.0".to_owned()],
        gone: false,
        maps: moved(&[(64 * KIB, 1), (2 * MIB, 472)]),
        unmaps: moved(&[(4 * KIB, 4_608), (2 * MIB, 400)]),
        asked_bytes: 409 * 2 * MIB,
        freed_bytes: 409 * 2 * MIB,
        whole: 400,
        pieces: 4_608,
        untracked: 0,
        not_ram: 1,
        not_ram_bytes: 64 * KIB,
        lately: Lately {
            maps: 118,
            map_bytes: 236 * MIB,
            unmaps: 1_252,
            unmap_bytes: 204 * MIB,
        },
    }
}

/// That of a disk and a network card, in which all is unmapped that was mapped.
pub(crate) fn disk() -> DomainCounts {
    let sizes = [(4 * KIB, 10_000), (64 * KIB, 200)];
    DomainCounts {
        domain: 2,
        kind: Some("DMA-FQ".to_owned()),
        groups: vec![1, 2],
        devices: vec!["0000:00:01.0".to_owned(), "0000:00:02.0".to_owned()],
        maps: moved(&sizes),
        unmaps: moved(&sizes),
        asked_bytes: moved(&sizes).bytes,
        freed_bytes: moved(&sizes).bytes,
        whole: 10_160,
        untracked: 40,
        lately: Lately {
            maps: 2_500,
            map_bytes: 12 * MIB,
            unmaps: 2_505,
            unmap_bytes: 12 * MIB,
        },
        ..DomainCounts::default()
    }
}

/// The last snapshot of 20 s.
pub(crate) fn snapshot() -> IommuSnapshot {
    let durations: Vec<u64> = (1..=950).map(|number| number * 100).collect();
    IommuSnapshot {
        schema_version: IOMMU_SCHEMA_VERSION,
        time: time(),
        interval: 4,
        elapsed_ns: 20_000_000_000,
        interval_ns: 5_000_000_000,
        last: true,
        ratio_limit: 2.0,
        ratio_alarms: 2,
        growth_alarms: 1,
        changes: 4,
        domains: vec![guest(), disk()],
        cpus: vec![
            CpuMoves {
                cpu: 0,
                maps: 5_673,
                unmaps: 7_608,
            },
            CpuMoves {
                cpu: 1,
                maps: 5_000,
                unmaps: 7_600,
            },
        ],
        times: vec![CallTimes {
            function: "__iommu_unmap".to_owned(),
            of: "unmapping, without the flush".to_owned(),
            count: 950,
            sum_ns: durations.iter().sum(),
            max_ns: 95_000,
            histogram: durations.into_iter().collect(),
        }],
        timed_one_in: 16,
        faults: vec![
            FaultCounts {
                device: "0000:00:02.0".to_owned(),
                source: FaultSource::KernelLog,
                count: 3,
                suppressed: 0,
            },
            FaultCounts {
                device: "0000:00:03.0".to_owned(),
                source: FaultSource::Tracepoint,
                count: 12,
                suppressed: 2,
            },
        ],
        log_lost: 0,
        log_suppressed: 7,
        following: Following {
            room: 65_536,
            refused: 5,
        },
        late: LateRuns {
            limit_ns: Some(10_000_000),
            count: 2,
            max_ns: 12_400_000,
        },
        missed: 0,
        records_sent: 40,
        records_lost: 1,
    }
}

/// A snapshot of a watch that found nothing.
pub(crate) fn nothing() -> IommuSnapshot {
    IommuSnapshot {
        ratio_alarms: 0,
        growth_alarms: 0,
        changes: 0,
        domains: Vec::new(),
        cpus: Vec::new(),
        times: Vec::new(),
        timed_one_in: 0,
        faults: Vec::new(),
        log_suppressed: 0,
        following: Following::default(),
        late: LateRuns::default(),
        records_sent: 0,
        records_lost: 0,
        ..snapshot()
    }
}

fn at(what: What) -> IommuEvent {
    IommuEvent { time: time(), what }
}

fn device() -> String {
    "0000:00:03.0".to_owned()
}

/// More unmaps than maps, by far.
pub(crate) fn ratio() -> IommuEvent {
    at(What::Ratio {
        domain: 1,
        groups: guest().groups,
        devices: guest().devices,
        maps: 118,
        unmaps: 1_252,
        pieces: 1_152,
        single_pages: 1_152,
        limit: 2.0,
        interval_ns: 5_000_000_000,
    })
}

/// Mapped memory that grows.
pub(crate) fn growth() -> IommuEvent {
    at(What::Growth {
        domain: 1,
        groups: guest().groups,
        devices: guest().devices,
        net_bytes: (126 * MIB).cast_signed(),
        for_ns: 600_000_000_000,
        grown_bytes: 118 * MIB,
        left: vec![
            LeftOver {
                age_ns: 60_000_000_000,
                mappings: 12,
                bytes: 24 * MIB,
            },
            LeftOver {
                age_ns: 600_000_000_000,
                mappings: 47,
                bytes: 94 * MIB,
            },
        ],
    })
}

/// A write to what is not mapped.
pub(crate) fn fault() -> IommuEvent {
    at(What::Fault(Fault {
        device: device(),
        driver: Some("vfio-pci".to_owned()),
        group: Some(4),
        iova: Some(0xfee0_0000),
        access: Some("write".to_owned()),
        reason: Some("PTE Write access is not set".to_owned()),
        source: FaultSource::KernelLog,
    }))
}

/// A device's registers, mapped for a guest.
pub(crate) fn not_ram() -> IommuEvent {
    at(What::NotRam {
        domain: 1,
        groups: guest().groups,
        devices: guest().devices,
        iova: 0xfe00_0000,
        paddr: 0xfd00_0000,
        bytes: 64 * KIB,
        of: Some("PCI Bus 0000:00".to_owned()),
    })
}

/// A thread that goes on mapping.
pub(crate) fn late() -> IommuEvent {
    at(What::Late {
        cpu: 1,
        process: 3_693,
        thread: 3_696,
        comm: "qemu-system-x86".to_owned(),
        length_ns: 12_400_000,
        stack: vec!["__iommu_map+0x9e".to_owned(), "iommu_map+0x4d".to_owned()],
        no_stack: None,
    })
}

/// One event of each kind.
pub(crate) fn events() -> Vec<IommuEvent> {
    vec![
        at(What::Removed {
            device: device(),
            group: 3,
        }),
        at(What::Added {
            device: device(),
            group: 4,
        }),
        at(What::Unbound {
            device: device(),
            group: Some(4),
            driver: Some("virtio-pci".to_owned()),
        }),
        at(What::Detached {
            device: device(),
            group: Some(4),
        }),
        at(What::Attached {
            device: device(),
            group: Some(4),
            kind: Some("unmanaged".to_owned()),
            driver: Some("vfio-pci".to_owned()),
        }),
        at(What::Bound {
            device: device(),
            group: Some(4),
            driver: "vfio-pci".to_owned(),
        }),
        fault(),
        not_ram(),
        late(),
        ratio(),
        growth(),
    ]
}
