//! Bucket bounds of a Prometheus native histogram, schema 3, in nanoseconds.
//!
//! Bucket *i* holds durations in (2^((i-1)/8) s, 2^(i/8) s]: eight buckets for each power of two, about 9 % wide. The
//! table spans 2^-24 s (59 ns) to 2^4 s (16 s); what is shorter or longer has a bucket of its own at either end, so
//! nothing is lost. Durations are whole nanoseconds, therefore each bound is rounded down.
//!
//! Source: <https://prometheus.io/docs/specs/native_histograms/>, "Schemas".

/// Buckets for each power of two: schema 3 is 2^3.
pub const PER_OCTAVE: usize = 8;
/// Prometheus's name for this resolution.
pub const SCHEMA: i32 = 3;
/// Native index of the first bound: 2^(-192/8) s = 2^-24 s.
pub const FIRST_INDEX: i32 = -192;
/// Native index of the last bound: 2^(32/8) s = 16 s.
pub const LAST_INDEX: i32 = 32;
/// How many bounds the table holds.
pub const BOUNDS: usize = (LAST_INDEX - FIRST_INDEX) as usize + 1;
/// Counts kept for each CPU: one for each bound, of the durations up to it, and one for those above the last.
pub const BUCKETS: usize = BOUNDS + 1;

/// Length of the padded table: a power of two, so that a bisection of fixed depth cannot leave it.
const TABLE: usize = 256;

/// 2^(k/8) in 60-bit fixed point.
const EIGHTHS: [u128; PER_OCTAVE] = {
    // Eighth root of two by three square roots; isqrt keeps every step exact to the last bit kept.
    let two: u128 = 2;
    let half = (two << 120).isqrt(); // 2^(1/2) * 2^60
    let quarter = (half << 60).isqrt(); // 2^(1/4)
    let eighth = (quarter << 60).isqrt(); // 2^(1/8)
    let mut roots = [1u128 << 60; PER_OCTAVE];
    let mut k = 1;
    while k < PER_OCTAVE {
        let mut root = 1u128 << 60;
        if k & 4 != 0 {
            root = (root * half) >> 60;
        }
        if k & 2 != 0 {
            root = (root * quarter) >> 60;
        }
        if k & 1 != 0 {
            root = (root * eighth) >> 60;
        }
        roots[k] = root;
        k += 1;
    }
    roots
};

/// Upper bounds in ns, inclusive, ascending; entries past [`BOUNDS`] are `u64::MAX`.
pub static UPPER_NS: [u64; TABLE] = {
    let mut table = [u64::MAX; TABLE];
    let mut i = 0;
    while i < BOUNDS {
        // index = FIRST_INDEX + i = -192 + i, so the power of two is -24 + i / 8.
        let scaled = 1_000_000_000 * EIGHTHS[i % PER_OCTAVE];
        table[i] = (scaled >> (60 + 24 - i / PER_OCTAVE)) as u64;
        i += 1;
    }
    table
};

/// Position in a [`BUCKETS`]-long array of the bucket that holds `ns`: the first whose upper bound is not below it.
///
/// Eight halvings whatever the value: no loop for the verifier to count, no branch for the CPU to miss.
#[inline(always)]
pub fn position(ns: u64) -> usize {
    let mut at = 0usize;
    let mut half = TABLE / 2;
    while half > 0 {
        if UPPER_NS[(at + half - 1) & (TABLE - 1)] < ns {
            at += half;
        }
        half /= 2;
    }
    if at < BUCKETS { at } else { BUCKETS - 1 }
}

/// Upper bound in ns, inclusive, of the bucket at `position`; `None` for the last, which has none.
#[must_use]
pub fn upper_ns(position: usize) -> Option<u64> {
    (position < BOUNDS).then(|| UPPER_NS[position])
}

/// Lower bound in ns, exclusive, of the bucket at `position`.
#[must_use]
pub fn lower_ns(position: usize) -> u64 {
    match position {
        0 => 0,
        p => UPPER_NS[p.min(BOUNDS) - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_of_the_eighth_root_of_two_seconds() {
        extern crate std;
        for (i, bound) in UPPER_NS[..BOUNDS].iter().enumerate() {
            let index = f64::from(FIRST_INDEX) + i as f64;
            let exact = std::primitive::f64::exp2(index / 8.0) * 1e9;
            assert_eq!(*bound, exact.floor() as u64, "bound {i}, index {index}");
        }
        assert_eq!(UPPER_NS[0], 59);
        assert_eq!(UPPER_NS[192], 1_000_000_000);
        assert_eq!(UPPER_NS[BOUNDS - 1], 16_000_000_000);
        assert!(UPPER_NS[BOUNDS..].iter().all(|b| *b == u64::MAX));
    }

    #[test]
    fn position_agrees_with_a_linear_search_on_and_beside_every_bound() {
        let linear = |ns| {
            UPPER_NS[..BOUNDS]
                .iter()
                .position(|b| ns <= *b)
                .unwrap_or(BOUNDS)
        };
        for bound in UPPER_NS[..BOUNDS].iter().copied() {
            for ns in [bound - 1, bound, bound + 1] {
                assert_eq!(position(ns), linear(ns), "{ns} ns");
            }
        }
        for ns in [0, 1, u64::MAX - 1, u64::MAX] {
            assert_eq!(position(ns), linear(ns), "{ns} ns");
        }
    }

    #[test]
    fn every_bucket_is_bounded_by_its_neighbours() {
        assert_eq!(lower_ns(0), 0);
        for p in 1..BUCKETS {
            assert_eq!(Some(lower_ns(p)), upper_ns(p - 1), "bucket {p}");
        }
        assert_eq!(upper_ns(BUCKETS - 1), None);
    }
}
