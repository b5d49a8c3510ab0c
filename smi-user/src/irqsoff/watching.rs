//! The programs at work: a timer on each watched CPU, and what they need beside it.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use smi_common::{
    Sources,
    irqsoff::{IrqsoffRecord, IrqsoffStats},
};

use super::{Exemptions, Settings, facts, probe::Probe};
use crate::{
    bpf::{BpfError, irqsoff::Bpf},
    counter::{self, Choice, Counter, Counting},
    kernel::{
        cpus::CpuList,
        perf::{CpuClock, ThreadClock},
        sched,
        steal::{self, StealError},
    },
    units::ns,
};

const TICK: &str = "tick";
const SELF_TEST: &str = "self_test";
/// Long enough that the callback is over once when it comes again.
const SELF_TEST_PERIOD_NS: u64 = 1_000_000;

/// Programs and the raw tracepoints they are attached to. Without these nothing can be judged.
const NEEDED: [(&str, &str); 9] = [
    ("switch", "sched_switch"),
    ("irq_entry", "irq_handler_entry"),
    ("irq_exit", "irq_handler_exit"),
    ("softirq_entry", "softirq_entry"),
    ("softirq_exit", "softirq_exit"),
    ("timer_entry", "timer_expire_entry"),
    ("timer_exit", "timer_expire_exit"),
    ("hrtimer_entry", "hrtimer_expire_entry"),
    ("hrtimer_exit", "hrtimer_expire_exit"),
];

/// Functions that other CPUs have a CPU run, each by itself; since 6.5.
const CALLS: [(&str, &str); 2] = [
    ("call_entry", "csd_function_entry"),
    ("call_exit", "csd_function_exit"),
];
/// The interrupts they come with, on older kernels.
const CALL_INTERRUPTS: [(&str, &str); 4] = [
    ("call_irq_entry", "call_function_single_entry"),
    ("call_irq_entry", "call_function_entry"),
    ("call_exit", "call_function_single_exit"),
    ("call_exit", "call_function_exit"),
];
/// The interrupt in which a CPU does what its own code has put off.
const WORK: [(&str, &str); 2] = [
    ("work_entry", "irq_work_entry"),
    ("work_exit", "irq_work_exit"),
];

/// See the module. Dropping it stops everything.
pub struct Watching {
    bpf: Bpf,
    settings: Settings,
    clocks: BTreeMap<u32, CpuClock>,
    counter: Option<Box<dyn Counter>>,
    counting: BTreeMap<u32, Box<dyn Counting>>,
    probes: BTreeMap<u32, Probe>,
    online: CpuList,
    warnings: Vec<String>,
}

