//! Loads the BPF object, reads and writes its maps. Nothing else touches aya.

mod events;
pub mod iommu;
pub mod irqsoff;
mod object;
mod slots;

use std::{
    ops::{Deref, DerefMut},
    os::fd::AsFd as _,
    ptr,
};

use aya::{
    Pod,
    maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use smi_common::{
    CpuStats, GapRecord, Knobs, Sources, TracerLayout,
    iommu::{DomainStats, FaultStats, GroupAnswer, IommuCpu, IommuKnobs, Live, LiveKey, Times},
    irqsoff::{IrqsoffStats, SelfTest, Watch},
};

pub use object::{BpfError, Object};
pub use slots::{Slot, SpinSlots};

use object::consistent;

/// The shipped object, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smilat-bpf"));

/// `Pod` for types of another crate.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Shared<T>(T);
// SAFETY: `repr(C)`, integers only.
unsafe impl Pod for Shared<Knobs> {}
// SAFETY: as above.
unsafe impl Pod for Shared<CpuStats> {}
// SAFETY: as above.
unsafe impl Pod for Shared<TracerLayout> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Sources> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Watch> {}
// SAFETY: as above.
unsafe impl Pod for Shared<IrqsoffStats> {}
// SAFETY: as above.
unsafe impl Pod for Shared<SelfTest> {}
// SAFETY: as above.
unsafe impl Pod for Shared<IommuKnobs> {}
// SAFETY: as above.
unsafe impl Pod for Shared<DomainStats> {}
// SAFETY: as above.
unsafe impl Pod for Shared<IommuCpu> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Times> {}
// SAFETY: as above.
unsafe impl Pod for Shared<LiveKey> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Live> {}
// SAFETY: as above.
unsafe impl Pod for Shared<FaultStats> {}
// SAFETY: as above.
unsafe impl Pod for Shared<GroupAnswer> {}

/// The object of the detectors, loaded.
pub struct Bpf {
    cpus: usize,
    object: Object,
    knobs: Array<MapData, Shared<Knobs>>,
    stats: PerCpuArray<MapData, Shared<CpuStats>>,
    gaps: RingBuf<MapData>,
    tracer: Array<MapData, Shared<TracerLayout>>,
}

impl Deref for Bpf {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.object
    }
}

impl DerefMut for Bpf {
    fn deref_mut(&mut self) -> &mut Object {
        &mut self.object
    }
}

impl Bpf {
    /// Loads the shipped object, with room for CPUs up to `highest_cpu`.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege, no BPF, or too old.
    pub fn load(highest_cpu: u32) -> Result<Self, BpfError> {
        Self::load_object(OBJECT, highest_cpu)
    }

    /// Loads another object with the same maps; for tests.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_object(object: &[u8], highest_cpu: u32) -> Result<Self, BpfError> {
        let cpus = highest_cpu + 1;
        let mut object = Object::load(object, &[("SPIN_SLOTS", cpus), ("SMI_EVENTS", cpus)])?;
        Ok(Self {
            cpus: cpus as usize,
            knobs: object.take("KNOBS")?,
            stats: object.take("CPU_STATS")?,
            gaps: object.take("GAPS")?,
            tracer: object.take("TRACER")?,
            object,
        })
    }

    /// Tells the programs that follow a kernel tracer about this kernel.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_tracer(&mut self, layout: TracerLayout) -> Result<(), BpfError> {
        self.tracer
            .set(0, Shared(layout), 0)
            .map_err(BpfError::map("TRACER"))
    }

    /// Maps the slots of the spin program into memory.
    ///
    /// # Errors
    /// When the kernel refuses the mapping.
    pub fn spin_slots(&self) -> Result<SpinSlots, BpfError> {
        const NAME: &str = "SPIN_SLOTS";
        let Some(Map::Array(map)) = self.object.ebpf().map(NAME) else {
            return Err(BpfError::Missing(NAME));
        };
        SpinSlots::new(map.fd().as_fd(), self.cpus)
            .map_err(|error| BpfError::refused("map SPIN_SLOTS into memory", &error))
    }

    /// The knobs as the kernel has them.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn knobs(&self) -> Result<Knobs, BpfError> {
        self.knobs
            .get(&0, 0)
            .map(|Shared(knobs)| knobs)
            .map_err(BpfError::map("KNOBS"))
    }

    /// Sets the knobs; the programs follow from the next stretch or gap on.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_knobs(&mut self, knobs: Knobs) -> Result<(), BpfError> {
        self.knobs
            .set(0, Shared(knobs), 0)
            .map_err(BpfError::map("KNOBS"))
    }

    /// A copy of the statistics of every possible CPU, by CPU number. Each CPU's copy is consistent in itself.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stats(&self) -> Result<Vec<CpuStats>, BpfError> {
        consistent(|| self.copy_stats(), CpuStats::is_consistent)
    }

    fn copy_stats(&self) -> Result<Vec<CpuStats>, BpfError> {
        let values = self.stats.get(&0, 0).map_err(BpfError::map("CPU_STATS"))?;
        Ok(values.iter().map(|Shared(stats)| *stats).collect())
    }

    /// Sets the statistics of every CPU to zero. Only while no program runs.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn reset_stats(&mut self) -> Result<(), BpfError> {
        let failed = BpfError::map("CPU_STATS");
        let cpus = self.stats.get(&0, 0).map_err(&failed)?.len();
        let zero = aya::maps::PerCpuValues::try_from(vec![Shared(CpuStats::default()); cpus])
            .map_err(|error| failed(MapError::IoError(error)))?;
        self.stats.set(0, zero, 0).map_err(failed)
    }

    /// Takes the single gaps that wait in the ring buffer, oldest first, and passes on the programs' diagnostics.
    pub fn take_gaps(&mut self, mut each: impl FnMut(GapRecord)) {
        self.object.flush();
        while let Some(item) = self.gaps.next() {
            if item.len() == size_of::<GapRecord>() {
                // SAFETY: the program writes exactly this struct, integers only; the size was checked.
                each(unsafe { ptr::read_unaligned(item.as_ptr().cast()) });
            }
        }
    }
}
