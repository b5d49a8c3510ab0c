//! What `smilat iommu` finds while it watches.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Histogram;

/// Version of the NDJSON; raised when a field changes its meaning or goes.
pub const IOMMU_SCHEMA_VERSION: u32 = 1;

/// Number of maps or unmaps of one range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeCount {
    /// Sizes up to this many bytes, and above half of it; 4096 is for all smaller ones, `None` for all above 1 TiB.
    pub le_bytes: Option<u64>,
    /// How many.
    pub count: u64,
}

/// Maps or unmaps since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// How many.
    pub count: u64,
    /// Bytes mapped, or bytes that the kernel said were unmapped.
    pub bytes: u64,
    /// By the size that was asked for, ascending; empty ranges are left out.
    pub sizes: Vec<SizeCount>,
}

/// What came in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lately {
    /// Maps.
    pub maps: u64,
    /// Bytes of these.
    pub map_bytes: u64,
    /// Unmaps.
    pub unmaps: u64,
    /// Bytes that the kernel said were unmapped.
    pub unmap_bytes: u64,
}

/// Everything counted for one domain since start: an address space that the IOMMU translates for one group or several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainCounts {
    /// Its number, from 1, in the order in which domains were seen; 0 for what could not be put down to one.
    pub domain: u32,
    /// Its type as sysfs has it: `DMA`, `DMA-FQ`, `unmanaged` (of VFIO, say), `identity`, `blocked`; `None` where it is not known.
    pub kind: Option<String>,
    /// The groups that use it, ascending.
    pub groups: Vec<u32>,
    /// Their devices, as sysfs names them.
    pub devices: Vec<String>,
    /// Whether it is no more.
    pub gone: bool,
    /// Maps.
    pub maps: Moved,
    /// Unmaps.
    pub unmaps: Moved,
    /// Bytes that unmaps asked for.
    pub asked_bytes: u64,
    /// Of those, bytes that were unmapped: each counts once, where a superpage taken apart makes the kernel say more.
    pub freed_bytes: u64,
    /// Unmaps of mappings as they had been mapped.
    pub whole: u64,
    /// Unmaps of a piece of what had been mapped as one.
    pub pieces: u64,
    /// Unmaps of what was mapped before the watch began, or was not followed.
    pub untracked: u64,
    /// Maps of what is no main memory.
    pub not_ram: u64,
    /// Bytes of these.
    pub not_ram_bytes: u64,
    /// What came since the snapshot before.
    pub lately: Lately,
}

impl DomainCounts {
    /// Unmaps for each map; `None` before the first map.
    pub fn ratio(&self) -> Option<f64> {
        (self.maps.count > 0).then(|| self.unmaps.count as f64 / self.maps.count as f64)
    }

    /// Bytes mapped since start that are mapped still; negative where more was unmapped that was mapped before.
    pub fn net_bytes(&self) -> i64 {
        self.maps.bytes.cast_signed() - self.freed_bytes.cast_signed()
    }
}

/// Maps and unmaps by CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuMoves {
    /// Its number.
    pub cpu: u32,
    /// Maps on it.
    pub maps: u64,
    /// Unmaps on it.
    pub unmaps: u64,
}

/// How long calls of one function took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallTimes {
    /// The kernel's function.
    pub function: String,
    /// What it does, in words.
    pub of: String,
    /// How many were timed.
    pub count: u64,
    /// Sum in ns.
    pub sum_ns: u64,
    /// The longest in ns.
    pub max_ns: u64,
    /// By length.
    pub histogram: Histogram,
}

/// Who told of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultSource {
    /// The tracepoint `iommu:io_page_fault`: every fault.
    Tracepoint,
    /// The IOMMU's driver, in the kernel log, which holds back what comes too often.
    KernelLog,
}

/// Faults of one device since start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounts {
    /// The device as sysfs names it.
    pub device: String,
    /// Who told.
    pub source: FaultSource,
    /// How many; those in the kernel log are fewer than there were where it held some back.
    pub count: u64,
    /// Those that `--max-faults` kept out of the reports; they are counted.
    pub suppressed: u64,
}

/// An access to what is not mapped for the device, or not for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The device as sysfs names it.
    pub device: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Its group.
    pub group: Option<u32>,
    /// The address it used.
    pub iova: Option<u64>,
    /// `read` or `write`, where that is known.
    pub access: Option<String>,
    /// The flags of the tracepoint, or the driver's reason in its own words.
    pub reason: Option<String>,
    /// Who told.
    pub source: FaultSource,
}