impl Watching {
    /// Begins to watch. SMIs are counted by `counter`.
    ///
    /// # Errors
    /// When the kernel refuses something, or describes itself otherwise than is known; nothing is left behind then.
    pub fn start(settings: Settings, exemptions: &Exemptions, choice: Choice) -> Result<Self> {
        let mut warnings = Vec::new();
        let mut bpf = Bpf::load(CpuList::highest_possible()?)?;
        let (mut watch, uncounted) =
            facts::watch().context("cannot find out where this kernel keeps its timers")?;
        if let Some(error) = uncounted {
            warnings.push(format!(
                "sections that cannot be preempted are not seen here, only those with interrupts off: {error}"
            ));
        }
        watch.tick_ns = ns(settings.tick);
        watch.threshold_ns = settings.threshold.map_or(u64::MAX, ns);
        exemptions.write(&mut watch);
        bpf.set_watch(watch)?;

        let mut sources = Sources::default();
        let counter = match counter::chosen(choice) {
            Ok(counter) => counter,
            Err(error) if choice == Choice::Auto => {
                warnings.push(format!(
                    "no counter of SMIs can be had, so a tick that one makes late counts as interrupts off: {error:#}"
                ));
                None
            }
            Err(error) => return Err(error),
        };
        sources.smi = u64::from(counter.is_some());
        match bpf.attach_raw_tracepoint("nmi", "nmi_handler") {
            Ok(()) => sources.nmi = 1,
            Err(error) => warnings.push(format!(
                "NMIs cannot be seen, so a tick that they make late counts as interrupts off: {error}"
            )),
        }
        match steal::Path::find() {
            Ok(path) => {
                sources.steal = 1;
                sources.rq = path.rq;
                sources.rq_steal_time = path.rq_steal_time;
            }
            Err(StealError::Untold) => {}
            Err(error) => warnings.push(format!(
                "the hypervisor's steal cannot be told, so a tick that it makes late counts as interrupts off: {error}"
            )),
        }
        bpf.set_sources(sources)?;
        attach(&mut bpf, &NEEDED)?;
        if let Err(error) =
            attach(&mut bpf, &CALLS).or_else(|_older| attach(&mut bpf, &CALL_INTERRUPTS))
        {
            warnings.push(format!(
                "functions that other CPUs have a CPU run cannot be seen, so one that takes long counts as idle where the \
                 CPU was idle: {error}"
            ));
        }
        if let Err(error) = attach(&mut bpf, &WORK) {
            warnings.push(format!(
                "irq_work cannot be seen, so where it takes long that counts as idle or stopped: {error}"
            ));
        }
        if let Err(error) = attach(&mut bpf, &[("idle", "cpu_idle")]) {
            warnings.push(format!(
                "idle states cannot be seen, so a tick for which an idle CPU wakes up late counts as interrupts off: {error}"
            ));
        }
        bpf.verify(TICK)?;
        let mut this = Self {
            bpf,
            settings,
            clocks: BTreeMap::new(),
            counter,
            counting: BTreeMap::new(),
            probes: BTreeMap::new(),
            online: CpuList::online()?,
            warnings,
        };
        this.open_all()?;
        Ok(this)
    }

    /// Has each watched CPU that is online and does not tick do so.
    fn open_all(&mut self) -> Result<()> {
        let missing: Vec<u32> = self
            .settings
            .cpus
            .iter()
            .filter(|cpu| self.online.contains(*cpu) && !self.clocks.contains_key(cpu))
            .collect();
        let (mut uncounted, mut untried) = (Without::default(), Without::default());
        for cpu in missing {
            if let Some(counter) = &self.counter
                && let Some(counting) =
                    uncounted.unless(cpu, count(counter.as_ref(), cpu, &mut self.bpf))
            {
                self.counting.insert(cpu, counting);
            }
            let probe = self.bpf.probe(cpu).map_err(Into::into);
            if let Some(probe) =
                untried.unless(cpu, probe.and_then(|event| Probe::start(cpu, event)))
            {
                self.probes.insert(cpu, probe);
            }
            let program = self.bpf.perf_event_program(TICK)?;
            match CpuClock::open(cpu, program, ns(self.settings.tick)) {
                Ok(clock) => {
                    self.clocks.insert(cpu, clock);
                }
                // It went a moment ago; when it is back, it is missing still.
                Err(_) if CpuList::online().is_ok_and(|online| !online.contains(cpu)) => {}
                Err(error) => {
                    return Err(error).context(format!("cannot have a timer on CPU {cpu}"));
                }
            }
        }
        self.warnings.extend(uncounted.told(|cpus, why| {
            format!(
                "SMIs are not counted on CPU {cpus}, so a tick that one makes late counts as interrupts off: {why}"
            )
        }));
        self.warnings.extend(untried.told(|cpus, why| {
            format!(
                "what cannot be preempted is not tried on CPU {cpus}, so several sections one after the other may be told as \
                 one: {why}"
            )
        }));
        Ok(())
    }

    /// What is looked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Goes on with the CPUs that are online now: the timer and the counter of one that went are gone for good.
    ///
    /// # Errors
    /// When a CPU that is back does not take a timer.
    pub fn follow(&mut self) -> Result<()> {
        // Where they cannot be told for a moment, as they were.
        let online = CpuList::online().unwrap_or_else(|_| self.online.clone());
        if online == self.online {
            return Ok(());
        }
        let gone: CpuList = self
            .clocks
            .keys()
            .copied()
            .filter(|cpu| !online.contains(*cpu))
            .collect();
        for cpu in gone.iter() {
            self.clocks.remove(&cpu);
            self.counting.remove(&cpu);
            self.probes.remove(&cpu);
        }
        if !gone.is_empty() {
            self.warnings
                .push(format!("CPU {gone} is not watched until it is back online"));
        }
        self.online = online;
        self.open_all()
    }

