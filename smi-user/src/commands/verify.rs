//! `smilat verify`: fire SMIs while a detector watches, and judge what each part saw of them.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use super::fire;
use crate::{
    attribution::Attribution,
    bpf::Bpf,
    cli::VerifyArgs,
    collector::Collector,
    detector::{self, Availability, Detector},
    firing::{self, Order, place, reader::Reader, value},
    kernel::{cpus::CpuList, fadt::Fadt, port::Ports, sched},
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

/// Runs the command.
///
/// # Errors
/// When the trial could not be carried out: what cannot be proven here is part of the report instead.
pub fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let online = CpuList::online()?;
    let order = Order {
        count: args.count,
        interval: args.interval,
        value: args.value,
        cpu: fire::cpu(args.cpu, &online)?,
    };
    let fadt = Fadt::read();
    let request = value::request(order.value, fadt.as_ref());
    if !args.force
        && let Some(request) = &request
    {
        bail!(
            "--value {:#04x} is refused: {request}; choose another, or insist with --force",
            order.value
        );
    }
    let place = place::probe(fadt.as_ref(), args.force);
    if !args.yes && place == Availability::Ready {
        eprint!("{}", fire::explanation(&order, request.as_deref(), &place));
        return Ok(ExitCode::from(UNPROVEN));
    }
    let stop = fire::stop_on_signal()?;
    let trial = carry_out(args, &order, &place, &online, &stop)?;
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

/// Does as much of it as can be done here.
fn carry_out(
    args: &VerifyArgs,
    order: &Order,
    place: &Availability,
    online: &CpuList,
    stop: &AtomicBool,
) -> Result<Trial> {
    let mut reader = Reader::open(online)?;
    let mut times = Vec::new();
    let mut failure = None;
    let mut fire_all = |collector: Option<&mut Collector>| -> Result<()> {
        if let Availability::Missing { reason, remedy } = place {
            failure = Some(format!("{reason}; {remedy}"));
            return Ok(());
        }
        times = write(order, collector, stop)?;
        Ok(())
    };
    let watched = match start(args, order.cpu, online) {
        Ok((cpu, mut collector)) => {
            fire_all(Some(&mut collector))?;
            Ok(Watched {
                cpu,
                snapshot: finish(collector)?,
            })
        }
        Err(error) => {
            fire_all(None)?;
            Err(format!("{error:#}"))
        }
    };
    Ok(Trial {
        writes: match failure {
            Some(why) => Err(why),
            None => Ok(Writes {
                cpu: order.cpu,
                times,
            }),
        },
        counter: reader.finish().map(|counted| Counted {
            source: counted.source.to_owned(),
            cpus: counted.cpus,
        }),
        watched,
    })
}

/// Starts the detector on a CPU other than the one that writes.
fn start(args: &VerifyArgs, writer: u32, online: &CpuList) -> Result<(u32, Collector)> {
    let allowed = sched::allowed(online);
    let cpu = match args.watch {
        Some(cpu) if cpu == writer => bail!(
            "--watch {cpu} is the CPU that writes, and a CPU that writes cannot be reading the clock at that moment; \
             choose another"
        ),
        Some(cpu) => cpu,
        None => allowed.iter().find(|cpu| *cpu != writer).with_context(|| {
            format!(
                "CPU {writer}, which writes, is the only one this process may use, and a CPU that writes cannot be \
                 reading the clock at that moment"
            )
        })?,
    };
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
    let (detector, _) = detector::choose(args.detector)?;
    let highest_cpu = CpuList::possible()?.highest().unwrap_or_default();
    let mut bpf = Bpf::load(highest_cpu)?;
    let attribution = Attribution::start(&mut bpf, args.counter, &settings.cpus)?;
    let running = detector.start(&mut bpf, &settings)?;
    let detector: &dyn Detector = detector.as_ref();
    Ok((
        cpu,
        Collector::new(bpf, running, attribution, detector, &settings),
    ))
}

/// Writes as ordered, one by one, and notes when.
fn write(
    order: &Order,
    mut collector: Option<&mut Collector>,
    stop: &AtomicBool,
) -> Result<Vec<std::ops::Range<SystemTime>>> {
    let ports = Ports::open()?;
    let one = Order { count: 1, ..*order };
    let mut times = Vec::new();
    for _ in 0..order.count {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Not at a fixed distance, which might keep step with the windows.
        thread::sleep(order.interval.mul_f64(0.5 + fastrand::f64()));
        let before = SystemTime::now();
        firing::fire(&one, &ports, stop)?;
        times.push(before..SystemTime::now());
        if let Some(collector) = &mut collector {
            collector.fetch()?;
        }
    }
    Ok(times)
}

fn finish(mut collector: Collector) -> Result<Snapshot> {
    thread::sleep(AFTER);
    collector.fetch()?;
    let (snapshot, stopped) = collector.finish()?;
    stopped?;
    Ok(snapshot)
}
