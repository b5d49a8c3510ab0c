//! Records of the kernel side, made readable.

use jiff::Timestamp;
use smi_common::irqsoff::{self as wire, IrqsoffRecord, Kind, TRACE, TraceEntry, What};

use super::Exemptions;
use crate::{
    kernel::{clock::Epoch, kallsyms::SymbolError, naming::Naming},
    model::irqsoff::{Event, Handler, TraceLine},
};

/// Names of the softirqs, by their number (`softirq_to_name` in `kernel/softirq.c`).
const SOFTIRQS: [&str; 10] = [
    "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU",
];

/// The kind of `record`; `None` of a picture.
pub(super) fn kind(record: &IrqsoffRecord) -> Option<Kind> {
    Kind::ALL.get(record.kind as usize).copied()
}

/// `record` as an event; `None` when it is a picture. One tick is `tick_ns` long.
///
/// # Errors
/// When the kernel's symbols cannot be read.
pub fn event(
    record: &IrqsoffRecord,
    tick_ns: u64,
    epoch: Epoch,
    naming: &mut Naming,
    exemptions: &Exemptions,
) -> Result<Option<Event>, SymbolError> {
    let Some(kind) = kind(record) else {
        return Ok(None);
    };
    let stack = stack(record);
    let trace = trace(record);
    let of_trace = trace.iter().filter_map(function);
    let functions = [record.handler.function, record.callback.function];
    naming.learn(stack.iter().copied().chain(of_trace).chain(functions))?;
    let exempt = exemptions
        .of(stack.iter().copied().chain(functions))
        .map(|one| one.function.clone());
    Ok(Some(Event {
        time: Timestamp::try_from(epoch.date(record.at_ns)).unwrap_or(Timestamp::UNIX_EPOCH),
        cpu: record.cpu as u32,
        kind,
        least_ns: record.least_ns,
        most_ns: record.most_ns,
        // Ticks that came jitter: no fewer than those were due.
        ticks: (record.least_ns / tick_ns.max(1) + 1).max(record.ticks),
        arrived: record.ticks,
        process: record.process as u32,
        thread: record.thread as u32,
        comm: name(&record.comm),
        user_mode: record.user_mode == 1,
        handler: handler(&record.handler, naming),
        callback: handler(&record.callback, naming),
        stack: under(record, &stack, naming)
            .iter()
            .map(|address| naming.words(*address))
            .collect(),
        no_stack: no_stack(record),
        smis: record.smis,
        nmi_ns: record.nmi_ns,
        steal_ns: record.steal_ns,
        exempt: match exempt {
            None if record.exempt == 1 => Some("an earlier tick's".to_owned()),
            exempt => exempt,
        },
        trace: trace
            .iter()
            .map(|entry| TraceLine {
                before_ns: record.at_ns.saturating_sub(entry.at_ns),
                what: words(entry, naming),
            })
            .collect(),
    }))
}

/// The addresses on its stack, such that each lies within the function that was left there: a return address may be that
/// of the next one.
pub(super) fn stack(record: &IrqsoffRecord) -> Vec<u64> {
    let frames = usize::try_from(record.stack_bytes).unwrap_or(0) / size_of::<u64>();
    record
        .stack
        .iter()
        .take(frames)
        .enumerate()
        .map(|(frame, address)| address - u64::from(frame > 0 && *address > 0))
        .collect()
}

/// What of `stack` was interrupted, where it begins with the interrupt.
pub(super) fn under<'a>(record: &IrqsoffRecord, stack: &'a [u64], naming: &Naming) -> &'a [u64] {
    if record.address > 0 {
        return stack;
    }
    let entry = stack.iter().position(|address| {
        naming
            .place(*address)
            .is_some_and(|place| place.function.starts_with("asm_"))
    });
    entry.map_or(stack, |entry| &stack[entry + 1..])
}

fn no_stack(record: &IrqsoffRecord) -> Option<String> {
    if record.stack_bytes > 0 {
        None
    } else if record.user_mode == 1 {
        Some("the CPU was in user mode".to_owned())
    } else {
        let errno = i32::try_from(-record.stack_bytes).unwrap_or(0);
        Some(std::io::Error::from_raw_os_error(errno).to_string())
    }
}

