//! Events that tests make up.

use jiff::Timestamp;
use smi_common::irqsoff::{FRAMES, IrqsoffRecord, Kind, TRACE, TraceEntry, What};

use crate::model::irqsoff::{CpuCounts, Event, Handler, IrqsoffSnapshot, KindCounts, TraceLine};

/// 550 ms with interrupts off, in the callback of a timer.
pub(crate) fn event() -> Event {
    Event {
        time: "2026-11-23T01:25:54.093Z".parse().expect("a time"),
        cpu: 1,
        kind: Kind::Disabled,
        least_ns: 542_000_000,
        most_ns: 551_000_000,
        ticks: 55,
        arrived: 1,
        process: 3693,
        thread: 3696,
        comm: "looper".to_owned(),
        user_mode: false,
        handler: Some(Handler {
            kind: "timer".to_owned(),
            of: None,
            function: Some("looper_callback [looper]".to_owned()),
            ran_ns: Some(550_000_000),
        }),
        callback: None,
        stack: vec![
            "__do_softirq+0x9e".to_owned(),
            "irq_exit_rcu+0x4d".to_owned(),
        ],
        no_stack: None,
        smis: 0,
        nmi_ns: 0,
        steal_ns: 85_500,
        exempt: None,
        trace: vec![TraceLine {
            before_ns: 551_000_000,
            what: "switch from thread 15 to 3696".to_owned(),
        }],
    }
}

/// Two CPUs, of which the second had it.
pub(crate) fn snapshot() -> IrqsoffSnapshot {
    let cpu = |cpu| CpuCounts {
        cpu,
        ticks: 84,
        missed: 0,
        smis_unread: 0,
        watched_ns: 840_000_000,
        late_max_ns: 90_700,
        kinds: Vec::new(),
        records_sent: 0,
        records_lost: 0,
    };
    let second = CpuCounts {
        ticks: 25,
        missed: 54,
        late_max_ns: 542_000_000,
        kinds: vec![KindCounts {
            count: 1,
            sum_ns: 542_000_000,
            max_ns: 542_000_000,
            histogram: [542_000_000].into_iter().collect(),
            ..KindCounts::none(Kind::Disabled)
        }],
        records_sent: 1,
        ..cpu(1)
    };
    IrqsoffSnapshot {
        schema_version: crate::model::irqsoff::IRQSOFF_SCHEMA_VERSION,
        time: Timestamp::UNIX_EPOCH,
        interval: 1,
        elapsed_ns: 869_000_000,
        last: true,
        tick_ns: 10_000_000,
        threshold_ns: Some(40_000_000),
        logged: 1,
        suppressed: 0,
        cpus: vec![cpu(0), second],
    }
}

/// A record with three frames and two entries of a trace that has gone round once.
pub(crate) fn record() -> IrqsoffRecord {
    let mut record = IrqsoffRecord {
        at_ns: 1_000_000_000,
        kind: Kind::Disabled as u64,
        cpu: 1,
        least_ns: 20_000_000,
        most_ns: 21_500_000,
        ticks: 1,
        exempt: 0,
        process: 10,
        thread: 11,
        comm: *b"worker\0of what?\0",
        user_mode: 0,
        address: 0x1000,
        smis: 0,
        nmi_ns: 0,
        steal_ns: 0,
        handler: smi_common::irqsoff::Handler {
            what: What::IrqEntry as u64,
            number: 24,
            function: 0,
            began_ns: 979_000_000,
            ended_ns: 999_000_000,
        },
        callback: smi_common::irqsoff::Handler::default(),
        stack_bytes: 24,
        stack: [0; FRAMES],
        trace_next: TRACE as u64 + 1,
        trace: [TraceEntry::default(); TRACE],
    };
    record.stack[..3].copy_from_slice(&[0x1000, 0x2001, 0x3001]);
    let entry = |at_ns, what: What, first| TraceEntry {
        at_ns,
        what: what as u64,
        first,
        second: 7,
    };
    // The newest is at the place that the oldest had.
    record.trace[0] = entry(980_000_000, What::SoftirqEntry, 3);
    record.trace[TRACE - 1] = entry(970_000_000, What::Switch, 5);
    record
}
