//! Values of the maps that the programs of `smilat iommu` share with user space.

use crate::{RqPath, buckets::BUCKETS};

/// Buckets of sizes: bucket *i* holds sizes in (2^(11+i), 2^(12+i)] bytes, the first all smaller ones too, the last all
/// larger ones.
pub const SIZES: usize = 30;
/// The first bucket's upper bound as a power of two: one page.
const FIRST_SIZE: u32 = 12;
/// Ranges of memory that are told apart from the rest: more than any machine seen has.
pub const RANGES: usize = 64;
/// Words of 64 CPUs each that a set of CPUs has room for.
pub const CPU_WORDS: usize = 64;
/// Frames of a stack that are kept.
pub const STACK: usize = 32;
/// Events of one kind that may be under way on a CPU, one within the other: a thread's, a softirq's, an interrupt's, and an NMI's;
/// and room for those whose second program was not run.
pub const UNDER_WAY: usize = 8;
/// Bytes of a device's name that are kept; PCI's need 12.
pub const DEVICE_NAME: usize = 48;
/// Bytes of a driver's name that are kept.
pub const DRIVER_NAME: usize = 32;

/// Position in a [`SIZES`]-long array of the bucket that holds `bytes`.
#[must_use]
#[inline(always)]
pub const fn size_position(bytes: u64) -> usize {
    if bytes <= 1 << FIRST_SIZE {
        return 0;
    }
    let position = (u64::BITS - (bytes - 1).leading_zeros() - FIRST_SIZE) as usize;
    if position < SIZES {
        position
    } else {
        SIZES - 1
    }
}

/// Upper bound in bytes, inclusive, of the bucket at `position`; `None` for the last, which has none.
#[must_use]
pub const fn size_bound(position: usize) -> Option<u64> {
    if position + 1 < SIZES {
        Some(1 << (FIRST_SIZE as usize + position))
    } else {
        None
    }
}

/// Settings and facts of this kernel. Map `IOMMU`, one entry, written before the programs are attached. Offsets are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IommuKnobs {
    /// Only maps and unmaps of these sizes in bytes are counted.
    pub least_bytes: u64,
    /// See there; inclusive.
    pub most_bytes: u64,
    /// 1 when only the CPUs in `cpus` count.
    pub some_cpus: u64,
    /// By CPU number, a bit each.
    pub cpus: [u64; CPU_WORDS],
    /// 1 when mappings are followed until they are unmapped.
    pub track: u64,
    /// Every how many-eth unmap of a CPU is timed; 0: none is.
    pub time_one_in: u64,
    /// For how long need-resched may be pending; 0: that is not looked at.
    pub resched_limit_ns: u64,
    /// How many of `ram` are in use; with 0, where memory lies is not looked at.
    pub rams: u64,
    /// First address of each range of main memory, and the one after its last; in ascending order.
    pub ram: [[u64; 2]; RANGES],
    /// How to come to a CPU's `rq`, and from there to its `preempt_count`.
    pub rq: RqPath,
    /// See there.
    pub rq_preempt_count: u64,
    /// From a `task_struct` to how often it gave up its CPU, and how often that was taken away.
    pub task_nvcsw: u64,
    /// See there.
    pub task_nivcsw: u64,
    /// From a `device` to the pointer to its name, to its driver and to its group.
    pub device_name: u64,
    /// See there.
    pub device_driver: u64,
    /// See there.
    pub device_group: u64,
    /// From a `device_driver` to the pointer to its name.
    pub driver_name: u64,
    /// From an `iommu_group` to its number, its domain and its default domain.
    pub group_id: u64,
    /// See there.
    pub group_domain: u64,
    /// See there.
    pub group_default_domain: u64,
    /// From an `iommu_domain` to its type.
    pub domain_type: u64,
    /// From a `task_struct` to `files`, from there to `fdt`, from there to `fd`; from a `file` to its `f_inode`, from an `inode`
    /// to its `i_private`, and from a `kernfs_node` to its `priv`: how a folder of sysfs leads to what it shows.
    pub task_files: u64,
    /// See there.
    pub files_fdt: u64,
    /// See there.
    pub fdt_fd: u64,
    /// See there.
    pub file_inode: u64,
    /// See there.
    pub inode_private: u64,
    /// See there.
    pub node_priv: u64,
    /// From an `iommu_group` to the `kobject` in it.
    pub group_kobj: u64,
}

impl Default for IommuKnobs {
    fn default() -> Self {
        // SAFETY: integers only.
        unsafe { core::mem::zeroed() }
    }
}

