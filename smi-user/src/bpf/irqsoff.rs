//! The object of `smilat irqsoff`.

use std::{
    ops::{Deref, DerefMut},
    ptr,
};

use aya::maps::{
    Array, MapData, PerCpuArray, RingBuf,
    perf::{PerfEventArray, PerfEventArrayBuffer},
};
use smi_common::irqsoff::{IrqsoffRecord, IrqsoffStats, SelfTest, Watch};

use super::{
    Shared,
    object::{BpfError, Object, consistent},
};

/// The shipped object, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smilat-irqsoff-bpf"));

/// By which the programs wake up a thread on a CPU.
pub type ProbeEvent = PerfEventArrayBuffer<MapData>;

/// The object, loaded.
pub struct Bpf {
    object: Object,
    watch: Array<MapData, Shared<Watch>>,
    stats: PerCpuArray<MapData, Shared<IrqsoffStats>>,
    records: RingBuf<MapData>,
    asked: Array<MapData, u64>,
    probes: PerfEventArray<MapData>,
    self_test: Array<MapData, Shared<SelfTest>>,
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
    /// Loads it, with room for CPUs up to `highest_cpu`.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege, no BPF, or too old.
    pub fn load(highest_cpu: u32) -> Result<Self, BpfError> {
        let mut object = Object::load(OBJECT, &[("SMI_EVENTS", highest_cpu + 1)])?;
        Ok(Self {
            watch: object.take("IRQSOFF")?,
            stats: object.take("IRQSOFF_STATS")?,
            records: object.take("IRQSOFF_RECORDS")?,
            asked: object.take("IRQSOFF_ASKED")?,
            probes: object.take("IRQSOFF_PROBES")?,
            self_test: object.take("IRQSOFF_SELF_TEST")?,
            object,
        })
    }

    /// Tells the programs what to look for; they follow from the next tick on.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_watch(&mut self, watch: Watch) -> Result<(), BpfError> {
        self.watch
            .set(0, Shared(watch), 0)
            .map_err(BpfError::map("IRQSOFF"))
    }

    /// A copy of the statistics of every possible CPU, by CPU number. Each CPU's copy is consistent in itself.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stats(&self) -> Result<Vec<IrqsoffStats>, BpfError> {
        let copy = || {
            let values = self
                .stats
                .get(&0, 0)
                .map_err(BpfError::map("IRQSOFF_STATS"))?;
            Ok(values.iter().map(|Shared(stats)| *stats).collect())
        };
        consistent(copy, IrqsoffStats::is_consistent)
    }

    /// Has each CPU tell at its next tick what it does, in records of the kind [`smi_common::irqsoff::PICTURE`].
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn ask(&mut self) -> Result<(), BpfError> {
        let failed = BpfError::map("IRQSOFF_ASKED");
        let asked = self.asked.get(&0, 0).map_err(&failed)?;
        self.asked.set(0, asked + 1, 0).map_err(failed)
    }

    /// What wakes up a thread on `cpu` where a section begins there.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn probe(&mut self, cpu: u32) -> Result<ProbeEvent, BpfError> {
        self.probes
            .open(cpu, Some(1))
            .map_err(|error| BpfError::refused(format!("wake up a thread on CPU {cpu}"), &error))
    }

    /// Asks the program `self_test` for a stretch of `asked_ns`.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn ask_self_test(&mut self, asked_ns: u64) -> Result<(), BpfError> {
        let test = SelfTest {
            asked_ns,
            done_ns: 0,
        };
        self.self_test
            .set(0, Shared(test), 0)
            .map_err(BpfError::map("IRQSOFF_SELF_TEST"))
    }

    /// How long the stretch was, in ns; `None` before its end.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn self_test_done(&self) -> Result<Option<u64>, BpfError> {
        let Shared(test) = self
            .self_test
            .get(&0, 0)
            .map_err(BpfError::map("IRQSOFF_SELF_TEST"))?;
        Ok((test.done_ns > 0).then_some(test.done_ns))
    }

    /// Takes the records that wait in the ring buffer, oldest first, and passes on the programs' diagnostics.
    pub fn take_records(&mut self, mut each: impl FnMut(&IrqsoffRecord)) {
        self.object.flush();
        while let Some(item) = self.records.next() {
            if item.len() == size_of::<IrqsoffRecord>() {
                // SAFETY: the program writes exactly this struct, integers only; the size was checked.
                let record = unsafe { ptr::read_unaligned(item.as_ptr().cast()) };
                each(&record);
            }
        }
    }
}
