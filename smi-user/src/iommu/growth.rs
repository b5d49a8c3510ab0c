//! Suspects a leak where what a domain has mapped grows and grows.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// The time of the watch is divided in so many parts.
const PARTS: usize = 10;
/// Less than this is no leak that anybody would look for.
const LEAST_BYTES: i64 = 1 << 20;
/// Domains that are looked at: as many as the kernel side has room for rows.
const DOMAINS: usize = 4096;

/// The lowest that was mapped in one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    began: Duration,
    low_bytes: i64,
}

/// One domain.
#[derive(Debug, Default)]
struct Domain {
    /// The parts that are over, oldest first: ten, and the one before them.
    over: VecDeque<Part>,
    /// The one that goes on.
    now: Option<Part>,
    told: Option<Told>,
}

/// What was told of a domain last.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// From where on it grew.
    from: Part,
    /// By how much, when it was told.
    grown_bytes: i64,
}

/// What grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Bytes mapped since start that are mapped still.
    pub net_bytes: i64,
    /// For how long that has grown.
    pub over: Duration,
    /// By how much meanwhile: lowest to lowest, so that what is in use for a moment does not count.
    pub grown_bytes: u64,
}

/// See the module.
///
/// What is in use goes up and down with the load, and is the highest when much is under way. What leaked is never unmapped, so it shows
/// when little is: the time is divided into ten parts, and of each the lowest value is kept. A leak is suspected when each of the last
/// ten parts has a higher lowest value than the part before, and the last one 1 MiB more than the first: a load that comes and goes
/// more often than ten parts take has one that is not. A leak that is slower than what the lowest values differ by from part to part
/// is found with a longer time. It is told once, and again when it has doubled; when half of what had grown was
/// unmapped, it starts anew.
#[derive(Debug)]
pub struct Growth {
    part: Duration,
    domains: BTreeMap<u32, Domain>,
}

impl Growth {
    /// Looks at the last `growth_for` (`--growth-for`); never, where that is 0.
    pub fn new(growth_for: Duration) -> Self {
        Self {
            part: growth_for / PARTS as u32,
            domains: BTreeMap::new(),
        }
    }

    /// Takes what `domain` had mapped at `elapsed` since start, of what it mapped since then; call it at each interval. Parts last for
    /// an interval at least.
    pub fn take(&mut self, domain: u32, elapsed: Duration, net_bytes: i64) -> Option<Grown> {
        let has_room = self.domains.len() < DOMAINS || self.domains.contains_key(&domain);
        if self.part.is_zero() || !has_room {
            return None;
        }
        let part = self.part;
        self.domains
            .entry(domain)
            .or_default()
            .take(part, elapsed, net_bytes)
    }

    /// Makes room: `domain` is no more.
    pub fn forget(&mut self, domain: u32) {
        self.domains.remove(&domain);
    }
}

impl Domain {
    fn take(&mut self, part: Duration, elapsed: Duration, net_bytes: i64) -> Option<Grown> {
        let begin = Part {
            began: elapsed,
            low_bytes: net_bytes,
        };
        let now = self.now.get_or_insert(begin);
        if elapsed.saturating_sub(now.began) < part {
            now.low_bytes = now.low_bytes.min(net_bytes);
            return None;
        }
        self.over.push_back(*now);
        *now = begin;
        if self.over.len() > PARTS + 1 {
            self.over.pop_front();
        }
        self.suspect(elapsed, net_bytes)
    }

