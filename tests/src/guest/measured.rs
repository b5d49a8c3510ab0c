//! Compares gaps with the SMIs that made them.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use super::smi;

/// Shorter gaps are of no interest here: emulated CPUs have many of their own.
pub(super) const THRESHOLD: Duration = Duration::from_micros(100);

/// By how much a gap may be longer than its SMI without anything that explains it: what the measurement itself costs.
pub(super) const SLACK_NS: u64 = 250_000;

/// How long after a gap recording it and reading the counters may take. An emulated CPU that was stopped by its host takes
/// what waited for it meanwhile in that time, be it an SMI, and not within the gap.
pub(super) const RECORDING: Duration = Duration::from_millis(2);

/// How long a host that has other work keeps the emulator waiting, again and again.
const HOST_NS: u64 = 2_000_000;

/// An SMI and the gap it was seen as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// From the handler's first instruction to its last.
    pub(super) length_ns: u64,
    /// As measured.
    pub(super) gap_ns: u64,
}

impl Seen {
    fn excess_ns(self) -> u64 {
        self.gap_ns.saturating_sub(self.length_ns)
    }
}

/// Cycles of the TSC in `time`.
pub(super) fn cycles(time: Duration) -> u64 {
    (time.as_secs_f64() * smi::tsc_hz()) as u64
}

/// Time of so many cycles of the TSC.
pub(super) fn nanoseconds(cycles: u64) -> u64 {
    (cycles as f64 * 1e9 / smi::tsc_hz()) as u64
}

/// When a gap was.
pub(super) fn span(end: SystemTime, duration_ns: u64) -> Range<SystemTime> {
    end - Duration::from_nanos(duration_ns)..end
}

/// How long both last at the same time; `None` when one is over before the other begins.
pub(super) fn overlap(a: &Range<SystemTime>, b: &Range<SystemTime>) -> Option<Duration> {
    let (begin, end) = (a.start.max(b.start), a.end.min(b.end));
    end.duration_since(begin).ok()
}

/// SMIs of a known length beside the gaps they were seen as, and beside two controls of the same run: SMIs that do
/// nothing, and gaps that no SMI made.
///
/// A gap is longer than the handler's own record of its SMI, because the emulator takes time to enter and to leave it,
/// and that much more the busier the host is. The first control shows how much; the second, how long the host keeps the
/// emulator from running at all.
pub(super) struct Comparison {
    asked_ns: u64,
    seen: Vec<Seen>,
    missed: usize,
    empty_ns: Vec<u64>,
    noise_ns: Vec<u64>,
}

impl Comparison {
    /// Of SMIs that were asked to be this long.
    pub(super) fn new(asked: Duration) -> Self {
        Self {
            asked_ns: asked.as_nanos() as u64,
            seen: Vec::new(),
            missed: 0,
            empty_ns: Vec::new(),
            noise_ns: Vec::new(),
        }
    }

    /// Adds an SMI of the length asked for.
    pub(super) fn seen(&mut self, seen: Seen) {
        self.seen.push(seen);
    }

    /// How many of the length asked for were seen.
    pub(super) fn count(&self) -> usize {
        self.seen.len()
    }

    /// Adds an SMI of the length asked for that was not seen.
    pub(super) fn missed(&mut self) {
        self.missed += 1;
    }

    /// Adds an SMI that does nothing, which may have been too short to be seen.
    pub(super) fn control(&mut self, seen: Option<Seen>) {
        self.empty_ns.push(seen.map_or(0, Seen::excess_ns));
    }

    /// What an SMI that does nothing costs, in the median.
    pub(super) fn control_ns(&self) -> u64 {
        let mut empty_ns = self.empty_ns.clone();
        empty_ns.sort_unstable();
        quantile(&empty_ns, 0.5)
    }

    /// Adds a gap that no SMI made.
    pub(super) fn noise(&mut self, gap_ns: u64) {
        self.noise_ns.push(gap_ns);
    }

    /// What the cells of a row say.
    pub(super) const COLUMNS: [&str; 9] = [
        "SMIs inside",
        "seen",
        "within 5 %",
        "longer by, median",
        "90 %",
        "worst",
        "empty SMIs, median",
        "gaps without an SMI",
        "the longest",
    ];

