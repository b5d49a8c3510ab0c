//! What a map or unmap costs under each of those who watch: `cargo xtask bench iommu` makes a table of what this prints
//! (`xtask/src/bench/iommu.rs`).
//!
//! The machine has one CPU, whose clock counts instructions. What a thread takes is what the kernel's scheduler counts of it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    cpu_time::{children_ns, family_ns, thread_ns},
    instance::Instance,
    iommu_watch::{Watch, domain_of},
    mapper::Mapper,
    pci::EDU,
    state::TRACING,
};
use crate::{killed::Killed, wait_until};

const ROUNDS: usize = 9;
const PAIRS: u64 = 50_000;
const EVENTS: u64 = 2 * PAIRS;
/// Whose events they are.
const EVENTS_SEEN: [&str; 2] = ["iommu/map", "iommu/unmap"];

/// Who watches.
#[derive(Clone, Copy, Debug)]
enum Watcher {
    Nobody,
    Smilat,
    /// smilat, that counts and does nothing else.
    SmilatCounting,
    TracePipe,
    TraceCmd,
}

const WATCHERS: [Watcher; 5] = [
    Watcher::Nobody,
    Watcher::Smilat,
    Watcher::SmilatCounting,
    Watcher::TracePipe,
    Watcher::TraceCmd,
];

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Smilat => "smilat",
            Self::SmilatCounting => "smilat-counting",
            Self::TracePipe => "trace_pipe",
            Self::TraceCmd => "trace-cmd",
        }
    }
}

/// What a round took.
struct Measured {
    mapper_ns: u64,
    watcher_ns: u64,
    lost: u64,
}

pub(super) fn an_event_costs_so_much_under_each_who_watches() {
    let mapper = Mapper::attach();
    mapper.run("times 1000 4096");
    for round in 0..ROUNDS {
        for number in 0..WATCHERS.len() {
            let watcher = WATCHERS[(number + round) % WATCHERS.len()];
            let Measured {
                mapper_ns,
                watcher_ns,
                lost,
            } = measure(watcher, &mapper);
            println!(
                "    BENCH {} {EVENTS} {mapper_ns} {watcher_ns} {lost}",
                watcher.name()
            );
            if matches!(watcher, Watcher::Smilat | Watcher::SmilatCounting) {
                assert_eq!(lost, 0);
            }
        }
    }
}

fn measure(watcher: Watcher, mapper: &Mapper) -> Measured {
    match watcher {
        Watcher::Nobody => Measured {
            mapper_ns: events(mapper),
            watcher_ns: 0,
            lost: 0,
        },
        Watcher::Smilat => under_smilat(mapper, &[]),
        Watcher::SmilatCounting => under_smilat(
            mapper,
            &["--track=0", "--time-one-in=0", "--resched-limit=0"],
        ),
        Watcher::TracePipe => under_trace_pipe(mapper),
        Watcher::TraceCmd => under_trace_cmd(mapper),
    }
}

/// Has all events made; what this thread took for them.
fn events(mapper: &Mapper) -> u64 {
    let before = thread_ns();
    let done = mapper.run(&format!("times {PAIRS} 4096"));
    let took = thread_ns() - before;
    assert_eq!((done.maps, done.unmaps), (PAIRS, PAIRS));
    took
}

fn under_smilat(mapper: &Mapper, args: &[&str]) -> Measured {
    let ended_before = children_ns();
    let mut watch = Watch::start(args);
    let started = family_ns(watch.id());
    let mapper_ns = events(mapper);
    watch.settled();
    let told = watch.end();
    let domain = domain_of(told.last(), EDU);
    Measured {
        mapper_ns,
        watcher_ns: children_ns() - ended_before - started,
        lost: EVENTS - domain.maps.count - domain.unmaps.count,
    }
}

/// As people do who look at a trace as it comes, with the room that the kernel gives it.
fn under_trace_pipe(mapper: &Mapper) -> Measured {
    let trace = Instance::make("cost", &EVENTS_SEEN);
    let ended_before = children_ns();
    let mut cat = trace.read_by_cat();
    let started = family_ns(cat.id());
    let mapper_ns = events(mapper);
    wait_until("all to be read", || trace.stat("entries") == 0);
    cat.signal(libc::SIGTERM);
    cat.wait().expect("a child");
    let lost = trace.lost();
    assert_eq!(lost + trace.stat("read events"), EVENTS);
    Measured {
        mapper_ns,
        watcher_ns: children_ns() - ended_before - started,
        lost,
    }
}

/// As people do who look at it later.
fn under_trace_cmd(mapper: &Mapper) -> Measured {
    let ended_before = children_ns();
    let mut recording = Killed::start(
        Command::new("/usr/bin/trace-cmd")
            .args(["record", "-e", "iommu:map", "-e", "iommu:unmap"])
            .args(["-o", "/tmp/trace.dat"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let is = |file: &str| {
        let text = fs::read_to_string(Path::new(TRACING).join(file));
        text.is_ok_and(|text| text.trim() == "1")
    };
    wait_until("trace-cmd", || {
        is("events/iommu/map/enable") && is("events/iommu/unmap/enable") && is("tracing_on")
    });
    thread::sleep(Duration::from_millis(500));
    let started = family_ns(recording.id());
    let mapper_ns = events(mapper);
    recording.signal(libc::SIGINT);
    recording.wait().expect("a child");
    let watcher_ns = children_ns() - ended_before - started;
    let report = Command::new("/usr/bin/trace-cmd")
        .args(["report", "-i", "/tmp/trace.dat"])
        .output()
        .expect("a report");
    let report = String::from_utf8_lossy(&report.stdout);
    let seen = report
        .lines()
        .filter(|line| line.contains(" map: ") || line.contains(" unmap: "))
        .count() as u64;
    fs::remove_file("/tmp/trace.dat").expect("a recording");
    Measured {
        mapper_ns,
        watcher_ns,
        lost: EVENTS - seen,
    }
}
