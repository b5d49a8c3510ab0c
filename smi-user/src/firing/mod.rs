//! SMIs by order: writing the chipset's port for them, and what came of it.

pub mod outcome;
pub mod place;
pub mod reader;
pub mod value;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    kernel::{clock::monotonic_ns, port::Ports, sched},
    units::show,
};

/// `APM_CNT` of Intel's chipsets, and of most others: a byte written here makes the chipset raise an SMI, whose handler
/// may take the byte for a request.
pub const PORT: u16 = 0xb2;

/// The longest sleep before it is looked whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// How many writes.
    pub count: u64,
    /// Time from the end of one to the beginning of the next.
    pub interval: Duration,
    /// What is written.
    pub value: u8,
    /// The CPU that writes.
    pub cpu: u32,
}

impl Order {
    /// How often and at what distance, for people.
    pub fn rhythm(&self) -> String {
        match (self.count, self.interval) {
            (1, _) => "once".to_owned(),
            (count, Duration::ZERO) => format!("{count} times without a pause"),
            (count, interval) => format!("{count} times, {} apart", show(interval)),
        }
    }
}

/// How long the writes took, system call included, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// How many there were.
    pub count: u64,
    /// The shortest; 0 when there was none.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// All of them.
    pub sum_ns: u64,
}

impl Writes {
    fn add(&mut self, ns: u64) {
        self.min_ns = if self.count == 0 {
            ns
        } else {
            self.min_ns.min(ns)
        };
        self.max_ns = self.max_ns.max(ns);
        self.sum_ns += ns;
        self.count += 1;
    }

    /// Their mean, in ns; 0 when there was none.
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.count.max(1) as f64
    }
}

/// Moves this thread to the CPU of the order, and carries the order out until `stop` is set.
///
/// # Errors
/// When the thread cannot be on that CPU, or the port not be written. How many writes came before is part of the error.
pub fn fire(order: &Order, ports: &Ports, stop: &AtomicBool) -> Result<Writes> {
    let Order {
        count,
        interval,
        value,
        cpu,
    } = *order;
    sched::set_affinity([cpu])
        .with_context(|| format!("cannot run on CPU {cpu}; is it still online?"))?;
    let mut writes = Writes::default();
    for number in 0..count {
        if number > 0 {
            pause(interval, stop);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // The kernel moves threads off a CPU that goes offline, whatever their affinity.
        ensure!(
            sched::current_cpu() == cpu,
            "CPU {cpu} went offline after {number} of {count} writes"
        );
        let before_ns = monotonic_ns();
        let written = ports.write(PORT, value);
        let took_ns = monotonic_ns() - before_ns;
        written.with_context(|| format!("after {number} of {count} writes"))?;
        writes.add(took_ns);
    }
    Ok(writes)
}

fn pause(mut left: Duration, stop: &AtomicBool) {
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        let nap = left.min(NAP);
        thread::sleep(nap);
        left -= nap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rhythm_is_said_in_words() {
        let rhythm = |count, interval| {
            Order {
                count,
                interval,
                value: 0,
                cpu: 0,
            }
            .rhythm()
        };
        let ms = Duration::from_millis;
        assert_eq!(rhythm(1, ms(100)), "once");
        assert_eq!(rhythm(5, ms(0)), "5 times without a pause");
        assert_eq!(rhythm(5, ms(1)), "5 times, 1.00 ms apart");
    }

    #[test]
    fn durations_of_writes_are_summed_up() {
        let mut writes = Writes::default();
        assert!(writes.mean_ns().abs() < f64::EPSILON);
        for ns in [4_000, 2_000, 9_000] {
            writes.add(ns);
        }
        assert_eq!(
            (writes.count, writes.min_ns, writes.max_ns),
            (3, 2_000, 9_000)
        );
        assert!((writes.mean_ns() - 5_000.0).abs() < f64::EPSILON);
    }
}
