//! The programs at work, and what they counted.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use smi_common::iommu::{
    CPU_WORDS, DomainStats, IommuKnobs, IommuRecord, Live, LiveKey, RANGES, Timed, Times,
};

use super::{
    domains::{Domains, InUse},
    events::device_name,
    facts,
};
use crate::{
    bpf::iommu::Bpf,
    cli::Look,
    kernel::{
        iomem::{FewRanges, Iomem},
        iommu::open_group,
    },
    model::{
        Histogram,
        iommu::{CallTimes, CpuMoves, DomainCounts, Following, LateRuns},
        iommu_topology::Topology,
    },
    units::ns,
};

/// Functions that have the tracepoint of maps, newest kernels last, and of unmaps.
const MAPS: [&str; 2] = ["__iommu_map", "iommu_map_nosync"];
const UNMAPS: [&str; 1] = ["__iommu_unmap"];
/// Functions by which drivers unmap, through the DMA API, and by which all others do.
const DMA_UNMAPS: [&str; 3] = [
    "__iommu_dma_unmap",
    "iommu_dma_unmap_page",
    "iommu_dma_unmap_phys",
];
const OTHER_UNMAPS: [&str; 1] = ["iommu_unmap"];

/// The programs that count, in the order in which they are to be run.
const COUNTING: [(&str, &str); 4] = [
    ("unmap", "unmap"),
    ("unmap_again", "unmap"),
    ("map", "map"),
    ("map_again", "map"),
];

/// Tracepoints that tell of changes and faults, and the programs for them. Not all kernels have each.
const CHANGES: [(&str, &str); 4] = [
    ("added", "add_device_to_group"),
    ("removed", "remove_device_from_group"),
    ("attached", "attach_device_to_domain"),
    ("fault", "io_page_fault"),
];

/// See the module. Dropping it stops everything.
pub struct Watching {
    bpf: Bpf,
    domains: Domains,
    /// What each CPU did in domains that are no more.
    gone_cpus: Vec<CpuMoves>,
    knobs: IommuKnobs,
    /// Functions that are timed.
    timed: Vec<(Timed, &'static str)>,
    room: u64,
    /// Why groups cannot be told, if they cannot.
    ungrouped: bool,
    warnings: Vec<String>,
}

impl Watching {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the kernel refuses something, or has no such tracepoints; nothing is left behind then.
    pub fn start(look: &Look, iomem: Option<&Iomem>) -> Result<Self> {
        let mut knobs = knobs(look);
        let mut warnings = Vec::new();
        let ram = iomem.map_or_else(FewRanges::default, |iomem| iomem.system_ram_in(RANGES));
        if ram.gaps_lost > 0 {
            warnings.push(format!(
                "main memory is in more than {RANGES} pieces: {} bytes between them are taken for it, and maps of these are not told",
                ram.bytes_lost
            ));
        }
        let ram = ram.ranges;
        for (place, range) in knobs.ram.iter_mut().zip(&ram) {
            *place = [range.start, range.end];
        }
        knobs.rams = ram.len() as u64;
        match facts::fill(&mut knobs) {
            Ok(missing) => {
                if let Some(error) = missing.names {
                    bail!("cannot find out where this kernel keeps groups and devices: {error}");
                }
                if let Some(error) = missing.resched
                    && knobs.resched_limit_ns > 0
                {
                    knobs.resched_limit_ns = 0;
                    warnings.push(format!(
                        "whether the scheduler waits for a CPU that maps or unmaps cannot be seen here: {error}"
                    ));
                }
            }
            Err(error) => {
                bail!("cannot find out where this kernel keeps groups and devices: {error}")
            }
        }
        let mut bpf = Bpf::load(look.track)?;
        bpf.set_knobs(knobs)?;
        let mut this = Self {
            bpf,
            domains: Domains::default(),
            gone_cpus: Vec::new(),
            knobs,
            timed: Vec::new(),
            room: look.track.into(),
            ungrouped: false,
            warnings,
        };
        this.attach()?;
        Ok(this)
    }

