//! The object of `smilat iommu`.

use std::{
    collections::BTreeSet,
    io,
    ops::{Deref, DerefMut},
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
};

use aya::{
    Btf,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf},
};
use smi_common::iommu::{
    DEVICE_NAME, DomainStats, FaultStats, GroupAnswer, IommuCpu, IommuKnobs, IommuRecord, Live,
    LiveKey, Timed, Times,
};

use super::{
    Shared,
    object::{BpfError, Object, consistent},
};
use crate::kernel::fdinfo;

/// The shipped object, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smilat-iommu-bpf"));

/// By the address of the domain.
type Rows = PerCpuHashMap<MapData, u64, Shared<DomainStats>>;

/// The programs that count.
const COUNTING: [&str; 2] = ["map", "unmap"];

/// The object, loaded. Dropping it stops everything.
pub struct Bpf {
    object: Object,
    knobs: Array<MapData, Shared<IommuKnobs>>,
    domains: Rows,
    nested: Rows,
    cpus: PerCpuArray<MapData, Shared<IommuCpu>>,
    times: PerCpuArray<MapData, Shared<Times>>,
    live: HashMap<MapData, Shared<LiveKey>, Shared<Live>>,
    faults: PerCpuHashMap<MapData, u64, Shared<FaultStats>>,
    group: Array<MapData, Shared<GroupAnswer>>,
    records: RingBuf<MapData>,
    /// The kernel's types; `None` where it does not describe them.
    btf: Option<Btf>,
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
    /// Loads it, with room to follow `track` mappings.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege, no BPF, or too old.
    pub fn load(track: u32) -> Result<Self, BpfError> {
        let mut object = Object::load(OBJECT, &[("IOMMU_LIVE", track.max(1))])?;
        Ok(Self {
            knobs: object.take("IOMMU")?,
            domains: object.take("IOMMU_DOMAINS")?,
            nested: object.take("IOMMU_NESTED")?,
            cpus: object.take("IOMMU_CPU")?,
            times: object.take("IOMMU_TIMES")?,
            live: object.take("IOMMU_LIVE")?,
            faults: object.take("IOMMU_FAULTS")?,
            group: object.take("IOMMU_GROUP")?,
            records: object.take("IOMMU_RECORDS")?,
            btf: Btf::from_sys_fs().ok(),
            object,
        })
    }

