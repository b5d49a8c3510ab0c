//! The detectors that drive the kernel's own tracers: they tell what the tracers saw, and leave nothing behind.

use std::{fs, process::Stdio, thread, time::Duration};

use smi_user::{
    kernel::sched,
    model::{Gap, GapKind, Snapshot},
};

use super::{
    settings::{Settings, TRACING},
    smi,
    watch::Watch,
};
use crate::{output, smilat, stderr, wait_until};

/// SMIs fired while a detector watches, well inside the noise's reach.
const LENGTH: Duration = Duration::from_millis(5);

/// Watches CPU 1 for half of the time with `detector` while SMIs hit it; returns what was told, and what `before_end`
/// returned, which is called while the tracer still runs.
fn watch_smis<T>(
    detector: &str,
    mode: &str,
    smis: u32,
    before_end: impl FnOnce() -> T,
) -> (Vec<Snapshot>, T) {
    sched::set_affinity([0]).expect("affinity");
    smi::set_length(LENGTH);
    let handler = smi::handler_count();
    let (detector, mode) = (format!("--detector={detector}"), format!("--mode={mode}"));
    let watch = Watch::start(&[
        &detector,
        &mode,
        "--cpus=1",
        "--width=100ms",
        "--window=200ms",
        "--threshold=100us",
        "--max-gap-records=10000",
    ]);
    for fired in 0..smis {
        thread::sleep(Duration::from_millis(50 + u64::from(fired * 37 % 50)));
        smi::fire_on(1);
        smi::wait_for(handler + fired + 1);
    }
    let told = before_end();
    (watch.finish(), told)
}

fn single(all: &[Snapshot]) -> Vec<Gap> {
    all.iter().flat_map(|one| &one.gaps).copied().collect()
}

/// `inner/outer(us): 12/34 ts:… count:5 nmi-total:6 nmi-count:7` of the instance's trace: inner, outer, count.
fn traced() -> Vec<[u64; 3]> {
    let text = fs::read_to_string(format!("{TRACING}/instances/smilat/trace")).expect("trace");
    text.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("inner/outer(us):")?;
            let mut words = rest.split_whitespace();
            // Padding may part the two numbers.
            let mut durations = String::new();
            for word in words.by_ref() {
                if word.starts_with("ts:") {
                    break;
                }
                durations += word;
            }
            let (inner, outer) = durations.split_once('/')?;
            let count = words.find_map(|word| word.strip_prefix("count:"))?;
            Some([
                inner.parse().ok()?,
                outer.parse().ok()?,
                count.parse().ok()?,
            ])
        })
        .collect()
}

/// What smilat tells of hwlat's windows is what the kernel's own text says of them, record by record.
fn hwlat_agrees(detector: &str, mode: &str) {
    let (all, traced) = watch_smis(detector, mode, 30, traced);
    let last = all.last().expect("a snapshot");
    assert_eq!(last.detector.name, "hwlat");
    assert_eq!(last.detector.gap_kind, GapKind::WindowMax);
    let told: Vec<[u64; 3]> = single(&all)
        .iter()
        .map(|gap| {
            let window = gap.window.expect("hwlat's record");
            assert_eq!(gap.duration_ns, window.inner_ns.max(window.outer_ns));
            [
                window.inner_ns / 1000,
                window.outer_ns / 1000,
                window.steps_over,
            ]
        })
        .collect();
    assert!(traced.len() >= 5, "{} records", traced.len());
    // Windows may end between the reading of the trace and the end of the run.
    assert!(
        told.len() >= traced.len(),
        "{} of {}",
        told.len(),
        traced.len()
    );
    assert_eq!(told[..traced.len()], traced[..]);
    let cpu = &last.cpus[0];
    assert_eq!(cpu.gaps.count, told.len() as u64);
    println!(
        "    {detector}, {mode}: {} records equal the trace buffer's; {} windows, {} ms of exposure in {} ms",
        traced.len(),
        cpu.windows.run,
        cpu.exposure_ns / 1_000_000,
        last.elapsed_ns / 1_000_000,
    );
    let long = told
        .iter()
        .filter(|[inner, outer, _]| inner.max(outer) >= &5_000);
    assert!(long.count() >= 5, "SMIs of 5 ms are missing: {told:?}");
    assert!(cpu.exposure_ns > 0 && cpu.windows.run > 0, "{cpu:?}");
}