    fn attach(&mut self) -> Result<()> {
        for (name, event) in CHANGES {
            self.bpf
                .attach_raw_tracepoint(name, event)
                .with_context(|| format!("this kernel has no tracepoint iommu:{event}"))?;
        }
        // Gone since 6.2.
        let _older = self
            .bpf
            .attach_raw_tracepoint("detached", "detach_device_from_domain");
        if let Err(error) = self
            .bpf
            .attach_first_entry("domain_gone", &["iommu_domain_free"])
            .and(
                self.bpf
                    .attach_first_entry("attach_begins", &["__iommu_attach_device"]),
            )
            .and(self.bpf.attach_first_entry("map_begins", &MAPS))
            .and(self.bpf.attach_first_entry("map_begins_again", &MAPS))
            .and(self.bpf.attach_first_entry("unmap_begins", &UNMAPS))
            .and(self.bpf.attach_first_entry("unmap_begins_again", &UNMAPS))
        {
            self.ungrouped = true;
            self.warnings.push(format!(
                "all is counted as one: the kernel's tracepoints do not tell the domain, and its functions cannot be followed \
                 here: {error}"
            ));
        }
        if self.knobs.time_one_in > 0 {
            for (timed, begins, ends, functions) in [
                (Timed::Dma, "dma_begins", "dma_ends", &DMA_UNMAPS[..]),
                (Timed::Other, "other_begins", "other_ends", &OTHER_UNMAPS),
            ] {
                let timed_one =
                    self.bpf
                        .attach_first_entry(begins, functions)
                        .and_then(|function| {
                            self.bpf
                                .attach_function_end(ends, function)
                                .map(|()| function)
                        });
                match timed_one {
                    Ok(function) => self.timed.push((timed, function)),
                    Err(error) => self.warnings.push(format!(
                        "{} cannot be timed here: {error}",
                        functions.join(" and ")
                    )),
                }
            }
        }
        // Last: whatever is counted can be put down to a domain.
        for (name, event) in COUNTING {
            self.bpf
                .attach_raw_tracepoint(name, event)
                .with_context(|| format!("cannot follow iommu:{event}"))?;
        }
        Ok(())
    }

    /// What the user should know that is no failure; each is told once.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Takes what waits.
    pub fn take_records(&mut self, each: impl FnMut(&IommuRecord)) {
        self.bpf.take_records(each);
    }

    /// Finds out which groups use which domains.
    ///
    /// # Errors
    /// When the kernel refuses to look.
    pub fn learn(&mut self, topology: &Topology) -> Result<()> {
        if self.ungrouped {
            return Ok(());
        }
        let mut all = Vec::new();
        for group in &topology.groups {
            // One that went a moment ago has no domain.
            let Ok(folder) = open_group(group.group) else {
                continue;
            };
            let answer = self.bpf.group(folder.as_fd())?;
            let Some(answer) = answer.filter(|answer| answer.id == u64::from(group.group)) else {
                self.ungrouped = true;
                self.warnings.push(
                    "domains cannot be put down to groups: this kernel's groups are built otherwise than is known"
                        .to_owned(),
                );
                return Ok(());
            };
            all.push(InUse {
                group: group.group,
                devices: group.devices.clone(),
                domain: answer.domain,
                domain_type: answer.domain_type,
            });
        }
        self.domains.learn(&all);
        Ok(())
    }

    /// A group was attached to a domain.
    pub fn attached(&mut self, in_use: InUse) {
        self.domains.learn(&[in_use]);
    }

    /// The domain at that address is no more since `at_ns`: what was counted in it is final.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn domain_gone(
        &mut self,
        domain: u64,
        at_ns: u64,
        is_chosen: impl Fn(&DomainCounts) -> bool,
    ) -> Result<()> {
        if let Some(stats) = self.bpf.domain(domain)? {
            self.domains.count(domain, &stats);
            if is_chosen(self.domains.at(domain)) {
                add(&mut self.gone_cpus, &stats);
            }
        }
        // What was mapped in it still will never be unmapped.
        if self.room > 0 && self.domains.at(domain).net_bytes() > 0 {
            self.bpf.unfollow(domain, at_ns)?;
        }
        self.domains.end(domain);
        Ok(self.bpf.forget(domain)?)
    }

