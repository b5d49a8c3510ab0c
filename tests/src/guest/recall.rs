//! How many of the SMIs that come while a detector watches it sees, at one to a thousand in a second: `cargo xtask bench
//! recall` makes a table of what this prints (`xtask/src/bench/recall.rs`).
//!
//! Whether an SMI came while the detector watched is told by what it interrupted, as the saved state has it.

mod seen;

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use smi_user::{kernel::sched, model::Snapshot};

use super::{
    peers::{Hwlatdetect, Hwnoise, Sampling},
    smi::{self, Moment},
    spin,
    symbols::Symbols,
    truth::{AllTold, Fired, Kind, TRACER_LOOP, Told, WIDTH, WINDOW},
    watch::Watch,
};

/// The CPU that is watched.
const CPU: u32 = 1;

/// SMIs as they are fired.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: u32,
    /// How long each lasts: far more than most gaps that the emulator and its host make, as far as the rate has room for it.
    length: Duration,
    /// How long they are fired.
    lasts: Duration,
}

const RATES: [Rate; 4] = [
    Rate {
        per_second: 1,
        length: Duration::from_millis(5),
        lasts: Duration::from_secs(45),
    },
    Rate {
        per_second: 10,
        length: Duration::from_millis(5),
        lasts: Duration::from_secs(20),
    },
    Rate {
        per_second: 100,
        length: Duration::from_millis(1),
        lasts: Duration::from_secs(10),
    },
    Rate {
        per_second: 1_000,
        length: Duration::from_micros(300),
        lasts: Duration::from_secs(10),
    },
];

impl Rate {
    /// All tools get the same.
    fn sampling(&self) -> Sampling {
        Sampling {
            threshold: self.length * 4 / 5,
            width: WIDTH,
            window: WINDOW,
        }
    }