/// Up to the first zero byte.
pub(super) fn name(comm: &[u8]) -> String {
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

/// The entries that were written, oldest first.
fn trace(record: &IrqsoffRecord) -> Vec<TraceEntry> {
    let newest = record.trace_next;
    (newest.saturating_sub(TRACE as u64)..newest)
        .map(|place| record.trace[place as usize % TRACE])
        .filter(|entry| entry.at_ns > 0)
        .collect()
}

fn handler(of: &wire::Handler, naming: &Naming) -> Option<Handler> {
    let (kind, named) = match what(of.what)? {
        What::IrqEntry => ("irq", Some(of.number.to_string())),
        What::SoftirqEntry => ("softirq", Some(softirq(of.number))),
        What::TimerEntry => ("timer", None),
        What::HrtimerEntry => ("hrtimer", None),
        What::CallEntry => ("call", None),
        What::WorkEntry => ("irq_work", None),
        _ => return None,
    };
    Some(Handler {
        kind: kind.to_owned(),
        of: named,
        function: (of.function > 0).then(|| naming.words(of.function)),
        ran_ns: (of.ended_ns > 0).then(|| of.length_ns()),
    })
}

fn softirq(number: u64) -> String {
    usize::try_from(number)
        .ok()
        .and_then(|number| SOFTIRQS.get(number))
        .map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

fn what(number: u64) -> Option<What> {
    const ALL: [What; 15] = [
        What::Switch,
        What::IrqEntry,
        What::IrqExit,
        What::SoftirqEntry,
        What::SoftirqExit,
        What::TimerEntry,
        What::TimerExit,
        What::HrtimerEntry,
        What::HrtimerExit,
        What::IdleEntry,
        What::IdleExit,
        What::CallEntry,
        What::CallExit,
        What::WorkEntry,
        What::WorkExit,
    ];
    ALL.into_iter().find(|what| *what as u64 == number)
}

/// The address of the function that `entry` is about, where there is one.
fn function(entry: &TraceEntry) -> Option<u64> {
    let address = match what(entry.what)? {
        What::IrqEntry => entry.second,
        What::TimerEntry
        | What::TimerExit
        | What::HrtimerEntry
        | What::HrtimerExit
        | What::CallEntry
        | What::CallExit => entry.first,
        _ => 0,
    };
    (address > 0).then_some(address)
}

fn words(entry: &TraceEntry, naming: &Naming) -> String {
    let number = entry.first;
    let mut text = match what(entry.what) {
        Some(What::Switch) => format!("switch from thread {number} to {}", entry.second),
        Some(What::IrqEntry) => format!("interrupt {number} begins"),
        Some(What::IrqExit) => format!("interrupt {number} ends"),
        Some(What::SoftirqEntry) => format!("softirq {} begins", softirq(number)),
        Some(What::SoftirqExit) => format!("softirq {} ends", softirq(number)),
        Some(What::TimerEntry) => "timer begins".to_owned(),
        Some(What::TimerExit) => "timer ends".to_owned(),
        Some(What::HrtimerEntry) => "hrtimer begins".to_owned(),
        Some(What::HrtimerExit) => "hrtimer ends".to_owned(),
        Some(What::IdleEntry) => format!("idle, state {number}"),
        Some(What::IdleExit) => "idle no more".to_owned(),
        Some(What::CallEntry) => "call by another CPU begins".to_owned(),
        Some(What::CallExit) => "call by another CPU ends".to_owned(),
        Some(What::WorkEntry) => "irq_work begins".to_owned(),
        Some(What::WorkExit) => "irq_work ends".to_owned(),
        Some(What::Nothing) | None => format!("entry of kind {}", entry.what),
    };
    if let Some(address) = function(entry) {
        text.push_str(": ");
        text.push_str(&naming.words(address));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irqsoff::made_up::record;

    fn read(record: &IrqsoffRecord) -> Event {
        let mut naming = Naming::default();
        event(
            record,
            1_000_000,
            Epoch::now(),
            &mut naming,
            &Exemptions::default(),
        )
        .expect("symbols")
        .expect("an event")
    }

    #[test]
    fn a_record_is_read_whole() {
        let event = read(&record());
        assert_eq!((event.cpu, event.kind), (1, Kind::Disabled));
        assert_eq!(
            (event.ticks, event.arrived),
            (21, 1),
            "20 ms and the first of 1 ms"
        );
        assert_eq!(event.comm, "worker");
        // Return addresses are led back into the call; nothing of the kernel's is there.
        assert_eq!(event.stack, ["0x1000", "0x2000", "0x3000"]);
        let handler = event.handler.expect("a handler");
        assert_eq!(
            (handler.kind.as_str(), handler.of.as_deref(), handler.ran_ns),
            ("irq", Some("24"), Some(20_000_000))
        );
        let trace: Vec<(u64, &str)> = event
            .trace
            .iter()
            .map(|line| (line.before_ns, line.what.as_str()))
            .collect();
        assert_eq!(
            trace,
            [
                (30_000_000, "switch from thread 5 to 7"),
                (20_000_000, "softirq NET_RX begins")
            ]
        );
    }

    #[test]
    fn why_there_is_no_stack_is_told() {
        let mut one = record();
        one.stack_bytes = -14;
        assert_eq!(
            read(&one).no_stack.as_deref(),
            Some("Bad address (os error 14)")
        );
        one.user_mode = 1;
        assert_eq!(
            read(&one).no_stack.as_deref(),
            Some("the CPU was in user mode")
        );
    }

    #[test]
    fn a_picture_is_no_event() {
        let mut one = record();
        one.kind = wire::PICTURE;
        let mut naming = Naming::default();
        let read = event(&one, 1, Epoch::now(), &mut naming, &Exemptions::default());
        assert_eq!(read.expect("symbols"), None);
    }
}
