//! How many single gaps are passed on.

use crate::{
    kernel::release::{self, Version},
    settings::{Mode, Settings},
};

/// The rate to ask the programs for that run with interrupts off, and what to tell the user if it is not the one that
/// was asked for.
pub(super) fn per_s(settings: &Settings) -> (u64, Option<String>) {
    let many = settings.mode == Mode::PerCpu && settings.cpus.len() > 1;
    if many && sleeping_ring_buffer(&release::release(), release::is_realtime()) {
        let why = "single gaps are counted but not passed on: this kernel's BPF ring buffer may sleep when two CPUs write \
                   at once, which must not be with interrupts off; watch one CPU at a time to have them";
        (0, Some(why.to_owned()))
    } else {
        (settings.records_per_s, None)
    }
}

/// Whether the kernel's BPF ring buffer takes a lock that sleeps when another CPU holds it: with `PREEMPT_RT` before 6.12
/// ("bpf: Use `raw_spinlock_t` in ringbuf", `kernel/bpf/ringbuf.c`; some older stable kernels have the fix, too).
fn sleeping_ring_buffer(release: &str, realtime: bool) -> bool {
    let version = Version::of_release(release);
    realtime && version.is_some_and(|version| version < Version::new(6, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_realtime_kernels_have_a_ring_buffer_that_sleeps() {
        assert!(sleeping_ring_buffer("6.1.0-56-rt-amd64", true));
        assert!(!sleeping_ring_buffer("6.1.0-56-amd64", false));
        assert!(!sleeping_ring_buffer("6.12.9-rt-amd64", true));
    }
}
