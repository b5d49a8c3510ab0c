//! What a busy machine loses to each of those who look for gaps, all set alike: `cargo xtask bench workload` makes a table of
//! what this prints (`xtask/src/bench/workload/machine.rs`).
//!
//! The machine has two CPUs. Each has more to do than it can, and is watched.

use std::{
    fs,
    os::fd::AsRawFd as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::json;
use smi_user::kernel::{sched, tracefs};

use super::{
    peers::{Hwlatdetect, Hwnoise, Sampling},
    state::TRACING,
    watch::Watch,
};
use crate::busy::Redis;

/// Rounds; all who watch take turns in each.
const ROUNDS: usize = 4;

/// How long redis is asked in each run.
const ASKED: Duration = Duration::from_secs(4);

const WINDOW: Duration = Duration::from_millis(100);
const WIDTHS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// Above nearly all gaps that emulated CPUs have of their own: what gaps cost is not what this is about.
const THRESHOLD: Duration = Duration::from_millis(1);

const CPUS: &str = "0-1";
const CPUS_WATCHED: f64 = 2.0;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watcher {
    Nobody,
    Spin,
    Osnoise,
    Hwnoise,
    /// As it comes: one CPU after the other.
    Hwlatdetect,
    /// With the kernel's mode set beforehand, for which it has no option.
    HwlatdetectPerCpu,
}

const WATCHERS: [Watcher; 6] = [
    Watcher::Nobody,
    Watcher::Spin,
    Watcher::Osnoise,
    Watcher::Hwnoise,
    Watcher::Hwlatdetect,
    Watcher::HwlatdetectPerCpu,
];

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Spin => "spin",
            Self::Osnoise => "osnoise",
            Self::Hwnoise => "hwnoise",
            Self::Hwlatdetect => "hwlatdetect",
            Self::HwlatdetectPerCpu => "hwlatdetect-per-cpu",
        }
    }
}

pub(super) fn redis_serves_so_much_under_each_who_watches() {
    bring_loopback_up();
    sched::set_affinity([0, 1]).expect("affinity");
    let redis = Redis::start();
    for round in 0..ROUNDS {
        for width in WIDTHS {
            for number in 0..WATCHERS.len() {
                let watcher = WATCHERS[(number + round) % WATCHERS.len()];
                let (report, sampled) = run(watcher, width, &redis);
                let line = json!({
                    "watcher": watcher.name(),
                    "width_ms": width.as_millis(),
                    "window_ms": WINDOW.as_millis(),
                    "sampled": sampled,
                    "redis": report,
                });
                println!("    BENCH {line}");
            }
        }
    }
}

/// What the benchmark reports under `watcher`, and the share of its time that a CPU was sampled meanwhile.
fn run(watcher: Watcher, width: Duration, redis: &Redis) -> (String, f64) {
    let sampling = Sampling {
        threshold: THRESHOLD,
        width,
        window: WINDOW,
    };
    let left = 1.0 - width.div_duration_f64(WINDOW);
    let ask = || redis.ask_for(ASKED, left);
    match watcher {
        Watcher::Nobody => (redis.ask_for(ASKED, 1.0), 0.0),
        Watcher::Spin => under_smilat("spin", sampling, ask),
        Watcher::Osnoise => under_smilat("osnoise", sampling, ask),
        Watcher::Hwnoise => {
            let hwnoise = Hwnoise::start_on(CPUS, sampling);
            let told = sampled_by("osnoise/", ask);
            hwnoise.finish();
            told
        }
        Watcher::Hwlatdetect | Watcher::HwlatdetectPerCpu => {
            let mode = match watcher {
                Watcher::HwlatdetectPerCpu => "per-cpu",
                _ => "round-robin",
            };
            let file = format!("{TRACING}/hwlat_detector/mode");
            tracefs::write(file.as_ref(), mode).expect("the mode");
            let hwlatdetect = Hwlatdetect::start_on(CPUS, sampling, Duration::from_mins(1));
            let told = sampled_by("hwlatd", ask);
            hwlatdetect.finish();
            told
        }
    }
}

fn under_smilat(detector: &str, sampling: Sampling, ask: impl FnOnce() -> String) -> (String, f64) {
    let us = |time: Duration| format!("{}us", time.as_micros());
    let watch = Watch::start(&[
        "--detector",
        detector,
        "--mode=per-cpu",
        "--threshold",
        &us(sampling.threshold),
        "--width",
        &us(sampling.width),
        "--window",
        &us(sampling.window),
    ]);
    let report = ask();
    let snapshots = watch.finish();
    let last = snapshots.last().expect("the last one");
    let exposure_ns: u64 = last.cpus.iter().map(|cpu| cpu.exposure_ns).sum();
    let sampled = exposure_ns as f64 / last.elapsed_ns as f64 / CPUS_WATCHED;
    (report, sampled)
}

/// The share of a CPU's time that the kernel's threads of this name took, which do nothing but sample.
fn sampled_by(threads: &str, ask: impl FnOnce() -> String) -> (String, f64) {
    let files = schedstats(threads);
    assert!(!files.is_empty(), "no thread {threads}");
    let all_ns = || files.iter().map(run_ns).sum::<u64>();
    let (began, before_ns) = (Instant::now(), all_ns());
    let report = ask();
    let took_ns = all_ns() - before_ns;
    let sampled = took_ns as f64 / began.elapsed().as_nanos() as f64 / CPUS_WATCHED;
    (report, sampled)
}

/// The scheduler's statistics of the kernel's threads whose name begins so.
fn schedstats(name: &str) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("/proc");
    let processes = processes.map(|process| process.expect("an entry").path());
    processes
        .filter(|process| {
            // Empty as well where it is no process, or has ended.
            let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
            // hwlatdetect itself begins so too; the kernel's threads have no command line.
            read("comm").starts_with(name) && read("cmdline").is_empty()
        })
        .map(|process| process.join("schedstat"))
        .collect()
}

/// CPU time of a process so far.
fn run_ns(schedstat: &PathBuf) -> u64 {
    let text = fs::read_to_string(schedstat).expect("schedstat");
    let ns = text.split_whitespace().next();
    ns.and_then(|ns| ns.parse().ok()).expect("a number")
}

/// Without it nothing reaches 127.0.0.1, which the kernel gives it then.
fn bring_loopback_up() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: all zeros are a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request outlives the call, and is what this one takes.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