/// Maps in one domain by one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Changes completed.
    pub completed: u64,
    /// How many.
    pub count: u64,
    /// Bytes mapped.
    pub bytes: u64,
    /// By size: see [`size_position`].
    pub sizes: [u64; SIZES],
    /// Those of what is no main memory: registers and memory of devices, or what firmware keeps.
    pub not_ram: u64,
    /// Bytes of these.
    pub not_ram_bytes: u64,
    /// Changes started.
    pub started: u64,
}

/// Unmaps in one domain by one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unmapped {
    /// Changes completed.
    pub completed: u64,
    /// How many.
    pub count: u64,
    /// Bytes that the kernel said were unmapped.
    pub bytes: u64,
    /// By the size that was asked for: see [`size_position`].
    pub sizes: [u64; SIZES],
    /// Bytes that were asked for.
    pub asked_bytes: u64,
    /// Bytes unmapped of what was asked for. A superpage is always unmapped as a whole, and each unmap of a piece of it says so:
    /// then `bytes` counts it many times.
    pub freed_bytes: u64,
    /// Unmaps of one mapping or several as they had been mapped.
    pub whole: u64,
    /// Unmaps of a piece of what had been mapped as one.
    pub pieces: u64,
    /// Unmaps that began where nothing is known to be mapped: mapped before the watch began, or not followed.
    pub untracked: u64,
    /// Changes started.
    pub started: u64,
}

/// What one CPU did in one domain. Maps `IOMMU_DOMAINS` and `IOMMU_NESTED`, by the address of the domain, 0 where that is not
/// known. The latter has what interrupts did while the program ran that counts into the former.
///
/// Two parts with marks of their own: the kernel does not run a program within itself, but it may run that of maps, in an
/// interrupt, within that of unmaps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainStats {
    /// Maps.
    pub maps: Mapped,
    /// Unmaps.
    pub unmaps: Unmapped,
}

impl DomainStats {
    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        let (mine, theirs) = (&mut self.maps, &other.maps);
        mine.count += theirs.count;
        mine.bytes += theirs.bytes;
        mine.not_ram += theirs.not_ram;
        mine.not_ram_bytes += theirs.not_ram_bytes;
        for (mine, theirs) in mine.sizes.iter_mut().zip(&theirs.sizes) {
            *mine += theirs;
        }
        let (mine, theirs) = (&mut self.unmaps, &other.unmaps);
        mine.count += theirs.count;
        mine.bytes += theirs.bytes;
        mine.asked_bytes += theirs.asked_bytes;
        mine.freed_bytes += theirs.freed_bytes;
        mine.whole += theirs.whole;
        mine.pieces += theirs.pieces;
        mine.untracked += theirs.untracked;
        for (mine, theirs) in mine.sizes.iter_mut().zip(&theirs.sizes) {
            *mine += theirs;
        }
    }

    /// Whether this copy was taken while no change was under way.
    #[must_use]
    pub const fn is_consistent(&self) -> bool {
        self.maps.completed == self.maps.started && self.unmaps.completed == self.unmaps.started
    }
}

/// A mapping that is followed. Map `IOMMU_LIVE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LiveKey {
    /// Address of the domain.
    pub domain: u64,
    /// Where what is left of it begins.
    pub iova: u64,
}

/// What is left of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Bytes left.
    pub bytes: u64,
    /// Bytes that were mapped.
    pub mapped_bytes: u64,
    /// When.
    pub at_ns: u64,
}

/// Which calls are timed. Index of map `IOMMU_TIMES`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Unmaps by drivers, through the DMA API.
    Dma = 0,
    /// Unmaps by all others, such as VFIO.
    Other = 1,
}

/// How many [`Timed`] there are.
pub const TIMED: u32 = 2;

/// How long such calls of a CPU took.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Changes completed.
    pub completed: u64,
    /// How many were timed.
    pub count: u64,
    /// Sum in ns.
    pub sum_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// By length: see [`crate::buckets`].
    pub histogram: [u64; BUCKETS],
    /// Changes started.
    pub started: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            completed: 0,
            count: 0,
            sum_ns: 0,
            max_ns: 0,
            histogram: [0; BUCKETS],
            started: 0,
        }
    }
}

impl Times {
    /// Whether this copy was taken while no change was under way.
    #[must_use]
    pub const fn is_consistent(&self) -> bool {
        self.completed == self.started
    }
}