    /// Tells the programs what to look for.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_knobs(&mut self, knobs: IommuKnobs) -> Result<(), BpfError> {
        self.knobs
            .set(0, Shared(knobs), 0)
            .map_err(BpfError::map("IOMMU"))
    }

    /// Has the kernel run the program `name` at the entry of the first of `functions` that it has; returns which.
    ///
    /// # Errors
    /// When the kernel refuses each, with the reason for the last.
    pub fn attach_first_entry(
        &mut self,
        name: &'static str,
        functions: &[&'static str],
    ) -> Result<&'static str, BpfError> {
        let btf = self.btf.as_ref().ok_or_else(no_types)?;
        let object = &mut self.object;
        first(functions, |function| {
            object.attach_entry(name, function, btf)
        })
    }

    /// Has the kernel run the program `name` at the end of `function`.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn attach_function_end(
        &mut self,
        name: &'static str,
        function: &'static str,
    ) -> Result<(), BpfError> {
        let btf = self.btf.as_ref().ok_or_else(no_types)?;
        self.object.attach_end(name, function, btf)
    }

    /// What each possible CPU counted in each domain, by the domain's address. Each CPU's copy is consistent in itself.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn domains(&self) -> Result<Vec<(u64, Vec<DomainStats>)>, BpfError> {
        let mut all = BTreeSet::new();
        for rows in [&self.domains, &self.nested] {
            for domain in rows.keys() {
                all.insert(domain.map_err(failed())?);
            }
        }
        let mut domains = Vec::new();
        for domain in all {
            if let Some(stats) = self.domain(domain)? {
                domains.push((domain, stats));
            }
        }
        Ok(domains)
    }

    /// What each possible CPU counted in the domain at that address; `None` where nothing was.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn domain(&self, domain: u64) -> Result<Option<Vec<DomainStats>>, BpfError> {
        let mut sum: Option<Vec<DomainStats>> = None;
        for rows in [&self.domains, &self.nested] {
            let read = || match rows.get(&domain, 0) {
                Ok(values) => Ok(values.iter().map(|Shared(stats)| *stats).collect()),
                Err(MapError::KeyNotFound) => Ok(Vec::new()),
                Err(error) => Err(failed()(error)),
            };
            let stats = consistent(read, DomainStats::is_consistent)?;
            match &mut sum {
                _ if stats.is_empty() => {}
                None => sum = Some(stats),
                Some(sum) => {
                    for (sum, stats) in sum.iter_mut().zip(&stats) {
                        sum.add(stats);
                    }
                }
            }
        }
        Ok(sum)
    }

    /// Forgets what was counted in the domain at that address.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn forget(&mut self, domain: u64) -> Result<(), BpfError> {
        for rows in [&mut self.domains, &mut self.nested] {
            remove(|| rows.remove(&domain), "IOMMU_DOMAINS")?;
        }
        Ok(())
    }

    /// What else each possible CPU counted.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn cpus(&self) -> Result<Vec<IommuCpu>, BpfError> {
        let values = self.cpus.get(&0, 0).map_err(BpfError::map("IOMMU_CPU"))?;
        Ok(values.iter().map(|Shared(cpu)| *cpu).collect())
    }

    /// How long such calls took, for each possible CPU.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn times(&self, of: Timed) -> Result<Vec<Times>, BpfError> {
        let read = || {
            let values = self.times.get(&(of as u32), 0);
            let values = values.map_err(BpfError::map("IOMMU_TIMES"))?;
            Ok(values.iter().map(|Shared(times)| *times).collect())
        };
        consistent(read, Times::is_consistent)
    }

    /// The mappings that are followed. Those that come and go meanwhile may be among them or not.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn live(&self) -> Result<Vec<(LiveKey, Live)>, BpfError> {
        let mut all = Vec::new();
        for entry in &self.live {
            match entry {
                Ok((Shared(key), Shared(live))) => all.push((key, live)),
                // Unmapped in between.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(BpfError::map("IOMMU_LIVE")(error)),
            }
        }
        Ok(all)
    }

    /// No longer follows what was mapped in the domain at that address before `at_ns`.
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn unfollow(&mut self, domain: u64, at_ns: u64) -> Result<(), BpfError> {
        for (key, live) in self.live()? {
            if key.domain == domain && live.at_ns <= at_ns {
                remove(|| self.live.remove(&Shared(key)), "IOMMU_LIVE")?;
            }
        }
        Ok(())
    }

    /// Faults by device, all CPUs together: its name up to a zero byte, and how many.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn faults(&self) -> Result<Vec<([u8; DEVICE_NAME], u64)>, BpfError> {
        let failed = BpfError::map("IOMMU_FAULTS");
        let mut all = Vec::new();
        for entry in &self.faults {
            let (_, values) = entry.map_err(&failed)?;
            let device = values.iter().find(|Shared(stats)| stats.device[0] > 0);
            let device = device.map_or([0; DEVICE_NAME], |Shared(stats)| stats.device);
            all.push((device, values.iter().map(|Shared(stats)| stats.count).sum()));
        }
        Ok(all)
    }

    /// The group whose folder of `/sys/kernel/iommu_groups` is open as `folder`; `None` where the kernel's structures are other
    /// than they are taken to be.
    ///
    /// # Errors
    /// When the kernel does not run the program that looks.
    pub fn group(&mut self, folder: BorrowedFd<'_>) -> Result<Option<GroupAnswer>, BpfError> {
        let descriptor = u64::try_from(folder.as_raw_fd()).unwrap_or(u64::MAX);
        self.object.call("read_group", descriptor)?;
        let Shared(answer) = self
            .group
            .get(&0, 0)
            .map_err(BpfError::map("IOMMU_GROUP"))?;
        Ok((answer.found == 1).then_some(answer))
    }

    /// How many events the kernel did not run the counting programs at, since they ran on the same CPU already: most of them
    /// are counted all the same, see [`IommuCpu::nested`].
    pub fn missed(&self) -> u64 {
        COUNTING
            .into_iter()
            .filter_map(|name| self.object.raw_tracepoint_fd(name))
            .filter_map(fdinfo::recursion_misses)
            .sum()
    }

    /// Takes the records that wait in the ring buffer, oldest first, and passes on the programs' diagnostics.
    pub fn take_records(&mut self, mut each: impl FnMut(&IommuRecord)) {
        self.object.flush();
        while let Some(item) = self.records.next() {
            if item.len() == size_of::<IommuRecord>() {
                // SAFETY: the program writes exactly this struct, integers only; the size was checked.
                let record: IommuRecord = unsafe { ptr::read_unaligned(item.as_ptr().cast()) };
                each(&record);
            }
        }
    }
}

/// What comes before the first zero byte.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// What a failed operation on the counts by domain is called.
fn failed() -> impl Fn(MapError) -> BpfError {
    BpfError::map("IOMMU_DOMAINS")
}

/// Removes an entry of the map `name`, if it is there.
fn remove(removal: impl FnOnce() -> Result<(), MapError>, name: &str) -> Result<(), BpfError> {
    match removal() {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        Err(error) => Err(BpfError::map(name)(error)),
    }
}

fn no_types() -> BpfError {
    BpfError::Refused {
        step: "find the kernel's functions".to_owned(),
        message: "there is no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)".to_owned(),
        errno: None,
    }
}

/// The first of `functions` that `attach` succeeds with.
fn first(
    functions: &[&'static str],
    mut attach: impl FnMut(&str) -> Result<(), BpfError>,
) -> Result<&'static str, BpfError> {
    let mut refused = BpfError::Missing("function");
    for function in functions {
        match attach(function) {
            Ok(()) => return Ok(function),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