/// What mappings are left of those made in a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOver {
    /// Made at most this long before, in ns.
    pub age_ns: u64,
    /// How many there are.
    pub mappings: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A device came into a group.
    Added {
        /// The device as sysfs names it.
        device: String,
        /// Number of the group.
        group: u32,
    },
    /// A device left its group.
    Removed {
        /// The device.
        device: String,
        /// Number of the group.
        group: u32,
    },
    /// A device was attached to a domain: its accesses go through another address space from then on.
    Attached {
        /// The device.
        device: String,
        /// Its group.
        group: Option<u32>,
        /// The type of the domain.
        kind: Option<String>,
        /// The driver that has the device.
        driver: Option<String>,
    },
    /// A device was detached from its domain (kernels up to 6.1).
    Detached {
        /// The device.
        device: String,
        /// Its group.
        group: Option<u32>,
    },
    /// A driver took a device of a group.
    Bound {
        /// The device.
        device: String,
        /// Its group.
        group: Option<u32>,
        /// The driver.
        driver: String,
    },
    /// A driver gave a device of a group up.
    Unbound {
        /// The device.
        device: String,
        /// Its group.
        group: Option<u32>,
        /// The driver it had.
        driver: Option<String>,
    },
    /// A fault.
    Fault(Fault),
    /// Something was mapped that is no main memory.
    NotRam {
        /// Number of the domain.
        domain: u32,
        /// The groups that use it.
        groups: Vec<u32>,
        /// Their devices.
        devices: Vec<String>,
        /// Address that the devices use.
        iova: u64,
        /// Physical address.
        paddr: u64,
        /// Bytes.
        bytes: u64,
        /// What lies there, by `/proc/iomem`; `None`: nothing that the kernel knows.
        of: Option<String>,
    },
    /// A thread went on mapping or unmapping although the scheduler wanted its CPU.
    Late {
        /// On which CPU.
        cpu: u32,
        /// The process.
        process: u32,
        /// The thread.
        thread: u32,
        /// Its name.
        comm: String,
        /// For how long so far, at least, in ns.
        length_ns: u64,
        /// The kernel's stack, innermost first.
        stack: Vec<String>,
        /// Why there is none.
        no_stack: Option<String>,
    },
    /// More unmaps for each map than `--ratio-limit`, in one interval.
    Ratio {
        /// Number of the domain.
        domain: u32,
        /// The groups that use it.
        groups: Vec<u32>,
        /// Their devices.
        devices: Vec<String>,
        /// Maps in the interval.
        maps: u64,
        /// Unmaps in it.
        unmaps: u64,
        /// Unmaps of a piece of what had been mapped as one.
        pieces: u64,
        /// What of them asked for a single page.
        single_pages: u64,
        /// The limit.
        limit: f64,
        /// The interval's length in ns.
        interval_ns: u64,
    },
    /// What a domain has mapped grows and grows.
    Growth {
        /// Number of the domain.
        domain: u32,
        /// The groups that use it.
        groups: Vec<u32>,
        /// Their devices.
        devices: Vec<String>,
        /// Bytes mapped since start that are mapped still.
        net_bytes: i64,
        /// For how long that has grown, in ns.
        for_ns: u64,
        /// By how much meanwhile.
        grown_bytes: u64,
        /// Mappings that are followed and left, by age.
        left: Vec<LeftOver>,
    },
}

/// Something that was found, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IommuEvent {
    /// When.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// How far mappings are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// Room for this many (`--track`); 0: none is followed.
    pub room: u64,
    /// Maps that found no room.
    pub refused: u64,
}

/// Long runs with need-resched pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRuns {
    /// From this long on, in ns (`--resched-limit`); `None`: that is not looked at.
    pub limit_ns: Option<u64>,
    /// How many.
    pub count: u64,
    /// The longest in ns.
    pub max_ns: u64,
}

/// All that was counted since start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IommuSnapshot {
    /// See [`IOMMU_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When.
    pub time: Timestamp,
    /// Number of the interval that it ends, from 1.
    pub interval: u64,
    /// Time since start in ns.
    pub elapsed_ns: u64,
    /// Length of that interval in ns.
    pub interval_ns: u64,
    /// Whether it is the last.
    pub last: bool,
    /// The limit of unmaps for each map.
    pub ratio_limit: f64,
    /// How often it was exceeded.
    pub ratio_alarms: u64,
    /// Suspicions of a leak.
    pub growth_alarms: u64,
    /// Changes of groups, domains and drivers seen.
    pub changes: u64,
    /// By domain; those that nothing was counted for are left out.
    pub domains: Vec<DomainCounts>,
    /// By CPU; those without any are left out.
    pub cpus: Vec<CpuMoves>,
    /// How long unmaps took.
    pub times: Vec<CallTimes>,
    /// Every how many-eth was timed; 0: none is.
    pub timed_one_in: u64,
    /// By device and source.
    pub faults: Vec<FaultCounts>,
    /// Lines of the kernel log that were lost because they were overwritten before they were read.
    pub log_lost: u64,
    /// Faults that the IOMMU's driver said it kept out of the kernel log.
    pub log_suppressed: u64,
    /// Mappings followed.
    pub following: Following,
    /// Long runs.
    pub late: LateRuns,
    /// Events at which the kernel did not run the program, by its own count: they are in none of the above.
    pub missed: u64,
    /// Records passed on.
    pub records_sent: u64,
    /// Records that could not be passed on because too many waited; what they tell is counted.
    pub records_lost: u64,
}
