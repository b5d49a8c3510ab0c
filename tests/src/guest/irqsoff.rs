//! `smilat irqsoff` beside a kernel module that keeps interrupts, preemption or bottom halves off for known times.

use std::{
    collections::BTreeMap,
    fs, hint,
    process::ExitStatus,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use smi_common::irqsoff::Kind;
use smi_user::{
    kernel::{cpus::CpuList, sched},
    model::irqsoff::{Event, IrqsoffSnapshot, KindCounts},
};

use super::{host, telling::Telling};
use crate::smilat;

/// The module's way in (`tests/offender/smilat_offender.c`).
const OFFEND: &str = "/sys/module/smilat_offender/parameters/offend";

/// How often each stack was logged since the machine started.
const LOGGED: &str = "/run/smilat/irqsoff.json";

/// The CPU that is kept from something: the last.
fn cpu() -> u32 {
    CpuList::online()
        .ok()
        .and_then(|online| online.highest())
        .expect("a CPU is online")
}

/// A line of the report.
enum Line {
    Event(Box<Event>),
    Snapshot(IrqsoffSnapshot),
}

impl Line {
    fn parse(text: &str) -> Self {
        let line: Value = serde_json::from_str(text).expect(text);
        match line.get("event") {
            Some(event) => Self::Event(serde_json::from_value(event.clone()).expect(text)),
            None => Self::Snapshot(serde_json::from_value(line["snapshot"].clone()).expect(text)),
        }
    }
}

/// A `smilat irqsoff` under way. Dropped, it ends.
struct Watch(Telling<Line>);

/// What it told until its end.
struct Told {
    status: ExitStatus,
    last: IrqsoffSnapshot,
    words: String,
}

impl Watch {
    /// Starts it, and waits until it watches.
    #[track_caller]
    fn start(args: &[&str]) -> Self {
        let mut command = smilat();
        command
            .args(["irqsoff", "--format=ndjson", "--interval=1s"])
            .args(args);
        let telling = Telling::start(command, Line::parse);
        loop {
            match telling.next() {
                Ok(Line::Snapshot(_)) => return Self(telling),
                Ok(Line::Event(_)) => {}
                Err(_) => {
                    telling.signal(libc::SIGKILL);
                    panic!("no snapshot; {}", telling.ended().words);
                }
            }
        }
    }

    /// All events until the second snapshot from now on: what was found before now is among them.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let now = Timestamp::now();
        let mut snapshots = 0;
        while snapshots < 2 {
            match self.0.next().expect("a line") {
                Line::Event(event) => events.push(*event),
                Line::Snapshot(snapshot) => snapshots += u32::from(snapshot.time > now),
            }
        }
        events
    }

    /// Ends it as Ctrl-C does.
    fn end(self) -> Told {
        self.0.signal(libc::SIGINT);
        let ended = self.0.ended();
        let last = ended.lines.into_iter().rev().find_map(|line| match line {
            Line::Snapshot(snapshot) => Some(snapshot),
            Line::Event(_) => None,
        });
        let last = last.expect(&ended.words);
        assert!(last.last, "{}", ended.words);
        Told {
            status: ended.status,
            last,
            words: ended.words,
        }
    }
}

/// Has the module keep `what` off in `context`; for how many ns it did.
#[track_caller]
fn offend(context: &str, what: &str, length: Duration) -> u64 {
    let asked = format!("{context} {what} {} {}", length.as_micros(), cpu());
    fs::write(OFFEND, &asked).expect(&asked);
    let took = fs::read_to_string(OFFEND).expect("how long");
    took.trim().parse().expect(&took)
}

/// Whether any part of `event` names a function that begins so.
fn names(event: &Event, function: &str) -> bool {
    let handlers = [&event.handler, &event.callback].into_iter().flatten();
    event
        .stack
        .iter()
        .map(String::as_str)
        .chain(handlers.filter_map(|handler| handler.function.as_deref()))
        .any(|name| name.starts_with(function))
}

