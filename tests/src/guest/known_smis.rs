//! SMIs whose number and length are known: the counter and the plainest of all measurements must agree with them.

use std::{ops::Range, thread, time::Duration};

use smi_user::kernel::sched;

use super::{
    measured::{Comparison, SLACK_NS, Seen, THRESHOLD, cycles, nanoseconds},
    reader::read_clocks_while,
    smi::{self, Smi},
};

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

pub(super) fn a_cpu_that_reads_its_clock_sees_each_smi_as_a_gap() {
    const SMIS: u32 = 20;
    const LENGTH: Duration = Duration::from_millis(5);
    sched::set_affinity([0]).expect("affinity");
    let (msr, handler) = (smi::msr_count(1), smi::handler_count());
    let ((), [gaps]) = read_clocks_while([1], cycles(THRESHOLD), || {
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

    let holds = |gap: &Range<u64>, smi: &Smi| gap.start <= smi.begin_tsc && smi.end_tsc <= gap.end;
    let mut comparison = Comparison::new(LENGTH);
    for (fired, smi) in (0..).zip(&smis) {
        let gap = gaps.iter().find(|gap| holds(gap, smi));
        let seen = gap.map(|gap| Seen {
            length_ns: nanoseconds(smi.end_tsc - smi.begin_tsc),
            gap_ns: nanoseconds(gap.end - gap.start),
        });
        if is_long(fired) {
            comparison.seen(seen.unwrap_or_else(|| panic!("no gap holds {smi:?}")));
        } else {
            comparison.control(seen);
        }
    }
    for gap in &gaps {
        if !smis.iter().any(|smi| holds(gap, smi)) {
            comparison.noise(nanoseconds(gap.end - gap.start));
        }
    }
    let control_ns = comparison.control_ns();
    // It takes interrupts: the tick that waited for the end of the SMI is part of the gap.
    let tick_ns = 1_000_000;
    comparison.check(SMIS as usize, control_ns, SLACK_NS + tick_ns);
}

/// Long SMIs take turns with such that do nothing.
fn is_long(number: u32) -> bool {
    number.is_multiple_of(2)
}
