//! During a stretch the CPU takes no interrupt.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use smi_common::Knobs;
use smi_user::kernel::sched;
use tests::{Lab, two_cpus, wait_until};

const LENGTH: Duration = Duration::from_millis(100);

/// Local timer interrupts of `cpu` since boot.
fn timer_interrupts(cpu: u32) -> u64 {
    let text = fs::read_to_string("/proc/interrupts").expect("/proc/interrupts");
    let mut lines = text.lines();
    let column = lines
        .next()
        .expect("the line that names the CPUs")
        .split_whitespace()
        .position(|name| name == format!("CPU{cpu}"))
        .expect("the CPU's column");
    let counts = lines
        .find_map(|line| line.trim_start().strip_prefix("LOC:"))
        .expect("the line of the local timer");
    let count = counts.split_whitespace().nth(column).expect("a count");
    count.parse().expect("a number")
}

/// Timer interrupts of `cpu` as the CPU `other` sees them while `work` runs: those readings that fall within a time
/// in which `during` holds.
fn counts_while(
    cpu: u32,
    other: u32,
    during: impl Fn() -> bool + Sync,
    work: impl FnOnce(),
) -> Vec<u64> {
    let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            sched::set_affinity([other]).expect("affinity");
            ready.store(true, Ordering::Relaxed);
            let mut counts = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let before = during();
                let count = timer_interrupts(cpu);
                if before && during() {
                    counts.push(count);
                }
            }
            counts
        });
        wait_until("the watcher", || ready.load(Ordering::Relaxed));
        work();
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher")
    })
}

#[test]
fn the_local_timer_does_not_interrupt_a_stretch_but_does_interrupt_user_space() {
    let (cpu, other) = two_cpus();
    let lab = Lab::new(
        "spin",
        cpu,
        Knobs {
            threshold_ns: 1_000_000_000,
            ..Knobs::default()
        },
    );
    let slot = lab.slots.get(cpu).expect("a slot");
    let spinning = || slot.begun() == 1 && slot.ended() == 0;
    let inside = counts_while(cpu, other, spinning, || lab.stretch(LENGTH));
    assert!(inside.len() >= 2, "only {} readings", inside.len());
    assert!(
        inside.iter().all(|count| *count == inside[0]),
        "the timer interrupted a stretch: {inside:?}"
    );

    // As long in user space, on the same thread: interrupts come.
    let outside = counts_while(
        cpu,
        other,
        || true,
        || {
            let began = Instant::now();
            while began.elapsed() < LENGTH {
                std::hint::spin_loop();
            }
        },
    );
    let moved = outside.last().expect("a reading") - outside[0];
    assert!(moved > 0, "no interrupt in 100 ms of user space");
    println!(
        "{} readings within a stretch, all equal; the count moved by {moved} in as long a time of user space",
        inside.len()
    );
}
