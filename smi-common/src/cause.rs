//! What can be proven of a gap's cause: a set of the following, empty when nothing is.

/// The SMI counter of its CPU moved across it.
pub const SMI: u64 = 1 << 0;
/// An NMI came across it.
pub const NMI: u64 = 1 << 1;
/// By the hypervisor's own account something else had the CPU for at least half of it, and for no more than all of it: a
/// longer time is the sum of many that were no gaps.
pub const STEAL: u64 = 1 << 2;

/// How many different sets there are.
pub const SETS: usize = 1 << 3;

/// What is proven of a gap of `duration_ns` across which the SMI counter moved by `smis`, NMI handlers ran `nmis` times
/// and the hypervisor owned up to `steal_ns`.
#[must_use]
#[inline(always)]
pub const fn proven(duration_ns: u64, smis: u64, nmis: u64, steal_ns: u64) -> u64 {
    let mut set = 0;
    if smis > 0 {
        set |= SMI;
    }
    if nmis > 0 {
        set |= NMI;
    }
    // Zero is no proof, however short the gap; and two clocks, and what little came before the gap, need some slack.
    if steal_ns > 0 && steal_ns >= duration_ns / 2 && steal_ns <= duration_ns + duration_ns / 4 {
        set |= STEAL;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moved_is_a_cause() {
        for (smis, nmis, steal_ns, set) in [
            (0, 0, 0, 0),
            (1, 0, 0, SMI),
            (0, 3, 0, NMI),
            (0, 0, 500, STEAL),
            (0, 0, 499, 0),
            (0, 0, 1_250, STEAL),
            (0, 0, 1_251, 0),
            (2, 1, 1_000, SMI | NMI | STEAL),
        ] {
            assert_eq!(proven(1_000, smis, nmis, steal_ns), set);
        }
        assert_eq!(proven(0, 0, 0, 0), 0);
        assert!((SMI | NMI | STEAL) as usize == SETS - 1);
    }
}
