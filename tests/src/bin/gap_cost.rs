//! What recording a gap costs within the kernel, at several rates, with and without finding its cause: one JSON object on
//! standard output, for `cargo xtask bench gap`.
//!
//! - Programs of the test object, which have the code of spin and of what records osnoise's gaps, wait between two readings of
//!   the clock, so that they make gaps at a known rate; the time for which they did not watch is what recording them took.
//! - The program that records osnoise's gaps is also run by the kernel's own means for testing, with arguments that make each run
//!   one gap; how long it took is the kernel's count (`BPF_STATS_RUN_TIME`). So is one that does nothing, for what such a run
//!   takes by itself.

use std::{
    fs,
    os::fd::AsFd as _,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use aya::{
    maps::{Array, MapData},
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
    sys::{Stats, enable_stats},
};
use serde_json::json;
use smi_common::{CpuStats, Knobs, Sources};
use smi_user::{
    bpf::{Bpf, SpinSlots},
    counter,
    kernel::{
        clock::monotonic_ns,
        cpus::CpuList,
        perf::{MIN_PERIOD_NS, ThreadClock},
        sched, steal,
    },
};
use tests::{from_env, take_array};

type Error = Box<dyn std::error::Error>;

/// Gaps a second, gaps of a round, and rounds; all that is measured takes turns in each.
const RATES: [(u64, u64, usize); 3] = [(1, 1, 9), (1_000, 200, 9), (100_000, 10_000, 9)];

/// Single gaps that smilat passes on for each second, unless told otherwise.
const RECORDS_PER_S: u64 = 100;

/// Seconds at the highest rate for which everything is counted.
const LOSS_SECONDS: u64 = 5;

fn main() -> ExitCode {
    match measure() {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gap_cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<serde_json::Value, Error> {
    let cpu = CpuList::online()?.highest().ok_or("no CPU is online")?;
    sched::set_affinity([cpu])?;
    let mut tracer = Tracer::load(cpu)?;
    let mut nothing = Nothing::load()?;
    let mut makers = [
        Maker::load("spin", "waits", cpu)?,
        Maker::load("osnoise", "osnoise_waits", cpu)?,
    ];
    // Kept open: the maps hold the event only as long as this does.
    let counter = counter::choose().ok();
    let opened = match &counter {
        Some(counter) => Some(counter.open(&[cpu].into_iter().collect())?),
        None => None,
    };
    let mut smi = None;
    for (cpu, event) in opened.iter().flat_map(|opened| opened.events()) {
        tracer.bpf.set_smi_event(cpu, event.as_fd())?;
        for maker in &mut makers {
            maker.bpf.set_smi_event(cpu, event.as_fd())?;
        }
        smi = counter.as_ref().map(|counter| counter.name().to_owned());
    }
    let variants = variants(smi);
    let _stats = enable_stats(Stats::RunTime)?;
    let mut costs = Vec::new();
    for (per_s, gaps, rounds) in RATES {
        let pace = Pace { per_s, gaps };
        let mut of_nothing = Vec::new();
        let mut of_points = vec![Vec::new(); variants.len() * (makers.len() + 1)];
        for _ in 0..rounds {
            of_nothing.push(nothing.round(pace)?);
            let mut all = of_points.iter_mut();
            let mut add = |ns| all.next().map(|of_point| of_point.push(ns));
            for (_, sources) in &variants {
                for maker in &mut makers {
                    add(maker.round(*sources, pace)?);
                }
                add(tracer.round(*sources, pace)?);
            }
        }
        costs.push(json!({"point": "nothing", "causes": "", "per_s": per_s, "ns": of_nothing}));
        let mut all = of_points.into_iter();
        for (causes, _) in &variants {
            for point in makers
                .iter()
                .map(|maker| maker.point)
                .chain([Tracer::POINT])
            {
                let ns = all.next().ok_or("a point was not measured")?;
                costs.push(json!({"point": point, "causes": causes, "per_s": per_s, "ns": ns}));
            }
        }
    }
    let (_, all) = variants.last().ok_or("no variant")?;
    let mut losses = Vec::new();
    for maker in &mut makers {
        losses.push(maker.loss(*all)?);
    }
    Ok(json!({"costs": costs, "losses": losses}))
}

/// Sets of causes that can be had here, the least first. `smi` names what counts SMIs.
fn variants(smi: Option<String>) -> Vec<(String, Sources)> {
    let mut all = Sources::default();
    let mut variants = vec![("no cause".to_owned(), all)];
    all.nmi = 1;
    variants.push(("NMIs".to_owned(), all));
    if let Ok(path) = steal::Path::find() {
        all = Sources {
            steal: 1,
            rq: path.rq,
            rq_steal_time: path.rq_steal_time,
            ..all
        };
        variants.push(("NMIs and steal".to_owned(), all));
    }
    if let Some(smi) = smi {
        variants.push((format!("all, SMIs by {smi}"), Sources { smi: 1, ..all }));
    }
    variants
}

/// How fast gaps are made.
#[derive(Clone, Copy)]
struct Pace {
    per_s: u64,
    gaps: u64,
}

impl Pace {
    fn between(self) -> Duration {
        Duration::from_secs(1) / u32::try_from(self.per_s).unwrap_or(u32::MAX)
    }

    /// Does `each` as often as asked for, at this pace.
    fn keep(self, mut each: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        /// No thread sleeps as short a time.
        const SHORTEST_SLEEP: Duration = Duration::from_micros(200);
        let between = self.between();
        let mut due = Instant::now();
        for _ in 0..self.gaps {
            due += between;
            let left = due.saturating_duration_since(Instant::now());
            if left > SHORTEST_SLEEP {
                thread::sleep(left);
            }
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            each()?;
        }
        Ok(())
    }
}

/// Runs a raw tracepoint program once for each gap; ns each, by the kernel.
fn run(bpf: &mut Bpf, name: &str, pace: Pace) -> Result<f64, Error> {
    let program = bpf.ebpf_mut().program(name).ok_or("no such program")?;
    let program: &RawTracePoint = program.try_into()?;
    let mut args = [0; 12];
    // Start and duration of the gap.
    args[1] = 50_000;
    let before = program.info()?;
    pace.keep(|| {
        program.test_run(RawTracePointRunOptions { args, cpu: None })?;
        Ok(())
    })?;
    let after = program.info()?;
    let took = after.run_time().saturating_sub(before.run_time());
    let ran = after.run_count() - before.run_count();
    if ran != pace.gaps {
        return Err(format!("the kernel counts {ran} runs of {}", pace.gaps).into());
    }
    Ok(took.as_nanos() as f64 / ran as f64)
}

fn knobs() -> Knobs {
    Knobs {
        threshold_ns: 1,
        records_per_s: RECORDS_PER_S,
        interval: 1,
        look_ns: 0,
    }
}

fn test_object() -> Result<Bpf, Error> {
    let object = fs::read(from_env("SMILAT_TEST_BPF"))?;
    Ok(Bpf::load_object(&object, CpuList::highest_possible()?)?)
}

/// What became of all gaps that were made.
fn loss(what: &str, made: u64, stats: &CpuStats, fetched: u64) -> serde_json::Value {
    json!({
        "what": what,
        "made": made,
        "counted": stats.gaps.count,
        "sent": stats.records_sent,
        "limited": stats.records_limited,
        "lost": stats.records_lost,
        "fetched": fetched,
    })
}

/// A program that does nothing.
struct Nothing(Bpf);

impl Nothing {
    const PROGRAM: &str = "nothing";

    fn load() -> Result<Self, Error> {
        let mut bpf = test_object()?;
        bpf.verify(Self::PROGRAM)?;
        Ok(Self(bpf))
    }

    fn round(&mut self, pace: Pace) -> Result<f64, Error> {
        run(&mut self.0, Self::PROGRAM, pace)
    }
}

/// The shipped program that records osnoise's gaps.
struct Tracer {
    bpf: Bpf,
    cpu: u32,
}

impl Tracer {
    const POINT: &str = "osnoise, each gap a run of its own";
    const PROGRAM: &str = "osnoise_sample";

    fn load(cpu: u32) -> Result<Self, Error> {
        let mut bpf = Bpf::load(CpuList::highest_possible()?)?;
        bpf.set_knobs(knobs())?;
        bpf.verify(Self::PROGRAM)?;
        bpf.attach_raw_tracepoint("nmi", "nmi_handler")?;
        Ok(Self { bpf, cpu })
    }

    fn stats(&self) -> Result<CpuStats, Error> {
        Ok(self.bpf.stats()?[self.cpu as usize])
    }

    /// ns a gap.
    fn round(&mut self, sources: Sources, pace: Pace) -> Result<f64, Error> {
        self.bpf.set_sources(sources)?;
        self.bpf.reset_stats()?;
        let ns = run(&mut self.bpf, Self::PROGRAM, pace)?;
        let counted = self.stats()?.gaps.count;
        if counted != pace.gaps {
            return Err(format!("{counted} gaps were counted of {}", pace.gaps).into());
        }
        self.bpf.take_gaps(|_| {});
        Ok(ns)
    }
}

/// A program of the test object that waits between its readings.
struct Maker {
    point: &'static str,
    bpf: Bpf,
    slots: SpinSlots,
    cpu: u32,
    waits: Array<MapData, [u64; 2]>,
    made: Array<MapData, [u64; 2]>,
    /// Time spun before the statistics were set to zero, in ns.
    spun_before: u64,
    program: &'static str,
}

impl Maker {
    /// Places for waits, used over and over.
    const WAITS: u32 = 512;
    /// The longest wait: at a lower rate, the thread sleeps in between.
    const LONGEST_WAIT: Duration = Duration::from_millis(1);
    const STRETCH: Duration = Duration::from_millis(10);

    fn load(point: &'static str, program: &'static str, cpu: u32) -> Result<Self, Error> {
        let mut bpf = test_object()?;
        bpf.set_knobs(knobs())?;
        Ok(Self {
            point,
            slots: bpf.spin_slots()?,
            waits: take_array(&mut bpf, "WAITS"),
            made: take_array(&mut bpf, "MADE"),
            spun_before: 0,
            program,
            bpf,
            cpu,
        })
    }

    fn stats(&self) -> Result<CpuStats, Error> {
        Ok(self.bpf.stats()?[self.cpu as usize])
    }

    /// Has the program wait so often for so long, in the stretches to come.
    fn prepare(&mut self, gaps: u64, length: Duration) -> Result<(), Error> {
        let length_ns = u64::try_from(length.as_nanos())?;
        for place in 0..Self::WAITS {
            self.waits.set(place, [length_ns, 0], 0)?;
        }
        Ok(self.made.set(0, [0, gaps], 0)?)
    }

    /// Runs one stretch. It ends after the first wait that is over later than that.
    fn stretch(&self, length: Duration) -> Result<(), Error> {
        let slot = self.slots.get(self.cpu).ok_or("no slot")?;
        let length_ns = u64::try_from(length.as_nanos())?;
        let number = slot.arm(length_ns, monotonic_ns() + 1_000_000_000);
        // The timer runs only while this thread does.
        while slot.ended() < number {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Runs stretches until all gaps are made.
    fn make_all(&self, gaps: u64) -> Result<(), Error> {
        while self.made.get(&0, 0)?[0] < gaps {
            self.stretch(Self::STRETCH)?;
        }
        Ok(())
    }

    /// Time that was spun and not watched so far, in ns.
    fn blind_ns(&self) -> Result<u64, Error> {
        let slot = self.slots.get(self.cpu).ok_or("no slot")?;
        Ok(slot.spun_ns() - self.spun_before - self.stats()?.stretches.exposure_ns)
    }

    /// Counts from nothing. The program runs for as long as what is returned is kept: the timers of two would leave a slow
    /// machine no time for the thread between them.
    fn begin(&mut self, sources: Sources) -> Result<ThreadClock, Error> {
        self.bpf.set_sources(sources)?;
        self.bpf.reset_stats()?;
        self.spun_before = self.slots.get(self.cpu).ok_or("no slot")?.spun_ns();
        let program = self.bpf.perf_event_program(self.program)?;
        Ok(ThreadClock::open(program, MIN_PERIOD_NS)?)
    }

    /// ns a gap.
    fn round(&mut self, sources: Sources, pace: Pace) -> Result<f64, Error> {
        let _clock = self.begin(sources)?;
        let between = pace.between();
        if between <= Self::LONGEST_WAIT {
            self.prepare(pace.gaps, between)?;
            self.make_all(pace.gaps)?;
        } else {
            self.prepare(pace.gaps, Self::LONGEST_WAIT)?;
            pace.keep(|| self.stretch(Self::LONGEST_WAIT / 2))?;
        }
        let counted = self.stats()?.gaps.count;
        if counted != pace.gaps {
            return Err(format!("{counted} gaps were counted of {}", pace.gaps).into());
        }
        self.bpf.take_gaps(|_| {});
        Ok(self.blind_ns()? as f64 / pace.gaps as f64)
    }

    /// Some seconds at the highest rate, single gaps fetched each second as smilat does.
    fn loss(&mut self, sources: Sources) -> Result<serde_json::Value, Error> {
        let (per_s, ..) = RATES[RATES.len() - 1];
        let between = Pace { per_s, gaps: per_s }.between();
        let _clock = self.begin(sources)?;
        let mut fetched = 0;
        for _ in 0..LOSS_SECONDS {
            self.prepare(per_s, between)?;
            self.make_all(per_s)?;
            self.bpf.take_gaps(|_| fetched += 1);
        }
        let made = LOSS_SECONDS * per_s;
        Ok(loss(self.point, made, &self.stats()?, fetched))
    }
}