    /// A row of the table.
    pub(super) fn row(&self) -> String {
        let mut excess_ns: Vec<u64> = self.seen.iter().map(|seen| seen.excess_ns()).collect();
        excess_ns.sort_unstable();
        let close = excess_ns.partition_point(|ns| ns * 20 <= self.asked_ns);
        let us = |ns: u64| format!("{} us", ns / 1000);
        let empty = if self.empty_ns.is_empty() {
            "-".to_owned()
        } else {
            us(self.control_ns())
        };
        let cells = [
            (self.seen.len() + self.missed).to_string(),
            self.seen.len().to_string(),
            close.to_string(),
            us(quantile(&excess_ns, 0.5)),
            us(quantile(&excess_ns, 0.9)),
            us(quantile(&excess_ns, 1.0)),
            empty,
            self.noise_ns.len().to_string(),
            us(self.noise_ns.iter().max().copied().unwrap_or_default()),
        ];
        cells.join(" | ") + " |"
    }

    /// Each gap must be as long as its SMI, which must be as long as asked. A tenth of them must be longer by no more
    /// than `slack_ns` and what an SMI costs that does nothing, `control_ns`: the host takes the CPU away often enough to
    /// lengthen most, though not all of them. Half may be longer by what a busy host takes at a time, nine of ten by the worst of either
    /// control. At least so many SMIs must have been compared.
    #[track_caller]
    pub(super) fn check(mut self, at_least: usize, control_ns: u64, slack_ns: u64) {
        let gap_us: Vec<u64> = self.seen.iter().map(|seen| seen.gap_ns / 1000).collect();
        let mut excess_ns: Vec<u64> = self.seen.iter().map(|seen| seen.excess_ns()).collect();
        excess_ns.sort_unstable();
        self.empty_ns.sort_unstable();
        println!(
            "    {} SMIs of {} us seen as gaps of {} to {} us; longer than the SMI by {} us in the median, {} at worst",
            self.seen.len(),
            self.asked_ns / 1000,
            gap_us.iter().min().unwrap_or(&0),
            gap_us.iter().max().unwrap_or(&0),
            quantile(&excess_ns, 0.5) / 1000,
            quantile(&excess_ns, 1.0) / 1000,
        );
        let noise_ns = self.noise_ns.iter().max().copied().unwrap_or_default();
        println!(
            "    {} SMIs that do nothing: {} us in the median, {} at worst; {} gaps without an SMI, up to {} us",
            self.empty_ns.len(),
            quantile(&self.empty_ns, 0.5) / 1000,
            quantile(&self.empty_ns, 1.0) / 1000,
            self.noise_ns.len(),
            noise_ns / 1000,
        );
        assert!(self.seen.len() >= at_least, "too few to tell");
        for seen in &self.seen {
            // The clock's rate is measured, and so known to a part in ten thousand only, and some tools know no
            // parts of a microsecond.
            let error_ns = self.asked_ns / 10_000 + 1_000;
            assert!(seen.length_ns + error_ns >= self.asked_ns, "{seen:?}");
            assert!(seen.gap_ns + error_ns >= seen.length_ns, "{seen:?}");
        }
        let least_allowed = control_ns + slack_ns;
        assert!(
            quantile(&excess_ns, 0.1) <= least_allowed,
            "nine of ten are longer by more than {least_allowed} ns"
        );
        let median_allowed = least_allowed + HOST_NS;
        assert!(
            quantile(&excess_ns, 0.5) <= median_allowed,
            "the median is longer by more than {median_allowed} ns"
        );
        let allowed = quantile(&self.empty_ns, 1.0).max(noise_ns) + slack_ns;
        assert!(
            quantile(&excess_ns, 0.9) <= allowed,
            "more than a tenth are longer by more than {allowed} ns"
        );
    }
}

/// Of sorted values; 0 of none.
fn quantile(sorted: &[u64], q: f64) -> u64 {
    let position = (sorted.len() as f64 * q) as usize;
    sorted
        .get(position.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}