pub(super) fn hwlat_by_breakpoint_agrees_with_the_trace_buffer() {
    for mode in ["per-cpu", "round-robin", "none"] {
        hwlat_agrees("hwlat", mode);
    }
}

pub(super) fn hwlat_by_buffer_agrees_with_breakpoints() {
    // The buffer is emptied by reading, so its text cannot be compared; the SMIs can.
    let (all, ()) = watch_smis("hwlat-buffer", "per-cpu", 30, || ());
    let gaps = single(&all);
    let long = gaps.iter().filter(|gap| gap.duration_ns >= 5_000_000);
    let long = long.count();
    println!(
        "    hwlat-buffer: {} records, {long} of 5 ms and more",
        gaps.len()
    );
    assert!(long >= 5, "{gaps:?}");
    assert_eq!(
        gaps.len() as u64,
        all.last().expect("one").cpus[0].gaps.count
    );
}

/// With interrupts off, osnoise reports each SMI as one gap.
pub(super) fn osnoise_tells_smis() {
    let handler = smi::handler_count();
    let (all, ()) = watch_smis("osnoise", "per-cpu", 60, || ());
    let gaps = single(&all);
    let long = gaps
        .iter()
        .filter(|gap| gap.duration_ns >= 5_000_000)
        .count();
    let last = all.last().expect("a snapshot");
    let cpu = &last.cpus[0];
    println!(
        "    osnoise: {} SMIs, {long} gaps of 5 ms and more among {}; {} windows, {} ms of exposure in {} ms",
        smi::handler_count() - handler,
        gaps.len(),
        cpu.windows.run,
        cpu.exposure_ns / 1_000_000,
        last.elapsed_ns / 1_000_000,
    );
    // A third of the SMIs at the least, of those that come while half of the time is watched.
    assert!(long >= 20, "{gaps:?}");
    assert_eq!(gaps.len() as u64, cpu.gaps.count);
}

pub(super) fn settings_are_back_after_every_end() {
    let before = Settings::read();
    for detector in ["hwlat", "osnoise"] {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
            let mut child = smilat()
                .args([
                    "run",
                    "--quiet",
                    "--mode=per-cpu",
                    "--cpus=1",
                    "--threshold=50us",
                ])
                .args(["--width=20ms", "--window=300ms", "--detector", detector])
                .stdout(Stdio::null())
                .spawn()
                .expect("smilat starts");
            let tracer = format!("{TRACING}/instances/smilat/current_tracer");
            wait_until("the tracer", || {
                fs::read_to_string(&tracer).is_ok_and(|text| text.trim() == detector)
            });
            assert_ne!(Settings::read(), before, "nothing was changed");
            let second = output(smilat().args(["run", "--mode=per-cpu", "--detector", detector]));
            assert_eq!(second.status.code(), Some(2));
            let holder = format!("process {} ({detector} detector)", child.id());
            assert!(stderr(&second).contains(&holder), "{}", stderr(&second));

            let pid = libc::pid_t::try_from(child.id()).expect("a pid");
            // SAFETY: the child was not waited for, so the number is still its own.
            assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
            child.wait().expect("it ends");
            if signal == libc::SIGKILL {
                assert_ne!(Settings::read(), before, "SIGKILL leaves time to clean up?");
                let restore = output(smilat().arg("restore"));
                assert!(restore.status.success(), "{}", stderr(&restore));
                println!(
                    "    {}",
                    String::from_utf8_lossy(&restore.stdout).replace('\n', "; ")
                );
            }
            assert_eq!(Settings::read(), before, "{detector}, signal {signal}");
        }
    }
}