/// The events that the module made: an emulated CPU is stopped by its host too, and nothing tells.
fn of_module(events: &[Event]) -> Vec<&Event> {
    events
        .iter()
        .filter(|event| event.cpu == cpu() && names(event, "smilat_"))
        .collect()
}

const TICK: Duration = Duration::from_millis(2);
const LENGTHS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(550),
];

/// Where a stretch is made, and which function must be found in what part of the event.
const CONTEXTS: [(&str, &str); 4] = [
    ("process", "smilat_irqs_off"),
    ("timer", "smilat_timer_callback"),
    ("hrtimer", "smilat_hrtimer_callback"),
    ("tasklet", "smilat_tasklet_callback"),
];

/// What comes before and after the part of a stretch that the module measures: interrupts' own way in and out.
const OWN_NS: u64 = 100_000;

/// For each context and length.
pub(super) fn each_stretch_with_interrupts_off_is_found_once_with_its_length_and_function() {
    for length in LENGTHS {
        // Below the length, and within 3 to 62 ticks.
        let (tick, threshold) = if length > Duration::from_millis(50) {
            ("--tick=10ms", "--threshold=50ms")
        } else {
            ("--tick=2ms", "--threshold=15ms")
        };
        let tick_ns = if tick.ends_with("10ms") {
            10_000_000
        } else {
            TICK.as_nanos() as u64
        };
        let watch = Watch::start(&[tick, threshold]);
        for (context, function) in CONTEXTS
            .iter()
            .chain(&[("irqtimer", "smilat_timer_callback")])
        {
            let took_ns = offend(context, "irqs", length);
            let events = watch.events();
            let found = of_module(&events);
            let [event] = found[..] else {
                panic!(
                    "{context}, {length:?}: {} events of it: {events:#?}",
                    found.len()
                );
            };
            println!(
                "    {context}, {length:?}: off for {} us, found as {} to {} us, {} {:?} {:?}",
                took_ns / 1000,
                event.least_ns / 1000,
                event.most_ns / 1000,
                event
                    .handler
                    .as_ref()
                    .map_or("no handler", |of| of.kind.as_str()),
                event.handler.as_ref().and_then(|of| of.function.as_deref()),
                event.stack.first(),
            );
            assert_eq!(
                event.kind,
                Kind::Disabled,
                "{context}, {length:?}: {event:#?}"
            );
            assert!(names(event, function), "{context}, {length:?}: {event:#?}");
            assert!(
                (event.least_ns..=event.most_ns + OWN_NS).contains(&(took_ns + OWN_NS))
                    && took_ns <= event.least_ns + tick_ns,
                "{context}, {length:?}, off for {took_ns} ns: {event:#?}"
            );
            assert_eq!(
                (event.arrived, event.ticks),
                (1, event.least_ns / tick_ns + 1)
            );
        }
        let told = watch.end();
        assert!(told.status.success(), "{}", told.words);
        let counts = kind(&told.last, Kind::Disabled).expect("counted");
        assert!(counts.count > CONTEXTS.len() as u64, "{counts:?}");
    }
}

/// By an interrupt that runs no handler of a device: since 6.5 the kernel tells of it.
pub(super) fn a_function_that_another_cpu_asked_for_is_named_where_the_kernel_tells() {
    const LENGTH: Duration = Duration::from_millis(300);
    let is_told = fs::exists("/sys/kernel/tracing/events/csd/csd_function_entry").expect("looked");
    let watch = Watch::start(&["--level=normal"]);
    let asker = thread::spawn(|| {
        sched::set_affinity([0]).expect("on the other CPU");
        offend("call", "irqs", LENGTH)
    });
    let took_ns = asker.join().expect("asked");
    let events = watch.events();
    let found: Vec<&Event> = events
        .iter()
        .filter(|event| event.cpu == cpu() && event.most_ns >= took_ns)
        .collect();
    let [event] = found[..] else {
        panic!("off for {took_ns} ns: {events:#?}");
    };
    assert_eq!(event.kind, Kind::Disabled, "{event:#?}");
    let handler = event.handler.as_ref().expect("a handler");
    let function = handler.function.as_deref();
    println!("    told by the kernel: {is_told}; named {function:?}");
    assert_eq!(handler.kind, "call", "{event:#?}");
    assert_eq!(
        function.is_some_and(|name| name.starts_with("smilat_call_callback")),
        is_told,
        "{event:#?}"
    );
    assert!(watch.end().status.success());
}

