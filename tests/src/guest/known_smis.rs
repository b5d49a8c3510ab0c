//! SMIs whose number and length are known: the counter and the plainest of all measurements must agree with them.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use smi_user::kernel::sched;

use super::{
    measured::{Comparison, SLACK_NS, Seen, THRESHOLD, cycles, nanoseconds},
    smi::{self, Smi},
};
use crate::wait_until;

pub(super) fn the_counter_moves_by_one_for_each_smi() {
    const SMIS: u32 = 1000;
    sched::set_affinity([0]).expect("affinity");
    smi::set_length(Duration::ZERO);
    let (msr, handler) = (smi::msr_count(0), smi::handler_count());
    for _ in 0..SMIS {
        smi::fire_here();
    }
    let moved = smi::msr_count(0) - msr;
    println!(
        "    {SMIS} SMIs by port on CPU 0: MSR 0x34 moved by {moved}, the handler ran {} times",
        smi::handler_count() - handler
    );
    assert_eq!(moved, u64::from(SMIS));
    assert_eq!(smi::handler_count() - handler, SMIS);
}

/// A user-space thread on CPU 1 that does nothing but read the TSC: no detector is plainer.
pub(super) fn a_cpu_that_reads_its_clock_sees_each_smi_as_a_gap() {
    const SMIS: u32 = 20;
    const LENGTH: Duration = Duration::from_millis(5);
    sched::set_affinity([0]).expect("affinity");
    let (msr, handler) = (smi::msr_count(1), smi::handler_count());
    let (reads, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let gaps = thread::scope(|scope| {
        let reader = scope.spawn(|| read_clock(1, cycles(THRESHOLD), &reads, &stop));
        let stopping = Stopping(&stop);
        wait_until("the reader", || reads.load(Ordering::Relaxed));
        for fired in 0..2 * SMIS {
            thread::sleep(Duration::from_millis(20));
            smi::set_length(if is_long(fired) {
                LENGTH
            } else {
                Duration::ZERO
            });
            smi::fire_on(1);
            // Two that wait at the same time are one.
            smi::wait_for(handler + fired + 1);
        }
        drop(stopping);
        reader.join().expect("the reader")
    });
    let moved = smi::msr_count(1) - msr;
    let smis = smi::records(handler);
    println!(
        "    {} SMIs by ICR on CPU 1: MSR 0x34 moved by {moved}, the handler ran {} times",
        2 * SMIS,
        smis.len()
    );
    assert_eq!(moved, u64::from(2 * SMIS));
    assert_eq!(smis.len(), 2 * SMIS as usize);

    let holds = |gap: &(u64, u64), smi: &Smi| gap.0 <= smi.begin_tsc && smi.end_tsc <= gap.1;
    let mut comparison = Comparison::new(LENGTH);
    for (fired, smi) in (0..).zip(&smis) {
        let gap = gaps.iter().find(|gap| holds(gap, smi));
        let seen = gap.map(|(begin, end)| Seen {
            length_ns: nanoseconds(smi.end_tsc - smi.begin_tsc),
            gap_ns: nanoseconds(end - begin),
        });
        if is_long(fired) {
            comparison.seen(seen.unwrap_or_else(|| panic!("no gap holds {smi:?}")));
        } else {
            comparison.control(seen);
        }
    }
    for gap in &gaps {
        if !smis.iter().any(|smi| holds(gap, smi)) {
            comparison.noise(nanoseconds(gap.1 - gap.0));
        }
    }
    let control_ns = comparison.control_ns();
    // It takes interrupts: the tick that waited for the end of the SMI is part of the gap.
    let tick_ns = 1_000_000;
    comparison.check(SMIS as usize, control_ns, SLACK_NS + tick_ns);
}

/// Sets its flag when dropped: a test that fails must not wait for its threads for ever.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Long SMIs take turns with such that do nothing.
fn is_long(number: u32) -> bool {
    number.is_multiple_of(2)
}

/// Readings of the TSC on `cpu` that lie at least `threshold` cycles apart; `reads` is set after the first.
fn read_clock(cpu: u32, threshold: u64, reads: &AtomicBool, stop: &AtomicBool) -> Vec<(u64, u64)> {
    sched::set_affinity([cpu]).expect("affinity");
    let mut gaps = Vec::with_capacity(10_000);
    let mut last = smi::tsc();
    reads.store(true, Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        let now = smi::tsc();
        if now - last >= threshold {
            gaps.push((last, now));
        }
        last = now;
    }
    gaps
}