    /// Reads what was counted; returns what each CPU did in domains that `is_chosen`, and whether there is a domain that is not
    /// known.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn count(
        &mut self,
        is_chosen: impl Fn(&DomainCounts) -> bool,
    ) -> Result<(Vec<CpuMoves>, bool)> {
        let mut cpus = self.gone_cpus.clone();
        let mut is_new = false;
        for (domain, stats) in self.bpf.domains()? {
            is_new |= !self.domains.knows(domain);
            self.domains.count(domain, &stats);
            if is_chosen(self.domains.at(domain)) {
                add(&mut cpus, &stats);
            }
        }
        cpus.retain(|cpu| cpu.maps + cpu.unmaps > 0);
        Ok((cpus, is_new && !self.ungrouped))
    }

    /// The domains.
    pub fn domains(&mut self) -> &mut Domains {
        &mut self.domains
    }

    /// How long unmaps took.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn times(&self) -> Result<Vec<CallTimes>> {
        self.timed
            .iter()
            .map(|(timed, function)| {
                let cpus = self.bpf.times(*timed)?;
                let sum = |of: fn(&Times) -> u64| cpus.iter().map(of).sum::<u64>();
                let mut histogram = Histogram::default();
                for cpu in &cpus {
                    histogram.add(&cpu.histogram.into());
                }
                Ok(CallTimes {
                    function: (*function).to_owned(),
                    of: match timed {
                        Timed::Dma => "unmaps by drivers, through the DMA API",
                        Timed::Other => "unmaps by all others, such as VFIO",
                    }
                    .to_owned(),
                    count: sum(|times| times.count),
                    sum_ns: sum(|times| times.sum_ns),
                    max_ns: cpus.iter().map(|times| times.max_ns).max().unwrap_or(0),
                    histogram,
                })
            })
            .collect()
    }

    /// Every how many-eth unmap is timed; 0: none is.
    pub fn timed_one_in(&self) -> u64 {
        if self.timed.is_empty() {
            0
        } else {
            self.knobs.time_one_in
        }
    }

    /// What is counted by CPU: how far mappings are followed, long runs, and records sent and lost.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn own(&self) -> Result<Own> {
        let cpus = self.bpf.cpus()?;
        let sum = |of: fn(&smi_common::iommu::IommuCpu) -> u64| cpus.iter().map(of).sum::<u64>();
        Ok(Own {
            following: Following {
                room: self.room,
                refused: sum(|cpu| cpu.untracked_maps),
            },
            late: LateRuns {
                limit_ns: (self.knobs.resched_limit_ns > 0).then_some(self.knobs.resched_limit_ns),
                count: sum(|cpu| cpu.late),
                max_ns: cpus.iter().map(|cpu| cpu.late_max_ns).max().unwrap_or(0),
            },
            missed: self.bpf.missed().saturating_sub(sum(|cpu| cpu.nested))
                + sum(|cpu| cpu.uncounted),
            records_sent: sum(|cpu| cpu.records_sent),
            records_lost: sum(|cpu| cpu.records_lost),
        })
    }

    /// The mappings that are followed and left.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn left(&self) -> Result<Vec<(LiveKey, Live)>> {
        Ok(self.bpf.live()?)
    }

    /// Faults by device that the tracepoint told of.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn faults(&self) -> Result<Vec<(String, u64)>> {
        let faults = self.bpf.faults()?;
        Ok(faults
            .into_iter()
            .map(|(device, count)| (device_name(&device), count))
            .collect())
    }
}

/// Adds what each CPU did.
fn add(cpus: &mut Vec<CpuMoves>, stats: &[DomainStats]) {
    for number in cpus.len()..stats.len() {
        cpus.push(CpuMoves {
            cpu: number as u32,
            maps: 0,
            unmaps: 0,
        });
    }
    for (cpu, one) in cpus.iter_mut().zip(stats) {
        cpu.maps += one.maps.count;
        cpu.unmaps += one.unmaps.count;
    }
}

/// See [`Watching::own`].
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// How far mappings are followed.
    pub following: Following,
    /// Long runs with need-resched pending.
    pub late: LateRuns,
    /// Events that are counted nowhere.
    pub missed: u64,
    /// Records passed on.
    pub records_sent: u64,
    /// Records lost.
    pub records_lost: u64,
}

/// What is asked for, without what must be found out of the kernel.
fn knobs(look: &Look) -> IommuKnobs {
    let mut knobs = IommuKnobs {
        least_bytes: look.size.map_or(0, |size| size.least),
        most_bytes: look.size.map_or(u64::MAX, |size| size.most),
        track: u64::from(look.track > 0),
        time_one_in: look.time_one_in.into(),
        resched_limit_ns: ns(look.resched_limit),
        ..IommuKnobs::default()
    };
    if let Some(cpus) = &look.cpus {
        knobs.some_cpus = 1;
        for cpu in cpus.iter().filter(|cpu| (*cpu as usize) < CPU_WORDS * 64) {
            knobs.cpus[cpu as usize / 64] |= 1 << (cpu % 64);
        }
    }
    knobs
}
