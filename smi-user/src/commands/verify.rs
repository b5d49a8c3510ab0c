//! `smilat verify`: fire SMIs while a detector watches, and judge what each part saw of them.

use std::{
    io::{self, Write as _},
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    fire::{self, Prepared},
    messages,
};
use crate::{
    attribution::Attribution,
    bpf::Bpf,
    cli::VerifyArgs,
    collector::Collector,
    counter,
    detector::{self, Availability, Detector},
    firing::{self, Order, reader::Reader},
    kernel::{cpus::CpuList, port::Ports, sched},
    model::Snapshot,
    report,
    settings::{Mode, Preset, Settings, Wanted},
    verifying::{self, Counted, State, Trial, Watched, Writes},
};

/// Exit status when a step was refuted.
const REFUTED: u8 = 1;
/// Exit status when nothing was refuted, but not everything proven; also when nothing was done.
const UNPROVEN: u8 = 2;

/// The detector goes on for so long after the last write: the window under way ends, and its gaps are fetched.
const AFTER: Duration = Duration::from_millis(300);

/// The longest sleep before it is looked whether to stop, and gaps are fetched.
const NAP: Duration = Duration::from_millis(50);

/// Runs the command.
///
/// # Errors
/// When the trial could not be carried out: what cannot be proven here is part of the report instead.
pub fn run(args: &VerifyArgs) -> Result<ExitCode> {
    messages::init(log::LevelFilter::Warn);
    let Prepared {
        online,
        order,
        request,
        place,
    } = fire::prepare(args.count, args.shot)?;
    let aim = Aim::choose(args, order.cpu, &online)?;
    let trial = match place {
        Availability::Missing { reason, remedy } => {
            let mut reader = open(args, &online, None);
            not_fired(&mut reader, format!("{reason}; {remedy}"))
        }
        Availability::Ready if !args.shot.yes => {
            eprint!("{}", fire::explanation(&order, request.as_deref(), &place));
            return Ok(ExitCode::from(UNPROVEN));
        }
        Availability::Ready => carry_out(args, &order, aim, &online)?,
    };
    let steps = verifying::judge(&trial);
    let text = if args.json {
        serde_json::to_string(&steps).context("the steps cannot be written as JSON")? + "\n"
    } else {
        report::verify(&steps)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")?;
    let any = |state| steps.iter().any(|step| step.state == state);
    Ok(if any(State::Refuted) {
        ExitCode::from(REFUTED)
    } else if any(State::Unproven) {
        ExitCode::from(UNPROVEN)
    } else {
        ExitCode::SUCCESS
    })
}

/// What is to be watched, by what.
struct Aim {
    cpu: u32,
    settings: Settings,
    detector: Box<dyn Detector>,
}

impl Aim {
    /// Chosen and checked before anything is fired; why there is nothing to watch, where it is so.
    ///
    /// # Errors
    /// When something was asked for that cannot be had.
    fn choose(
        args: &VerifyArgs,
        writer: u32,
        online: &CpuList,
    ) -> Result<std::result::Result<Self, String>> {
        let allowed = sched::allowed(online);
        let cpu = match args.watch {
            Some(cpu) if cpu == writer => bail!(
                "--watch {cpu} is the CPU that writes, and a CPU that writes cannot be reading the clock at that moment; \
                 choose another"
            ),
            Some(cpu) => cpu,
            None => match allowed.iter().find(|cpu| *cpu != writer) {
                Some(cpu) => cpu,
                None => {
                    return Ok(Err(format!(
                        "CPU {writer}, which writes, is the only one this process may use, and a CPU that writes cannot \
                         be reading the clock at that moment"
                    )));
                }
            },
        };
        ensure!(
            args.detector != detector::Choice::All,
            "--detector all lists detectors in smilat run; name one here, or leave it out"
        );
        let preset = Preset::Thorough.defaults();
        let wanted = Wanted {
            threshold: args.threshold,
            width: preset.width,
            window: preset.window,
            irqs_off_max: preset.irqs_off_max,
            mode: Mode::PerCpu,
            cpus: Some([cpu].into_iter().collect()),
            rt_priority: 1,
            records_per_s: 10_000,
            force: false,
        };
        let settings = Settings::check(wanted, online, &allowed)?;
        if args.counter != counter::Choice::Auto {
            counter::chosen(args.counter)?;
        }
        Ok(match detector::choose(args.detector) {
            Ok((detector, _)) => Ok(Self {
                cpu,
                settings,
                detector,
            }),
            Err(error) if args.detector == detector::Choice::Auto => Err(format!("{error:#}")),
            Err(error) => return Err(error),
        })
    }

    /// Starts the detector.
    fn watch(&self, args: &VerifyArgs) -> Result<Collector> {
        let highest_cpu = CpuList::highest_possible()?;
        let mut bpf = Bpf::load(highest_cpu)?;
        let attribution = Attribution::start(&mut bpf, args.counter, &self.settings.cpus)?;
        let running = self.detector.start(&mut bpf, &self.settings)?;
        Ok(Collector::new(
            bpf,
            running,
            attribution,
            self.detector.as_ref(),
            &self.settings,
        ))
    }
}

/// The counts of the CPUs that matter, or of all where none is watched.
fn open(args: &VerifyArgs, online: &CpuList, cpus: Option<[u32; 2]>) -> Reader {
    let cpus = cpus.map_or_else(|| online.clone(), |cpus| cpus.into_iter().collect());
    Reader::open(args.counter, &cpus).unwrap_or_else(|error| Reader::None(format!("{error:#}")))
}

/// A trial without a write.
fn not_fired(reader: &mut Reader, why: String) -> Trial {
    Trial {
        writes: Err(why),
        counter: counted(reader),
        watched: Err("no SMI was fired".to_owned()),
    }
}

fn counted(reader: &mut Reader) -> std::result::Result<Counted, String> {
    reader.finish().map(|counted| Counted {
        source: counted.source.to_owned(),
        exact: counted.exact,
        cpus: counted.cpus,
    })
}

/// Fires while the detector watches.
fn carry_out(
    args: &VerifyArgs,
    order: &Order,
    aim: std::result::Result<Aim, String>,
    online: &CpuList,
) -> Result<Trial> {
    let ports = Ports::open()?;
    let stop = fire::stop_on_signal()?;
    let mut collector = match &aim {
        Ok(aim) => Some(aim.watch(args)?),
        Err(_) => None,
    };
    let cpus = aim.as_ref().ok().map(|aim| [order.cpu, aim.cpu]);
    let mut reader = open(args, online, cpus);
    let times = write(order, &ports, collector.as_mut(), &stop)?;
    if times.is_empty() {
        return Ok(not_fired(
            &mut reader,
            "interrupted before anything was written".to_owned(),
        ));
    }
    let counter = counted(&mut reader);
    Ok(Trial {
        writes: Ok(Writes {
            cpu: order.cpu,
            times,
        }),
        counter,
        watched: match (aim, collector) {
            (Ok(aim), Some(collector)) => Ok(Watched {
                cpu: aim.cpu,
                snapshot: finish(collector)?,
            }),
            (Err(why), _) => Err(why),
            (Ok(_), None) => Err("nothing was watched".to_owned()),
        },
    })
}

/// Writes as ordered, one by one, and notes when.
fn write(
    order: &Order,
    ports: &Ports,
    mut collector: Option<&mut Collector>,
    stop: &AtomicBool,
) -> Result<Vec<Range<SystemTime>>> {
    let one = Order { count: 1, ..*order };
    let mut times = Vec::new();
    for _ in 0..order.count {
        // Not at a fixed distance, which might keep step with the windows.
        let due = Instant::now() + order.interval.mul_f64(0.5 + fastrand::f64());
        while let Some(left) = due.checked_duration_since(Instant::now())
            && !left.is_zero()
            && !stop.load(Ordering::Relaxed)
        {
            thread::sleep(left.min(NAP));
            fetch(&mut collector)?;
        }
        let before = SystemTime::now();
        if firing::fire(&one, ports, stop)?.count == 0 {
            log::warn!(
                "interrupted after {} of {} writes",
                times.len(),
                order.count
            );
            break;
        }
        times.push(before..SystemTime::now());
        fetch(&mut collector)?;
    }
    Ok(times)
}

/// Takes what waits, and passes on what there is to tell.
fn fetch(collector: &mut Option<&mut Collector>) -> Result<()> {
    if let Some(collector) = collector {
        collector.fetch()?;
        for warning in collector.warnings() {
            log::warn!("{warning}");
        }
    }
    Ok(())
}

fn finish(mut collector: Collector) -> Result<Snapshot> {
    thread::sleep(AFTER);
    fetch(&mut Some(&mut collector))?;
    let (snapshot, stopped) = collector.finish()?;
    stopped?;
    Ok(snapshot)
}