/// What else is counted for each CPU. Map `IOMMU_CPU`, a per-CPU array of one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IommuCpu {
    /// Long runs with need-resched pending.
    pub late: u64,
    /// The longest, in ns.
    pub late_max_ns: u64,
    /// Mappings that are not followed because the table was full.
    pub untracked_maps: u64,
    /// Records sent to user space.
    pub records_sent: u64,
    /// Records lost because the ring buffer was full.
    pub records_lost: u64,
    /// Events that are counted nowhere because the table of domains was full.
    pub uncounted: u64,
    /// Maps and unmaps that interrupts made while the program ran that counts them, and that were counted all the same.
    pub nested: u64,
    /// The program's own: the CPU's `rq`, 0 while it is not known; the range of main memory that was met last; unmaps since one
    /// was timed; the run with need-resched pending that is under way.
    pub rq: u64,
    /// See there.
    pub ram: [u64; 2],
    /// See there.
    pub untimed: u64,
    /// See there: when it began, 0 while there is none; whose it is, how often that was switched away from until then, and 1
    /// once it was reported.
    pub pending_since_ns: u64,
    /// See there.
    pub pending_task: u64,
    /// See there.
    pub pending_switches: u64,
    /// See there.
    pub pending_told: u64,
    /// Of maps and of unmaps, the events that were counted and that the second program has not met yet.
    pub counted: [[u64; UNDER_WAY]; 2],
}

/// Faults of a device that one CPU was told of. Map `IOMMU_FAULTS`, by the address of the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultStats {
    /// How many.
    pub count: u64,
    /// Name of the device, up to a zero byte; on the CPU that was told first.
    pub device: [u8; DEVICE_NAME],
}

impl Default for FaultStats {
    fn default() -> Self {
        Self {
            count: 0,
            device: [0; DEVICE_NAME],
        }
    }
}

/// What a record tells.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A device came into a group.
    Added = 0,
    /// A device left its group.
    Removed = 1,
    /// A device was attached to a domain.
    Attached = 2,
    /// A device was detached from its domain.
    Detached = 3,
    /// A device accessed what is not mapped for it.
    Fault = 4,
    /// Something was mapped that is no main memory.
    NotRam = 5,
    /// A thread went on mapping or unmapping with need-resched pending.
    Late = 6,
    /// A domain is about to go.
    DomainGone = 7,
}

/// A record. Map `IOMMU_RECORDS`, a ring buffer. What a [`Notice`] does not tell is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IommuRecord {
    /// When.
    pub at_ns: u64,
    /// A [`Notice`].
    pub notice: u64,
    /// On which CPU.
    pub cpu: u64,
    /// The process there, and the thread.
    pub process: u64,
    /// See there.
    pub thread: u64,
    /// Name of the thread, up to a zero byte.
    pub comm: [u8; 16],
    /// Number of the group; -1 where it is not known.
    pub group: i64,
    /// Address of the domain.
    pub domain: u64,
    /// Its type: `__IOMMU_DOMAIN_*` of `include/linux/iommu.h`.
    pub domain_type: u64,
    /// Name of the device, up to a zero byte.
    pub device: [u8; DEVICE_NAME],
    /// Name of its driver, likewise.
    pub driver: [u8; DRIVER_NAME],
    /// Address that the device uses.
    pub iova: u64,
    /// Physical address.
    pub paddr: u64,
    /// Bytes.
    pub bytes: u64,
    /// `IOMMU_FAULT_*` of `include/linux/iommu.h`.
    pub flags: u64,
    /// For how long need-resched was pending, at least.
    pub length_ns: u64,
    /// Number of bytes of `stack` that are filled; negative: the kernel's reason why it is not.
    pub stack_bytes: i64,
    /// The kernel's return addresses, innermost first.
    pub stack: [u64; STACK],
}

/// A group as the kernel has it. Map `IOMMU_GROUP`, one entry, which the program `read_group` fills.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupAnswer {
    /// Address of its domain; 0 where it has none.
    pub domain: u64,
    /// Type of that: `__IOMMU_DOMAIN_*`.
    pub domain_type: u64,
    /// Address of the domain that the kernel's drivers use it with.
    pub default_domain: u64,
    /// Its number as the kernel has it.
    pub id: u64,
    /// 1 when all that could be read.
    pub found: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        for (bytes, bound) in [
            (0, Some(4096)),
            (1, Some(4096)),
            (4096, Some(4096)),
            (4097, Some(8192)),
            (8192, Some(8192)),
            (2 << 20, Some(2 << 20)),
            (1 << 40, Some(1 << 40)),
            ((1 << 40) + 1, None),
            (u64::MAX, None),
        ] {
            assert_eq!(size_bound(size_position(bytes)), bound, "{bytes}");
        }
    }
}