    /// Looks at the parts that are over.
    fn suspect(&mut self, elapsed: Duration, net_bytes: i64) -> Option<Grown> {
        let (first, last) = (*self.over.front()?, *self.over.back()?);
        if let Some(told) = self.told
            && last.low_bytes - told.from.low_bytes < told.grown_bytes / 2
        {
            self.told = None;
        }
        let rises = self
            .over
            .iter()
            .zip(self.over.iter().skip(1))
            .all(|(before, after)| after.low_bytes > before.low_bytes);
        if self.over.len() <= PARTS || !rises {
            return None;
        }
        let from = self.told.map_or(first, |told| told.from);
        let grown_bytes = last.low_bytes - from.low_bytes;
        let enough = self
            .told
            .map_or(LEAST_BYTES, |told| told.grown_bytes.saturating_mul(2));
        if grown_bytes < enough {
            return None;
        }
        self.told = Some(Told { from, grown_bytes });
        Some(Grown {
            net_bytes,
            over: elapsed.saturating_sub(from.began),
            grown_bytes: grown_bytes.cast_unsigned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    /// Ten minutes, looked at every five seconds, with `bytes` by the second. When something was told, and what.
    fn run(seconds: u64, bytes: impl Fn(u64) -> i64) -> Vec<(u64, Grown)> {
        let mut growth = Growth::new(Duration::from_mins(10));
        (0..seconds)
            .step_by(5)
            .filter_map(|second| {
                let grown = growth.take(1, Duration::from_secs(second), bytes(second))?;
                Some((second, grown))
            })
            .collect()
    }

    /// What is under way, from 0 to 64 MiB, as if by chance.
    fn churn(second: u64) -> i64 {
        let mixed = (second + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        i64::from((mixed >> 40) as u32 % 64) * MIB
    }

    #[test]
    fn what_stays_or_comes_and_goes_is_no_leak() {
        assert_eq!(run(36_000, |_| 512 * MIB), [], "steady");
        assert_eq!(
            run(36_000, |second| (second % 300).cast_signed() * MIB),
            [],
            "a sawtooth within five parts"
        );
        assert_eq!(
            run(36_000, |second| (second % 600).cast_signed() * MIB),
            [],
            "a sawtooth as long as the watch"
        );
        assert_eq!(run(36_000, churn), [], "as if by chance");
        assert_eq!(
            run(36_000, |second| if second < 300 { 0 } else { 512 * MIB }),
            [],
            "a guest was started"
        );
        assert_eq!(run(36_000, |second| -second.cast_signed() * MIB), []);
    }

    #[test]
    fn a_slow_leak_under_heavy_churn_is_told_once_and_again_when_it_has_doubled() {
        // The lowest of twelve values of the churn differs by a few MiB from part to part: 30 MiB a minute stand out.
        let told = run(6000, |second| {
            churn(second) + second.cast_signed() * MIB / 2
        });
        let grown: Vec<u64> = told.iter().map(|(_, grown)| grown.grown_bytes).collect();
        assert!(told.len() >= 3, "{told:?}");
        assert_eq!(told[0].0, 660, "after the part before and ten more");
        assert_eq!(told[0].1.over, Duration::from_mins(11));
        assert!((250..350).contains(&(grown[0] / MIB.cast_unsigned())));
        for pair in grown.windows(2) {
            assert!(pair[1] >= 2 * pair[0], "{grown:?}");
        }
    }

    #[test]
    fn less_than_1_mib_is_not_told_until_it_is_that_much() {
        // 4 KiB every five seconds: 48 KiB each part.
        let told = run(600 * 60, |second| (second / 5).cast_signed() * 4096);
        assert_eq!(told, [], "480 KiB in the time looked at, whenever that is");
        let told = run(3600, |second| (second / 5).cast_signed() * 3 * 4096);
        assert_eq!(told[0].0, 660);
    }

    #[test]
    fn a_pause_does_not_have_it_told_anew() {
        let leak = |second: u64| {
            let paused = if second < 1000 {
                second
            } else {
                second.max(1200) - 200
            };
            paused.cast_signed() * MIB
        };
        let told = run(2200, leak);
        let seconds: Vec<u64> = told.iter().map(|(second, _)| *second).collect();
        // 600 MiB at 660 s; twice that when the ten parts rise again and 1,200 MiB are reached.
        assert_eq!(seconds.len(), 2, "{told:?}");
        assert_eq!(seconds[0], 660);
        assert!(seconds[1] > 1800, "{told:?}");
    }

    #[test]
    fn after_what_leaked_was_unmapped_it_starts_anew() {
        let told = run(3000, |second| (second % 1500).cast_signed() * MIB);
        let seconds: Vec<u64> = told.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds.len(), 4, "{told:?}");
        assert_eq!(seconds[0], 660);
        assert!(seconds[2] > 1500 + 600, "{told:?}");
        assert!(told[2].1.over <= Duration::from_mins(12), "{told:?}");
    }

    #[test]
    fn intervals_longer_than_a_part_are_parts() {
        let mut growth = Growth::new(Duration::from_secs(10));
        let told: Vec<u64> = (0..20)
            .filter(|index| {
                let elapsed = Duration::from_secs(index * 60);
                growth.take(1, elapsed, index.cast_signed() * MIB).is_some()
            })
            .collect();
        assert_eq!(told, [11]);
    }

    #[test]
    fn domains_are_told_apart_and_forgotten() {
        let mut growth = Growth::new(Duration::from_secs(10));
        let mut feed = |domain, second: u64, bytes| {
            growth
                .take(domain, Duration::from_secs(second), bytes)
                .is_some()
        };
        for second in 0..=10 {
            assert!(!feed(1, second, second.cast_signed() * MIB));
            assert!(!feed(2, second, 0));
        }
        assert!(feed(1, 11, 11 * MIB));
        assert!(!feed(2, 11, 0));
        growth.forget(1);
        assert_eq!(growth.take(1, Duration::from_secs(12), 12 * MIB), None);
        assert_eq!(growth.domains.len(), 2);
    }

    #[test]
    fn there_is_an_end_to_the_domains_and_to_what_is_kept_of_each() {
        let mut growth = Growth::new(Duration::from_secs(10));
        for domain in 0..DOMAINS as u32 + 10 {
            growth.take(domain, Duration::ZERO, 0);
        }
        assert_eq!(growth.domains.len(), DOMAINS);
        for second in 0..1000 {
            growth.take(7, Duration::from_secs(second), second.cast_signed());
        }
        assert_eq!(growth.domains[&7].over.len(), PARTS + 1);
    }

    #[test]
    fn with_no_time_nothing_is_looked_at() {
        let mut growth = Growth::new(Duration::ZERO);
        for second in 0..100 {
            let elapsed = Duration::from_secs(second);
            assert_eq!(growth.take(1, elapsed, second.cast_signed() * MIB), None);
        }
        assert!(growth.domains.is_empty());
    }
}
