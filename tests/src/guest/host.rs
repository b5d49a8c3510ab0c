//! What the guest asks of its host, by lines on its console (`xtask/src/vm/host.rs`).

use std::{
    io,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use super::{
    measured::{cycles, nanoseconds},
    reader::read_clocks_while,
    smi,
};
use crate::PATIENCE;

/// Has the host stop this machine for `length`, whole milliseconds: all CPUs at once, without an SMI, as hosts do that
/// have other work.
///
/// Returns when that is over, with the readings of the TSC between which it was: those next to each other, of the
/// calling thread, that lie as far apart. Should more than one pair do so since the host was asked, then from the first
/// to the last. The thread spins meanwhile, so keep it off a CPU that is watched.
///
/// # Panics
/// When the host does not do it.
pub(super) fn stop(length: Duration) -> Range<u64> {
    let shortest = shortest(length);
    let mut last = smi::tsc();
    let began = Instant::now();
    let answer = thread::spawn(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    println!("HOST stop {} ms", length.as_millis());
    let mut stop: Option<Range<u64>> = None;
    loop {
        assert!(began.elapsed() < PATIENCE, "the host does not answer");
        // Before the reading, which must be one after the stop.
        let over = answer.is_finished();
        let now = smi::tsc();
        if now - last >= shortest {
            stop = Some(stop.map_or(last, |first| first.start)..now);
        }
        last = now;
        if over {
            break;
        }
    }
    let answer = answer.join().expect("the reader of the console");
    assert_eq!(answer.expect("the console").trim(), "HOST continued");
    stop.expect("the host says that it stopped this machine, and no gap is as long")
}

/// Cycles of the TSC that a stop lasts at least.
///
/// Its length is one by the host's clock, and guest and host may differ on how fast the TSC runs: the kernel makes do
/// with a first, rough value when the second differs by more than one part in a hundred (`tsc_refine_calibration_work` in
/// `arch/x86/kernel/tsc.c`), and may still be at the first.
fn shortest(length: Duration) -> u64 {
    cycles(length) / 100 * 99
}

/// Every clock stands still while the machine is stopped, and nothing that counts SMIs moves.
pub(super) fn a_stop_from_outside_is_a_gap_of_its_length() {
    const STOPS: usize = 5;
    const LENGTH: Duration = Duration::from_millis(50);
    let counts = || (smi::handler_count(), [smi::msr_count(0), smi::msr_count(1)]);
    let before = counts();
    let shortest = shortest(LENGTH);
    let (stops, seen) = read_clocks_while([0, 1], shortest, || {
        [(); STOPS].map(|()| {
            thread::sleep(Duration::from_millis(20));
            stop(LENGTH)
        })
    });
    assert_eq!(counts(), before, "SMIs came");
    for (cpu, gaps) in seen.iter().enumerate() {
        let gap_of = |stop: &Range<u64>| {
            gaps.iter()
                .find(|gap| {
                    let (begin, end) = (gap.start.max(stop.start), gap.end.min(stop.end));
                    end.saturating_sub(begin) >= shortest
                })
                .unwrap_or_else(|| panic!("CPU {cpu} read its clock in {stop:?}: {gaps:?}"))
        };
        let us = stops
            .each_ref()
            .map(|stop| nanoseconds(gap_of(stop).end - gap_of(stop).start) / 1000);
        println!(
            "    {STOPS} stops of {} us: CPU {cpu} saw gaps of {us:?} us, {} in all",
            LENGTH.as_micros(),
            gaps.len()
        );
    }
}