/// The host takes the machine away from code that has nothing off, and no account of steal tells.
pub(super) fn a_stop_from_outside_is_not_taken_for_interrupts_that_were_off() {
    const STOPS: usize = 12;
    const LENGTH: Duration = Duration::from_millis(200);
    let cpus = format!("--cpus={}", cpu());
    let watch = Watch::start(&["--level=normal", &cpus]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            sched::set_affinity([cpu()]).expect("on the watched CPU");
            while !is_over.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        });
        let asker = scope.spawn(|| {
            sched::set_affinity([0]).expect("on the other CPU");
            for _ in 0..STOPS {
                thread::sleep(Duration::from_millis(50));
                host::stop(LENGTH);
            }
        });
        let asked = asker.join();
        is_over.store(true, Ordering::Relaxed);
        asked.expect("stopped");
    });
    let events = watch.events();
    let of_stops: Vec<&Event> = events
        .iter()
        .filter(|event| event.most_ns >= LENGTH.as_nanos() as u64)
        .collect();
    let of_kind = |kind: Kind| of_stops.iter().filter(|event| event.kind == kind).count();
    let (stopped, disabled) = (of_kind(Kind::Stopped), of_kind(Kind::Disabled));
    let taken: Vec<String> = of_stops
        .iter()
        .filter(|event| event.kind == Kind::Disabled)
        .map(|event| {
            let handler = event.handler.as_ref().map_or("none", |of| of.kind.as_str());
            format!("handler {handler}, {:?}", event.stack.first())
        })
        .collect();
    println!("    {STOPS} stops: {stopped} seen as such, {disabled} as interrupts off: {taken:?}");
    assert_eq!(of_stops.len(), STOPS, "{events:#?}");
    // One that comes while the kernel handles an interrupt has them off for as long.
    assert!(stopped * 2 > STOPS, "{events:#?}");
    assert_eq!(stopped + disabled, STOPS, "{events:#?}");
    assert!(watch.end().status.success());
}

/// What was counted of one kind on the CPU.
fn kind(snapshot: &IrqsoffSnapshot, kind: Kind) -> Option<KindCounts> {
    let cpu = snapshot.cpus.iter().find(|one| one.cpu == cpu())?;
    cpu.kinds.iter().find(|counts| counts.kind == kind).cloned()
}

/// All that was counted and may be logged.
fn counted(snapshot: &IrqsoffSnapshot) -> u64 {
    let kinds = snapshot.cpus.iter().flat_map(|cpu| &cpu.kinds);
    kinds
        .filter(|counts| counts.kind.is_disablement())
        .map(|counts| counts.count)
        .sum()
}

/// The longest lateness of a tick of the CPU, whatever made it.
fn late_max_ns(snapshot: &IrqsoffSnapshot) -> u64 {
    let found = snapshot.cpus.iter().find(|one| one.cpu == cpu());
    found.expect("its CPU").late_max_ns
}

