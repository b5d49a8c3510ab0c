//! Has the BPF programs read what proves a gap's cause, and counts SMIs beside them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use smi_common::{CauseCounts, Sources};

use crate::{
    bpf::Bpf,
    counter::{self, Choice, Counter, Counting},
    kernel::{cpus::CpuList, steal},
    model::{Attribution as Info, CounterInfo, Proof, SmiCounts},
};

/// What is read, and what to tell the user.
pub struct Attribution {
    info: Info,
    counter: Option<Box<dyn Counter>>,
    watched: CpuList,
    online: CpuList,
    counts: BTreeMap<u32, Count>,
    warnings: Vec<String>,
    /// CPUs whose counter was told to be unread.
    told: BTreeSet<u32>,
}

/// The SMIs of one CPU.
#[derive(Default)]
struct Count {
    /// The counter at work; `None` while there is none.
    counting: Option<Box<dyn Counting>>,
    /// Its first reading.
    base: u64,
    /// SMIs that counters before it counted.
    carried: u64,
    /// SMIs in all, as last seen.
    total: u64,
    /// Whether the BPF programs' reading may be that of a counter before.
    replaced: bool,
}

impl Count {
    /// Takes a reading of the counter at work.
    fn saw(&mut self, reading: u64) {
        self.total = self
            .total
            .max(self.carried + reading.saturating_sub(self.base));
    }
}

impl Attribution {
    /// Starts counting SMIs of the `watched` CPUs by the counter asked for, and tells the programs of `bpf` what to read.
    /// To be called before a detector is started.
    ///
    /// # Errors
    /// When a counter was asked for by name that cannot be had.
    pub fn start(bpf: &mut Bpf, choice: Choice, watched: &CpuList) -> Result<Self> {
        let online = CpuList::online()?;
        let mut this = Self {
            info: Info::default(),
            counter: None,
            watched: watched.clone(),
            online,
            counts: BTreeMap::new(),
            warnings: Vec::new(),
            told: BTreeSet::new(),
        };
        let mut sources = Sources::default();
        match counter::chosen(choice) {
            Ok(None) => {}
            Ok(Some(counter)) => {
                this.info.counter = Some(CounterInfo {
                    name: counter.name().to_owned(),
                    source: counter.source().to_owned(),
                    exact: counter.is_exact(),
                    caveats: counter::caveats(counter.as_ref())
                        .into_iter()
                        .map(str::to_owned)
                        .collect(),
                });
                this.info.smi = Proof::Gap;
                this.counter = Some(counter);
                this.open_all(bpf);
                sources.smi = u64::from(this.info.smi == Proof::Gap);
            }
            Err(error) if choice == Choice::Auto => this.warnings.push(format!(
                "no counter of SMIs can be had, so no gap can be proven to be one: {error:#}"
            )),
            Err(error) => return Err(error),
        }
        match bpf.attach_raw_tracepoint("nmi", "nmi_handler") {
            Ok(()) => {
                this.info.nmi = Proof::Gap;
                sources.nmi = 1;
            }
            Err(error) => this.warnings.push(format!(
                "NMIs cannot be seen, so no gap can be proven to be one: {error}"
            )),
        }
        match steal::Path::find() {
            Ok(path) => {
                this.info.steal = Proof::Gap;
                sources = Sources {
                    steal: 1,
                    task_cfs_rq: path.task_cfs_rq,
                    cfs_rq_rq: path.cfs_rq_rq,
                    rq_cpu: path.rq_cpu,
                    rq_steal_time: path.rq_steal_time,
                    ..sources
                };
            }
            Err(error) => log::debug!("steal: {error}"),
        }
        bpf.set_sources(sources)?;
        Ok(this)
    }

