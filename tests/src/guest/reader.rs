//! A user-space thread that does nothing but read the TSC: no detector is plainer.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use smi_user::kernel::sched;

use super::smi;
use crate::wait_until;

/// Does `meanwhile` while such a thread runs on each of `cpus`; what came of it, and for each thread the readings next to
/// each other that lie at least `threshold` cycles apart.
pub(super) fn read_clocks_while<T, const N: usize>(
    cpus: [u32; N],
    threshold: u64,
    meanwhile: impl FnOnce() -> T,
) -> (T, [Vec<Range<u64>>; N]) {
    let (reading, stop) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    thread::scope(|scope| {
        let readers =
            cpus.map(|cpu| scope.spawn(move || read_clock(cpu, threshold, reading, stop)));
        let stopping = Stopping(stop);
        wait_until("the readers", || reading.load(Ordering::Relaxed) == N);
        let result = meanwhile();
        drop(stopping);
        (
            result,
            readers.map(|reader| reader.join().expect("a reader")),
        )
    })
}

/// Sets its flag when dropped: a test that fails must not wait for its threads for ever.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `reading` is counted up after the first reading.
fn read_clock(
    cpu: u32,
    threshold: u64,
    reading: &AtomicUsize,
    stop: &AtomicBool,
) -> Vec<Range<u64>> {
    sched::set_affinity([cpu]).expect("affinity");
    let mut gaps = Vec::with_capacity(10_000);
    let mut last = smi::tsc();
    reading.fetch_add(1, Ordering::Relaxed);
    loop {
        // Before the reading: what kept this thread from running until it was to end is a gap as well.
        let over = stop.load(Ordering::Relaxed);
        let now = smi::tsc();
        if now - last >= threshold {
            gaps.push(last..now);
        }
        if over {
            return gaps;
        }
        last = now;
    }
}
