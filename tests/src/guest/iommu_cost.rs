//! What a map or unmap costs under each of those who watch: `cargo xtask bench iommu` makes a table of what this prints
//! (`xtask/src/bench/iommu.rs`).
//!
//! The machine has one CPU, whose clock counts instructions. What a thread takes is what the kernel's scheduler counts of it.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    iommu_watch::{Watch, domain_of},
    mapper::Mapper,
    pci::EDU,
    state::TRACING,
};
use crate::{killed::Killed, wait_until};

const ROUNDS: usize = 9;
const PAIRS: u64 = 50_000;
const EVENTS: u64 = 2 * PAIRS;

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

/// A tracing instance of its own, or the top one. Dropped, it traces none of these any more.
struct Events(PathBuf);

impl Events {
    fn switch(&self, on: &str) -> io::Result<()> {
        for event in ["map", "unmap"] {
            fs::write(self.0.join(format!("events/iommu/{event}/enable")), on)?;
        }
        Ok(())
    }

    /// Sum of a number in the statistics of each CPU's buffer.
    fn stat(&self, name: &str) -> u64 {
        let cpus = fs::read_dir(self.0.join("per_cpu")).expect("per_cpu");
        cpus.map(|cpu| {
            let stats = fs::read_to_string(cpu.expect("an entry").path().join("stats"));
            let stats = stats.expect("stats");
            let line = stats.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(": ")?.parse::<u64>().ok())
                .expect(name)
        })
        .sum()
    }

    fn lost(&self) -> u64 {
        self.stat("overrun") + self.stat("commit overrun") + self.stat("dropped events")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _off = self.switch("0");
        // The top one stays.
        let _removed = fs::remove_dir(&self.0);
    }
}

/// As people do who look at a trace as it comes, with the room that the kernel gives it.
fn under_trace_pipe(mapper: &Mapper) -> Measured {
    let trace = Events(Path::new(TRACING).join("instances/cost"));
    fs::create_dir(&trace.0).expect("an instance");
    trace.switch("1").expect("events");
    let ended_before = children_ns();
    let mut cat = Killed::start(
        Command::new("/bin/busybox")
            .arg("cat")
            .arg(trace.0.join("trace_pipe"))
            .stdout(Stdio::null()),
    );
    thread::sleep(Duration::from_millis(100));
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
    let trace = Events(PathBuf::from(TRACING));
    let ended_before = children_ns();
    let mut recording = Killed::start(
        Command::new("/usr/bin/trace-cmd")
            .args(["record", "-e", "iommu:map", "-e", "iommu:unmap"])
            .args(["-o", "/tmp/trace.dat"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let is =
        |file: &str| fs::read_to_string(trace.0.join(file)).is_ok_and(|text| text.trim() == "1");
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

/// CPU time of this thread.
fn thread_ns() -> u64 {
    // SAFETY: all zeros are a valid value of this plain structure.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let got = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(got, 0);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// CPU time of all children that were waited for, and of theirs.
fn children_ns() -> u64 {
    // SAFETY: all zeros are a valid value of this plain structure.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let got = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(got, 0);
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| {
            time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1000
        })
        .sum()
}

/// CPU time so far of a process, all its threads, and its children, which have none.
fn family_ns(process: u32) -> u64 {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.expect("children");
    let of_process = |process: &str| {
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
        threads
            .map(|thread| {
                let file = thread.expect("an entry").path().join("schedstat");
                let text = fs::read_to_string(file).expect("schedstat");
                let ns = text.split_whitespace().next();
                ns.and_then(|ns| ns.parse::<u64>().ok()).expect("a number")
            })
            .sum::<u64>()
    };
    of_process(&process.to_string()) + children.split_whitespace().map(of_process).sum::<u64>()
}
