//! Has the BPF programs read what proves a gap's cause, and counts SMIs beside them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use smi_common::{CauseCounts, Sources};

use crate::{
    bpf::Bpf,
    counter::{self, Choice, Counter, CounterError, Counting},
    kernel::{
        cpus::CpuList,
        steal::{self, StealError},
    },
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
    /// CPUs whose counter was told to be refused or unread, until another is opened.
    told: BTreeSet<u32>,
    /// Whether a CPU that is online has lost its counter.
    open_again: bool,
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
    /// Whether a counter was ever at work.
    opened: bool,
    /// Readings that failed within the kernel, as last seen.
    unread: u64,
}

impl Count {
    /// Takes a reading of the counter at work.
    fn saw(&mut self, reading: u64) {
        self.total = self
            .total
            .max(self.carried + reading.saturating_sub(self.base));
    }

    /// The counter at work is at its end; what it counted is kept.
    fn lose(&mut self, counted: &CauseCounts) {
        if !self.replaced {
            self.saw(counted.smi_reading);
        }
        self.counting = None;
        self.carried = self.total;
        self.replaced = true;
    }
}

/// Opens `counter` on `cpu` and has the programs read it; its first reading.
fn open(counter: &dyn Counter, cpu: u32, bpf: &mut Bpf) -> Result<(u64, Box<dyn Counting>)> {
    let mut counting = counter.open(&[cpu].into_iter().collect())?;
    let base = counting.read(cpu)?;
    for (cpu, event) in counting.events() {
        bpf.set_smi_event(cpu, event)?;
    }
    Ok((base, counting))
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
            open_again: false,
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
                if this.counts.values().all(|count| !count.opened) {
                    this.info.smi = Proof::None;
                }
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
                    rq: path.rq,
                    rq_steal_time: path.rq_steal_time,
                    ..sources
                };
            }
            Err(StealError::Untold) => {}
            Err(error) => this.warnings.push(format!(
                "the hypervisor's steal cannot be told gap by gap: {error}"
            )),
        }
        bpf.set_sources(sources)?;
        Ok(this)
    }

    /// Opens a counter on each watched CPU that has none and is online.
    fn open_all(&mut self, bpf: &mut Bpf) {
        let Some(counter) = &self.counter else { return };
        self.open_again = false;
        // By what was refused: many CPUs may have the same to say.
        let mut refused: BTreeMap<String, CpuList> = BTreeMap::new();
        for cpu in self.watched.iter().filter(|cpu| self.online.contains(*cpu)) {
            let count = self.counts.entry(cpu).or_default();
            if count.counting.is_some() {
                continue;
            }
            match open(counter.as_ref(), cpu, bpf) {
                Ok((base, counting)) => {
                    if counting.events().is_empty() && self.info.smi == Proof::Gap {
                        self.info.smi = Proof::Interval;
                        self.warnings.push(format!(
                            "attribution = interval: {} cannot be read within the kernel, so SMIs are compared with the \
                             gaps of each interval, not with each gap",
                            counter.name()
                        ));
                    }
                    count.base = base;
                    count.counting = Some(counting);
                    count.opened = true;
                    self.told.remove(&cpu);
                }
                Err(error) => {
                    if self.told.insert(cpu) {
                        // Each CPU's message names it.
                        let text = format!("{error:#}").replace(&format!("CPU {cpu} "), "a CPU ");
                        let cpus = refused.entry(text).or_default();
                        *cpus = cpus.iter().chain([cpu]).collect();
                    }
                }
            }
        }
        for (text, cpus) in refused {
            self.warnings.push(format!(
                "on CPU {cpus} SMIs are not counted, and no gap can be proven to be one: {text}"
            ));
        }
    }

    /// What proves causes.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The detector's gaps turned out not to be recorded within the kernel.
    pub fn not_in_kernel(&mut self) {
        let told = self.info.smi == Proof::Interval;
        for proof in [&mut self.info.smi, &mut self.info.nmi, &mut self.info.steal] {
            if *proof == Proof::Gap {
                *proof = Proof::Interval;
            }
        }
        if told {
            return;
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
    /// When the statistics cannot be read, which say what a counter that is gone had counted.
    pub fn follow(&mut self, bpf: &mut Bpf) -> Result<()> {
        if self.counter.is_none() {
            return Ok(());
        }
        // Where they cannot be told for a moment, as they were.
        let online = CpuList::online().unwrap_or_else(|_| self.online.clone());
        if online == self.online && !self.open_again {
            return Ok(());
        }
        let gone: Vec<u32> = self
            .counts
            .iter()
            .filter(|(cpu, count)| count.counting.is_some() && !online.contains(**cpu))
            .map(|(cpu, _)| *cpu)
            .collect();
        if !gone.is_empty() {
            let stats = bpf.stats()?;
            for (cpu, count) in &mut self.counts {
                if let Some(stats) = stats.get(*cpu as usize).filter(|_| gone.contains(cpu)) {
                    count.lose(&stats.counted);
                }
            }
            let gone: CpuList = gone.into_iter().collect();
            self.warnings.push(format!(
                "SMIs of CPU {gone} are not counted until it is back online"
            ));
        }
        self.online = online;
        self.open_all(bpf);
        Ok(())
    }

    /// SMIs of `cpu` since start, if they were ever counted; `counted` is what the programs say. Where it is not the `last`
    /// time, the programs' own reading is enough if there is one: reading the counter of another CPU interrupts that CPU.
    pub fn smis(&mut self, cpu: u32, counted: &CauseCounts, last: bool) -> Option<SmiCounts> {
        let count = self.counts.get_mut(&cpu).filter(|count| count.opened)?;
        let in_kernel = self.info.smi == Proof::Gap;
        if in_kernel && !count.replaced {
            count.saw(counted.smi_reading);
        }
        let failed = counted.smi_unread > count.unread;
        count.unread = counted.smi_unread;
        if let Some(counting) = &mut count.counting
            && (last || !in_kernel || count.replaced || failed)
        {
            match counting.read(cpu) {
                Ok(reading) => count.saw(reading),
                Err(error) => {
                    if self.told.insert(cpu) {
                        self.warnings.push(error.to_string());
                    }
                    // It went offline and is back, unless it was told to be gone: then another counter is to be had.
                    if matches!(error, CounterError::Offline(_)) {
                        count.lose(counted);
                        self.open_again = true;
                    }
                }
            }
        }
        if failed && self.told.insert(cpu) {
            self.warnings.push(format!(
                "the counter of SMIs could not be read on CPU {cpu} all the time: it was shared with other users of perf \
                 events, or was gone for a while; gaps meanwhile have no proven cause"
            ));
        }
        Some(SmiCounts {
            counted: count.total,
            sampled: in_kernel.then_some(counted.smis.sampled),
            in_gaps: in_kernel.then_some(counted.smis.in_gaps),
            unread: counted.smi_unread,
        })
    }
}
