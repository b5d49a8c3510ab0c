//! Windows come as scheduled, on an idle machine and on a busy one, in every mode.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use smi_common::Knobs;
use smi_user::model::{Snapshot, WindowCounts};
use tests::{Lab, snapshots, two_cpus};

/// Runs `work` while every CPU has two threads that never sleep.
fn busy<T>(work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let threads = thread::available_parallelism().expect("CPUs").get() * 2;
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn watch(stretch: &str) -> Snapshot {
    let mut all = snapshots(&[
        "--width=100ms",
        "--window=500ms",
        "--mode=per-cpu",
        "--duration=5s",
        // What reading a counter takes off the exposure depends on the hypervisor.
        "--counter=none",
        "--irqs-off-max",
        stretch,
    ]);
    all.pop().expect("a snapshot")
}

/// No CPU lost more than a window or two to the machine: a hypervisor that keeps a CPU for half a width (here 50 ms) makes
/// one impossible, which is what `skipped` is for. What the detector would skip by itself is not seen below a quarter.
fn mostly(windows: &WindowCounts, least: u64) -> bool {
    windows.run >= least && windows.run * 4 >= windows.scheduled * 3
}

/// `least` is the share of the width that must have been sampled.
#[track_caller]
fn windows_ran(snapshot: &Snapshot, least: f64) {
    for cpu in &snapshot.cpus {
        let windows = cpu.windows;
        assert!(mostly(&windows, 5), "CPU {}: {windows:?}", cpu.cpu);
        let due_ns = windows.run * snapshot.detector.width_ns;
        let share = cpu.exposure_ns as f64 / due_ns as f64;
        assert!(share >= least, "CPU {}: exposure {share:.3}", cpu.cpu);
    }
}

/// One stretch is a whole window: next to nothing is lost.
const WHOLE: (&str, f64) = ("100ms", 0.99);
/// A hundred stretches: what is lost in between depends on the machine, and `cargo xtask bench exposure` measures it;
/// this only tells it from a loop that stands still most of the time.
const MANY: (&str, f64) = ("1ms", 0.75);

#[test]
fn on_an_idle_machine_windows_run() {
    for (stretch, least) in [WHOLE, MANY] {
        windows_ran(&watch(stretch), least);
    }
}

#[test]
fn on_a_busy_machine_windows_run() {
    for (stretch, least) in [WHOLE, MANY] {
        windows_ran(&busy(|| watch(stretch)), least);
    }
}

#[test]
fn no_stretch_is_longer_than_asked() {
    const ASKED: Duration = Duration::from_millis(1);
    let (cpu, _) = two_cpus();
    let knobs = Knobs {
        threshold_ns: 1_000,
        ..Knobs::default()
    };
    let lab = Lab::new("spin", cpu, knobs);
    let stats = || lab.bpf.stats().expect("stats")[cpu as usize];
    for _ in 0..50 {
        let before = stats();
        lab.stretch(ASKED);
        let after = stats();
        let exposure_ns = after.stretches.exposure_ns - before.stretches.exposure_ns;
        // The last reading may lie past the end: by up to a round of steps, and by a gap that began before the end.
        let steps = after.stretches.steps - before.stretches.steps;
        let gaps_ns = after.gaps.sum_ns - before.gaps.sum_ns;
        let round_ns = 64 * 1_000;
        assert!(
            exposure_ns <= 1_000_000 + round_ns + gaps_ns,
            "{exposure_ns} ns in {steps} steps, {gaps_ns} ns of them gaps"
        );
        assert!(exposure_ns >= 900_000, "only {exposure_ns} ns");
    }
}

#[test]
fn the_stretches_of_a_window_fill_its_width() {
    let snapshot = watch("1ms");
    for cpu in &snapshot.cpus {
        let gaps_ns = cpu.gaps.sum_ns;
        // Each is 1 ms and what gaps added at its end, so fewer would not fill the width.
        let least = (cpu.exposure_ns.saturating_sub(gaps_ns)) / 1_100_000;
        assert!(
            cpu.stretches.run >= least,
            "CPU {}: {:?}",
            cpu.cpu,
            cpu.stretches
        );
        assert!(cpu.stretches.run <= cpu.windows.run * 101 + 100);
    }
}

#[test]
fn round_robin_takes_the_cpus_in_turn() {
    let all = snapshots(&[
        "--width=5ms",
        "--window=50ms",
        "--mode=round-robin",
        "--duration=3s",
    ]);
    let last = all.last().expect("a snapshot");
    let windows: Vec<WindowCounts> = last.cpus.iter().map(|cpu| cpu.windows).collect();
    assert!(
        windows.iter().all(|windows| mostly(windows, 10)),
        "{windows:?}"
    );
    // A window that the machine made impossible has its turn all the same.
    let turns = windows.iter().map(|windows| windows.scheduled);
    let (least, most) = (turns.clone().min(), turns.max());
    assert!(most <= least.map(|turns| turns + 1), "{windows:?}");
}

#[test]
fn one_thread_stays_on_the_cpus_asked_for_in_mode_none() {
    let (cpu, _) = two_cpus();
    let all = snapshots(&[
        "--width=5ms",
        "--window=50ms",
        "--mode=none",
        "--duration=2s",
        "--cpus",
        &cpu.to_string(),
    ]);
    let last = all.last().expect("a snapshot");
    assert_eq!(last.cpus.len(), 1);
    assert_eq!(last.cpus[0].cpu, cpu);
    assert!(last.cpus[0].windows.run >= 5, "{:?}", last.cpus[0].windows);
}