    /// From the SMI of this number to the next: not a fixed time, which might keep step with the windows, but as long on
    /// average as the rate has it.
    fn pause(&self, number: u32) -> Duration {
        let period = Duration::from_secs(1) / self.per_second;
        period * (75 + number * 37 % 51) / 100
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Tool {
    /// A detector of smilat's.
    Smilat(&'static str),
    Hwnoise,
    Hwlatdetect,
}

const TOOLS: [Tool; 5] = [
    Tool::Smilat("spin"),
    Tool::Smilat("osnoise"),
    Tool::Smilat("hwlat"),
    Tool::Hwnoise,
    Tool::Hwlatdetect,
];

impl Tool {
    /// As the table's maker knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Smilat(detector) => detector,
            Self::Hwnoise => "rtla-hwnoise",
            Self::Hwlatdetect => "hwlatdetect",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Smilat("hwlat") | Self::Hwlatdetect => Kind::Windows,
            Self::Smilat(_) | Self::Hwnoise => Kind::Gaps,
        }
    }
}

/// What a tool told of the SMIs that were fired.
struct Outcome {
    fired: Vec<Fired>,
    /// How long that took.
    took: Duration,
    /// `None` when it tells of no single gap or window.
    told: Option<Vec<Told>>,
    /// Gaps, as the tool itself counts them.
    counted: Option<u64>,
    /// Gaps that it counted and did not tell.
    lost: u64,
    /// Where the CPU's code lay meanwhile.
    symbols: Symbols,
}

/// All tools at all rates, one after the other in the same machine.
pub(super) fn smis_of_every_rate_are_seen() {
    sched::set_affinity([0]).expect("affinity");
    for rate in &RATES {
        for tool in TOOLS {
            let outcome = match tool {
                Tool::Smilat(detector) => smilat(detector, rate),
                Tool::Hwnoise => hwnoise(rate),
                Tool::Hwlatdetect => hwlatdetect(rate),
            };
            outcome.print(tool, rate);
        }
    }
}

/// Fires at CPU 1 from CPU 0. Each SMI is over before the next, and each is in the handler's log and in the CPU's own count.
fn fire_all(rate: &Rate, symbols: &Symbols, functions: &[&str]) -> (Vec<Fired>, Duration) {
    /// The rates of the two clocks are known well enough for that long.
    const CLOCKS_AGREE: Duration = Duration::from_millis(100);
    smi::set_length(rate.length);
    let before = (smi::handler_count(), smi::msr_count(CPU));
    let mut fired: Vec<Fired> = Vec::new();
    let mut moment = (Moment::now(), Instant::now());
    let began = Instant::now();
    let mut due = began;
    let mut number = 0;
    while due < began + rate.lasts {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if moment.1.elapsed() > CLOCKS_AGREE {
            moment = (Moment::now(), Instant::now());
        }
        smi::fire_on(CPU);
        let now = Instant::now();
        number += 1;
        let pause = rate.pause(number);
        // One that came late is not made up for at once: the two would be one stop.
        due = (due + pause).max(now + pause / 2);
        // It is over at half of the pause, unless the host keeps it.
        thread::sleep(pause / 2);
        smi::wait_for(before.0 + number);
        let [smi] = smi::records(before.0 + number - 1)[..] else {
            panic!("more than one SMI came");
        };
        assert_eq!(smi.cpu, CPU);
        fired.push(Fired::new(smi, true, &moment.0, symbols, functions));
    }
    let took = began.elapsed();
    assert_eq!(smi::handler_count() - before.0, number, "others came");
    assert_eq!(smi::msr_count(CPU) - before.1, u64::from(number));
    (fired, took)
}

fn smilat(detector: &'static str, rate: &Rate) -> Outcome {
    let micros = |name: &str, time: Duration| format!("--{name}={}us", time.as_micros());
    let sampling = rate.sampling();
    let watch = Watch::start(&[
        &format!("--detector={detector}"),
        "--mode=per-cpu",
        &format!("--cpus={CPU}"),
        "--max-gap-records=100000",
        "--force",
        &micros("irqs-off-max", sampling.width),
        &micros("width", sampling.width),
        &micros("window", sampling.window),
        &micros("threshold", sampling.threshold),
    ]);
    // The program's name has just been given to its code.
    let symbols = Symbols::read();
    let functions: &[&str] = match detector {
        "spin" => &spin::LOOP,
        _ => &TRACER_LOOP,
    };
    let (fired, took) = fire_all(rate, &symbols, functions);
    let all = watch.finish();
    let gaps = all.iter().flat_map(|one: &Snapshot| &one.gaps);
    let told: Vec<Told> = gaps.map(Told::from).collect();
    let last = all.last().expect("a snapshot");
    let cpu = &last.cpus[0];
    let counted = match cpu.tracer.steps_over {
        0 => cpu.gaps.count,
        steps => steps,
    };
    Outcome {
        fired,
        took,
        lost: cpu.gaps.count - told.len() as u64,
        told: Some(told),
        counted: Some(counted),
        symbols,
    }
}

fn hwnoise(rate: &Rate) -> Outcome {
    let symbols = Symbols::read();
    let hwnoise = Hwnoise::start(rate.sampling());
    let (fired, took) = fire_all(rate, &symbols, &TRACER_LOOP);
    let report = hwnoise.finish();
    Outcome {
        fired,
        took,
        told: None,
        counted: Some(report.hardware),
        lost: 0,
        symbols,
    }
}

fn hwlatdetect(rate: &Rate) -> Outcome {
    let symbols = Symbols::read();
    let hwlatdetect = Hwlatdetect::start(rate.sampling(), Duration::from_secs(1));
    let (fired, took) = fire_all(rate, &symbols, &TRACER_LOOP);
    let report = hwlatdetect.finish();
    Outcome {
        fired,
        took,
        told: Some(report.samples.iter().map(Told::from).collect()),
        counted: None,
        lost: 0,
        symbols,
    }
}

impl Outcome {
    fn print(self, tool: Tool, rate: &Rate) {
        let inside = self.fired.iter().filter(|one| one.is_inside).count();
        let told = self.told.as_ref().map(Vec::len);
        let mut line = json!({
            "tool": tool.name(),
            "per_second": rate.per_second,
            "length_us": rate.length.as_micros() as u64,
            "seconds": self.took.as_secs_f64(),
            "fired": self.fired.len(),
            "inside": inside,
            "told": told,
            "counted": self.counted,
            "lost": self.lost,
        });
        let mut elsewhere: BTreeMap<&str, u32> = BTreeMap::new();
        for one in &self.fired {
            if !one.is_inside && !one.smi.interrupts_on {
                let name = self.symbols.name_of(one.smi.rip);
                *elsewhere.entry(name).or_default() += 1;
            }
        }
        println!(
            "    {} at {}/s: interrupts off, and not in its loop: {elsewhere:?}",
            tool.name(),
            rate.per_second
        );
        match (self.told, tool.kind()) {
            (Some(told), Kind::Gaps) => {
                let told = AllTold::new(Kind::Gaps, told);
                line["gaps"] = seen::gaps(&self.fired, &told, &self.symbols);
            }
            (Some(told), Kind::Windows) => line["windows"] = seen::windows(&self.fired, told),
            (None, _) => {}
        }
        println!("    BENCH {line}");
    }
}
