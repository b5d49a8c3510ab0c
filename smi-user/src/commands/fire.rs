//! `smilat fire`: fire SMIs, and see what a counter says.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};

use super::signals::Signals;
use crate::{
    cli::{FireArgs, Shot},
    counter,
    detector::Availability,
    firing::{
        self, Order, PORT,
        outcome::{Outcome, Verdict},
        place,
        reader::Reader,
        value,
    },
    kernel::{cpus::CpuList, fadt::Fadt, port::Ports, sched},
    report,
};

/// Exit status when the counter did not move as it should.
const NOT_PROVEN: u8 = 1;
/// Exit status when nothing was done.
const NOT_DONE: u8 = 2;

/// Runs the command.
///
/// # Errors
/// When no SMI can be fired here, or the counter cannot be read.
pub fn run(args: &FireArgs) -> Result<ExitCode> {
    let Prepared {
        online,
        order,
        request,
        place,
    } = prepare(args.count, args.shot)?;
    if !args.shot.yes {
        eprint!("{}", explanation(&order, request.as_deref(), &place));
        return Ok(ExitCode::from(NOT_DONE));
    }
    if let Availability::Missing { reason, remedy } = place {
        bail!("no SMI can be fired here: {reason}; {remedy}");
    }
    let ports = Ports::open()?;
    let mut counter = Reader::open(counter::Choice::Auto, &online)?;
    let stop = stop_on_signal()?;
    let writes = firing::fire(&order, &ports, &stop)?;
    let outcome = Outcome {
        order,
        writes,
        counted: counter.finish(),
    };
    io::stdout()
        .write_all(report::fire(&outcome).as_bytes())
        .context("cannot write to standard output")?;
    Ok(match outcome.verdict() {
        Verdict::Proven | Verdict::NoCounter => ExitCode::SUCCESS,
        Verdict::Differs { .. } => ExitCode::from(NOT_PROVEN),
        Verdict::Unread => ExitCode::from(NOT_DONE),
    })
}

/// What is to be done, looked at before anything is.
pub(super) struct Prepared {
    /// The CPUs there are.
    pub(super) online: CpuList,
    /// What to do.
    pub(super) order: Order,
    /// What firmware takes the value for, where something is known.
    pub(super) request: Option<String>,
    /// Whether it can be done here.
    pub(super) place: Availability,
}

/// Looks at it.
///
/// # Errors
/// When the CPU cannot be had, or the value is one that firmware takes for a request and nobody insists.
pub(super) fn prepare(count: u64, shot: Shot) -> Result<Prepared> {
    let online = CpuList::online()?;
    let order = Order {
        count,
        interval: shot.interval,
        value: shot.value,
        cpu: cpu(shot.cpu, &online)?,
    };
    let fadt = Fadt::read();
    let request = value::request(order.value, fadt.as_ref());
    if !shot.force
        && let Some(request) = &request
    {
        bail!(
            "--value {:#04x} is refused: {request}; choose another, or insist with --force",
            order.value
        );
    }
    Ok(Prepared {
        place: place::probe(fadt.as_ref(), shot.force),
        online,
        order,
        request,
    })
}

/// The CPU asked for, else the first that this process may run on.
fn cpu(asked: Option<u32>, online: &CpuList) -> Result<u32> {
    let allowed = sched::allowed(online);
    if let Some(cpu) = asked {
        [cpu]
            .into_iter()
            .collect::<CpuList>()
            .check_within(online, &allowed)?;
        return Ok(cpu);
    }
    allowed
        .iter()
        .next()
        .context("this process may run on no CPU")
}

/// What would be done, for one who has not said yes to it.
pub(super) fn explanation(order: &Order, request: Option<&str>, place: &Availability) -> String {
    let beware = request.map_or_else(String::new, |request| {
        format!("Beware of {:#04x}: {request}.\n", order.value)
    });
    let unready = if order.cpu == 0 {
        ""
    } else {
        "Some firmware, SeaBIOS for one, is ready for SMIs on CPU 0 only: on another CPU they hang the machine.\n"
    };
    let here = match place {
        Availability::Ready => {
            "Nothing has been written. Run it again with --yes to do it.".to_owned()
        }
        Availability::Missing { reason, remedy } => {
            format!("Nothing has been written, and here it could not be: {reason}; {remedy}.")
        }
    };
    format!(
        "This would have CPU {cpu} write {value:#04x} to I/O port {PORT:#x} {rhythm}.\n\
         \n\
         Each write makes the chipset raise a System Management Interrupt. Firmware then takes that CPU, on most machines\n\
         all CPUs, away from the kernel for some microseconds up to many milliseconds, and may take the value for a request.\n\
         Which values mean what is up to the firmware and seldom documented: one it does not know is mostly ignored, but\n\
         settings may change, and the machine may hang or reset. Do it where nothing depends on the machine.\n\
         {beware}{unready}\
         \n\
         {here}\n",
        cpu = order.cpu,
        value = order.value,
        rhythm = order.rhythm(),
    )
}

/// Set by the signals that end a command, so that what was done is reported.
pub(super) fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::new()?
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    thread::spawn(move || {
        runtime.block_on(signals.next());
        stopping.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}