/// Ticks come, and meet the same section one after the other.
pub(super) fn sections_that_cannot_be_preempted_are_told_in_ticks() {
    const LENGTH: Duration = Duration::from_millis(300);
    let is_rt = fs::exists("/sys/kernel/realtime").expect("looked");
    let watch = Watch::start(&["--level=normal", "--max-log=100"]);
    for (context, what, kind, function) in [
        ("process", "preempt", Kind::PreemptOff, "smilat_preempt_off"),
        ("process", "bh", Kind::BottomHalvesOff, "smilat_bh_off"),
        (
            "tasklet",
            "nothing",
            Kind::Softirq,
            "smilat_tasklet_callback",
        ),
    ] {
        let took_ns = offend(context, what, LENGTH);
        let events = watch.events();
        let found = of_module(&events);
        // With PREEMPT_RT, whoever has bottom halves off can be preempted, and what is left is another section.
        let most = if kind == Kind::PreemptOff || !is_rt {
            1
        } else {
            3
        };
        assert!(
            (1..=most).contains(&found.len()),
            "{context}, {what}: {} events of it: {events:#?}",
            found.len()
        );
        let event = found[0];
        println!(
            "    {context}, {what}: off for {} us, TICKS {} ({}), {:?} {:?}",
            took_ns / 1000,
            event.ticks,
            event.arrived,
            event.kind,
            event.stack.first()
        );
        assert_eq!(event.kind, kind, "{event:#?}");
        assert!(names(event, function), "{event:#?}");
        // Told at the threshold, 10 ticks after the first that met it; the host may have kept some from coming.
        assert!(event.ticks >= 11, "{event:#?}");
        assert!((2..=event.ticks).contains(&event.arrived), "{event:#?}");
    }
    let told = watch.end();
    assert!(told.status.success(), "{}", told.words);
    // By its end, not by when it was told. With PREEMPT_RT others can run in the latter two, which ends them for ticks; a tick
    // that the host has late begins any of them anew.
    let late_ns = late_max_ns(&told.last);
    for (counted, least_ns) in [
        (Kind::PreemptOff, 270_000_000),
        (Kind::BottomHalvesOff, 100_000_000),
        (Kind::Softirq, 100_000_000),
    ] {
        let counts = kind(&told.last, counted).expect("counted");
        assert!(
            counts.max_ns + late_ns >= least_ns,
            "late by {late_ns} ns: {counts:?}"
        );
        assert_eq!(counts.histogram.total(), counts.count, "{counts:?}");
    }
}

/// The time it was away is not watched.
pub(super) fn a_cpu_that_goes_and_comes_is_watched_again() {
    const AWAY: Duration = Duration::from_secs(3);
    let switch = format!("/sys/devices/system/cpu/cpu{}/online", cpu());
    let cpus = format!("--cpus={}", cpu());
    let watch = Watch::start(&[&cpus]);
    sched::set_affinity([0]).expect("on the other CPU");
    fs::write(&switch, "0").expect("offline");
    thread::sleep(AWAY);
    fs::write(&switch, "1").expect("online");
    thread::sleep(AWAY);
    let told = watch.end();
    assert!(told.status.success(), "{}", told.words);
    let says = format!("CPU {} is not watched until it is back online", cpu());
    assert!(told.words.contains(&says), "{}", told.words);
    let watched = Duration::from_nanos(told.last.cpus[0].watched_ns);
    let elapsed = Duration::from_nanos(told.last.elapsed_ns);
    println!("    watched {watched:?} of {elapsed:?}, away for {AWAY:?}");
    assert!(watched + AWAY <= elapsed, "{:?}", told.last);
    assert!(watched >= AWAY / 2, "{:?}", told.last);
}

/// Nearly every tick comes at the end of one of them, where interrupts are on again and preemption is not.
pub(super) fn many_short_sections_are_not_told_as_a_long_one() {
    const LENGTH: Duration = Duration::from_millis(500);
    let watch = Watch::start(&["--level=normal"]);
    let off_ns = offend("process", "many", LENGTH);
    let events = watch.events();
    assert!(
        off_ns > LENGTH.as_nanos() as u64 / 2,
        "off for {off_ns} ns in all"
    );
    let found: Vec<&Event> = of_module(&events)
        .into_iter()
        .filter(|event| event.kind == Kind::PreemptOff)
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    assert!(watch.end().status.success());
}