    /// CPUs that are watched now.
    pub fn ticking(&self) -> CpuList {
        self.clocks.keys().copied().collect()
    }

    /// What the user should know; each is told once.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// What is counted, by CPU number.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stats(&self) -> Result<Vec<IrqsoffStats>, BpfError> {
        self.bpf.stats()
    }

    /// Whether a tick of `cpu` was counted.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn has_ticked(&self, cpu: u32) -> Result<bool, BpfError> {
        let stats = self.stats()?;
        Ok(stats.get(cpu as usize).is_some_and(|stats| stats.ticks > 0))
    }

    /// Takes the records that wait.
    pub fn take_records(&mut self, each: impl FnMut(&IrqsoffRecord)) {
        self.bpf.take_records(each);
    }

    /// Has each CPU tell at its next tick what it does.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn ask(&mut self) -> Result<(), BpfError> {
        self.bpf.ask()
    }

    /// Turns interrupts off on `cpu` for `length`, once, in a thread that is nowhere else meanwhile; returns how long they
    /// were off, in ns.
    ///
    /// # Errors
    /// When the kernel refuses the thread its place, or the program.
    pub fn self_test(&mut self, cpu: u32, length: Duration) -> Result<u64> {
        // Of its own: where a thread may run is nothing to be changed for others.
        let bpf = &mut self.bpf;
        thread::scope(|scope| {
            let made = scope.spawn(move || {
                sched::set_affinity([cpu]).with_context(|| format!("cannot run on CPU {cpu}"))?;
                make_stretch(bpf, length)
            });
            made.join()
                .unwrap_or_else(|_panicked| bail!("the self-test's thread panicked"))
        })
    }

    /// Stops the ticks; what was counted and recorded can still be read.
    pub fn stop(&mut self) {
        self.clocks.clear();
    }
}

/// CPUs that go without something, and why the last of them does.
#[derive(Default)]
struct Without {
    cpus: Vec<u32>,
    why: Option<anyhow::Error>,
}

impl Without {
    /// What `cpu` got, if it did.
    fn unless<T>(&mut self, cpu: u32, got: Result<T>) -> Option<T> {
        got.map_err(|error| {
            self.cpus.push(cpu);
            self.why = Some(error);
        })
        .ok()
    }

    /// What is to be said of them in `words`; nothing where there are none.
    fn told(self, words: impl FnOnce(CpuList, String) -> String) -> Option<String> {
        let why = format!("{:#}", self.why?);
        Some(words(self.cpus.into_iter().collect(), why))
    }
}

/// Has the programs run at these raw tracepoints, up to the first that cannot be had.
fn attach(bpf: &mut Bpf, to: &[(&'static str, &str)]) -> Result<(), BpfError> {
    to.iter()
        .try_for_each(|(program, event)| bpf.attach_raw_tracepoint(program, event))
}

/// Opens `counter` on `cpu` and has the programs read it, if it can be read within the kernel.
fn count(counter: &dyn Counter, cpu: u32, bpf: &mut Bpf) -> Result<Box<dyn Counting>> {
    let counting = counter.open(&[cpu].into_iter().collect())?;
    for (cpu, event) in counting.events() {
        bpf.set_smi_event(cpu, event)?;
    }
    Ok(counting)
}

/// Asks for one stretch, and goes on until it is over: the timer is this thread's.
fn make_stretch(bpf: &mut Bpf, length: Duration) -> Result<u64> {
    let program = bpf.perf_event_program(SELF_TEST)?;
    let clock = ThreadClock::open(program, SELF_TEST_PERIOD_NS)
        .context("cannot have a timer for the self-test")?;
    bpf.ask_self_test(ns(length))?;
    let patience = Instant::now() + length + Duration::from_secs(5);
    loop {
        // The timer goes on while this thread does.
        if let Some(done_ns) = bpf.self_test_done()? {
            drop(clock);
            return Ok(done_ns);
        }
        ensure!(
            Instant::now() < patience,
            "the self-test's timer did not fire on its CPU"
        );
    }
}