    /// Opens a counter on each watched CPU that has none and is online.
    fn open_all(&mut self, bpf: &mut Bpf) {
        let Some(counter) = &self.counter else { return };
        for cpu in self.watched.iter().filter(|cpu| self.online.contains(*cpu)) {
            let count = self.counts.entry(cpu).or_default();
            if count.counting.is_some() {
                continue;
            }
            let opened = counter
                .open(&[cpu].into_iter().collect())
                .and_then(|mut counting| Ok((counting.read(cpu)?, counting)));
            let (base, counting) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    if self.told.insert(cpu) {
                        let error = anyhow::Error::from(error);
                        self.warnings.push(format!(
                            "SMIs of CPU {cpu} are not counted, and no gap there can be proven to be one: {error:#}"
                        ));
                    }
                    continue;
                }
            };
            let events = counting.events();
            if events.is_empty() && self.info.smi == Proof::Gap {
                self.info.smi = Proof::Interval;
                self.warnings.push(format!(
                    "attribution = interval: {} cannot be read within the kernel, so SMIs are compared with the gaps of \
                     each interval, not with each gap",
                    counter.name()
                ));
            }
            for (cpu, event) in events {
                if let Err(error) = bpf.set_smi_event(cpu, event) {
                    self.info.smi = Proof::Interval;
                    self.warnings.push(format!(
                        "attribution = interval: the counter of SMIs cannot be read within the kernel ({error})"
                    ));
                }
            }
            count.base = base;
            count.counting = Some(counting);
        }
    }

    /// What proves causes.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The detector's gaps turned out not to be recorded within the kernel.
    pub fn not_in_kernel(&mut self) {
        for proof in [&mut self.info.smi, &mut self.info.nmi, &mut self.info.steal] {
            if *proof == Proof::Gap {
                *proof = Proof::Interval;
            }
        }
        self.warnings.push(
            "attribution = interval: this detector's gaps are read from a buffer, after the fact, so causes are not \
             compared with each gap"
                .to_owned(),
        );
    }

    /// What to tell the user; each is told once.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Goes on with the CPUs that are online now: the counter of one that went is gone for good, and one that came back
    /// needs a new one.
    ///
    /// # Errors
    /// When it is not known which CPUs are online.
    pub fn follow(&mut self, bpf: &mut Bpf) -> Result<()> {
        let online = CpuList::online()?;
        if self.counter.is_none() || online == self.online {
            return Ok(());
        }
        for (cpu, count) in &mut self.counts {
            if !online.contains(*cpu) && count.counting.take().is_some() {
                count.carried = count.total;
                count.replaced = true;
                self.warnings.push(format!(
                    "SMIs of CPU {cpu} are not counted until it is back online"
                ));
            }
        }
        self.online = online;
        self.open_all(bpf);
        Ok(())
    }

    /// SMIs of `cpu` since start; `counted` is what the programs say. Where it is not the `last` time, the programs' own
    /// reading is enough if there is one: reading the counter of another CPU interrupts that CPU.
    pub fn smis(&mut self, cpu: u32, counted: &CauseCounts, last: bool) -> Option<SmiCounts> {
        self.counter.as_ref()?;
        let count = self.counts.entry(cpu).or_default();
        if self.info.smi == Proof::Gap && !count.replaced {
            count.saw(counted.smi_reading);
        }
        if let Some(counting) = &mut count.counting
            && (last || self.info.smi != Proof::Gap || count.replaced)
        {
            match counting.read(cpu) {
                Ok(reading) => count.saw(reading),
                Err(error) => {
                    if self.told.insert(cpu) {
                        self.warnings.push(error.to_string());
                    }
                }
            }
        }
        if counted.smi_unread > 0 && self.told.insert(cpu) {
            self.warnings.push(format!(
                "the counter of SMIs could not be read on CPU {cpu} all the time: it is shared with other users of perf \
                 events, or gone; gaps meanwhile have no proven cause"
            ));
        }
        Some(SmiCounts {
            counted: count.total,
            sampled: counted.smis.sampled,
            in_gaps: counted.smis.in_gaps,
            unread: counted.smi_unread,
        })
    }
}