/// With interrupts off, and in a section whose second half is no longer in the inner of two exempt functions.
pub(super) fn what_is_exempt_is_counted_and_not_logged() {
    const LENGTH: Duration = Duration::from_millis(400);
    let _none = fs::remove_file(LOGGED);
    let start = || {
        Watch::start(&[
            "--level=normal",
            "--exempt=smilat_exempt_irqs_off",
            "--exempt=smilat_exempt_inner",
            "--exempt=smilat_exempt_outer",
        ])
    };
    let of_one = |events: &[Event]| {
        let [event] = of_module(events)[..] else {
            panic!("{events:#?}");
        };
        event.exempt.clone()
    };

    let watch = start();
    offend("process", "exempt-preempt", LENGTH);
    assert!(of_one(&watch.events()).is_some());
    let told = watch.end();
    let preempt = kind(&told.last, Kind::PreemptOff).expect("counted");
    assert_eq!((preempt.exempt, preempt.count), (1, 0), "{preempt:?}");
    // A tick that the host has late begins a section anew, for which the time before is lost.
    let late_ns = late_max_ns(&told.last);
    assert!(
        preempt.exempt_ns + late_ns >= 370_000_000,
        "late by {late_ns} ns: {preempt:?}"
    );

    // Whatever the host made is in the log, and nothing else.
    assert_eq!(told.last.logged + told.last.suppressed, counted(&told.last));

    let watch = start();
    offend("process", "exempt-irqs", LENGTH);
    assert!(of_one(&watch.events()).is_some());
    offend("process", "irqs", LENGTH);
    assert_eq!(of_one(&watch.events()), None);
    let told = watch.end();
    let disabled = kind(&told.last, Kind::Disabled).expect("counted");
    assert_eq!(disabled.exempt, 1, "{disabled:?}");
    assert!(disabled.exempt_ns >= 390_000_000, "{disabled:?}");
    assert!(told.last.logged >= 1, "{:?}", told.last);
}

/// One entry for each stack, whoever watches, until the machine is started anew; all are counted.
pub(super) fn max_log_keeps_entries_back_and_counts_all() {
    const LENGTH: Duration = Duration::from_millis(150);
    const TIMES: usize = 3;
    let _none = fs::remove_file(LOGGED);
    // By stack: which they are differs where other interrupts came first when they were on again.
    let mut logged: BTreeMap<String, u64> = BTreeMap::new();
    let cpus = format!("--cpus={}", cpu());
    for most in [1, 3] {
        let limit = format!("--max-log={most}");
        let watch = Watch::start(&["--level=normal", &cpus, &limit]);
        let (mut admitted, mut all) = (0, 0);
        for _ in 0..TIMES {
            offend("process", "irqs", LENGTH);
            let events = watch.events();
            assert_eq!(of_module(&events).len(), 1, "{events:#?}");
            // What the host made may be an entry too.
            for event in events.iter().filter(|event| event.kind.is_disablement()) {
                let times = logged.entry(functions(event)).or_default();
                all += 1;
                if *times < most {
                    *times += 1;
                    admitted += 1;
                }
            }
        }
        let told = watch.end();
        let counted = counted(&told.last);
        println!(
            "    {limit}: {} logged, {} kept back, {counted} counted",
            told.last.logged, told.last.suppressed
        );
        assert_eq!(counted, all, "{:?}", told.last);
        assert_eq!(
            (told.last.logged, told.last.suppressed),
            (admitted, all - admitted),
            "{logged:#?}"
        );
    }
}

/// What tells its stack from others: the functions on it and those of its handlers.
fn functions(event: &Event) -> String {
    let handlers = [&event.handler, &event.callback].into_iter().flatten();
    let names = handlers
        .map(|of| {
            let function = of.function.as_deref().unwrap_or_default();
            format!("{} {:?} {function}", of.kind, of.of)
        })
        .chain(event.stack.iter().cloned())
        .map(|name| name.split('+').next().unwrap_or_default().to_owned());
    // A thread without a stack is told by its name.
    let comm = event.stack.is_empty().then(|| event.comm.clone());
    names.chain(comm).collect::<Vec<_>>().join(" ")
}
