//! SMIs that were fired, what a tool told of them, and which belongs to which.

use std::time::{Duration, SystemTime};

use smi_user::model::Gap;

use super::{
    measured::{nanoseconds, overlap, span},
    peers::HwlatdetectSample,
    smi::{Moment, Smi},
    symbols::Symbols,
};

/// Time sampled, and of how much.
pub(super) const WIDTH: Duration = Duration::from_millis(36);
pub(super) const WINDOW: Duration = Duration::from_millis(40);

/// Where a CPU is while a tracer samples it: in its loop, or in the clock that the loop reads.
pub(super) const TRACER_LOOP: [&str; 11] = [
    // hwlat's, with what the compiler put into it.
    "kthread_fn",
    "kthread_per_cpu_fn",
    "get_sample",
    // osnoise's.
    "run_osnoise",
    "osnoise_main",
    "kthread_should_stop",
    "rcu_momentary_eqs",
    // The clock's.
    "trace_clock_local",
    "sched_clock",
    "sched_clock_noinstr",
    "native_sched_clock",
];

/// An SMI that was fired, and when it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fired {
    pub(super) smi: Smi,
    pub(super) begin: SystemTime,
    pub(super) end: SystemTime,
    /// Of the length that the others have, or without a length.
    pub(super) is_long: bool,
    /// It came while the detector sampled.
    pub(super) is_inside: bool,
}

impl Fired {
    /// By `moment`, a time not long before or after it, and by what it interrupted: a detector samples in `functions`.
    pub(super) fn new(
        smi: Smi,
        is_long: bool,
        moment: &Moment,
        symbols: &Symbols,
        functions: &[&str],
    ) -> Self {
        Self {
            smi,
            begin: moment.wall_at(smi.begin_tsc),
            end: moment.wall_at(smi.end_tsc),
            is_long,
            is_inside: !smi.interrupts_on && symbols.is_in(smi.rip, functions),
        }
    }

    pub(super) fn length_ns(&self) -> u64 {
        nanoseconds(self.smi.end_tsc - self.smi.begin_tsc)
    }
}

/// A gap, or what a tool makes of a window, as it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) end: SystemTime,
    pub(super) duration_ns: u64,
}

impl From<&Gap> for Told {
    fn from(gap: &Gap) -> Self {
        Self {
            end: gap.end_time.into(),
            duration_ns: gap.duration_ns,
        }
    }
}

impl From<&HwlatdetectSample> for Told {
    fn from(sample: &HwlatdetectSample) -> Self {
        Self {
            end: sample.time,
            duration_ns: sample.inner_us.max(sample.outer_us) * 1_000,
        }
    }
}

/// What a tool tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each gap, when it ended.
    Gaps,
    /// The longest gap of each window, dated by the first.
    Windows,
}

impl Told {
    /// How well this fits what `fired` made, the less the better; `None` when it cannot be that.
    fn misfit(&self, fired: &Fired, kind: Kind) -> Option<Duration> {
        let length = Duration::from_nanos(fired.length_ns());
        match kind {
            Kind::Gaps => {
                // It holds the SMI, but for what two clocks differ.
                let smi = fired.begin..fired.end;
                let common = overlap(&span(self.end, self.duration_ns), &smi)?;
                (common * 2 >= length).then(|| length.saturating_sub(common))
            }
            // Dated by the first gap of the window above the threshold. Tools that know no parts of a microsecond cut
            // them off.
            Kind::Windows => {
                let apart = apart(self.end, fired.end);
                let fits = apart <= WIDTH + length && self.duration_ns + 1_000 >= fired.length_ns();
                fits.then_some(apart)
            }
        }
    }
}

/// From the earlier to the later.
pub(super) fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|error| error.duration())
}

/// What a tool told, in the order of time.
pub(super) struct AllTold {
    told: Vec<Told>,
    kind: Kind,
    longest: Duration,
}

impl AllTold {
    pub(super) fn new(kind: Kind, mut told: Vec<Told>) -> Self {
        told.sort_by_key(|one| one.end);
        let longest_ns = told.iter().map(|one| one.duration_ns).max();
        Self {
            told,
            kind,
            longest: Duration::from_nanos(longest_ns.unwrap_or_default()),
        }
    }

    pub(super) fn as_slice(&self) -> &[Told] {
        &self.told
    }

    /// All that may be what `fired` made: place, and how well it fits, the less the better.
    pub(super) fn fitting(&self, fired: &Fired) -> impl Iterator<Item = (Duration, usize)> {
        let (early, late) = match self.kind {
            Kind::Gaps => (fired.begin, fired.end + self.longest),
            Kind::Windows => {
                let reach = WIDTH + Duration::from_nanos(fired.length_ns());
                (fired.end - reach, fired.end + reach)
            }
        };
        let first = self.told.partition_point(|one| one.end < early);
        self.told[first..]
            .iter()
            .take_while(move |one| one.end <= late)
            .zip(first..)
            .filter_map(|(one, place)| Some((one.misfit(fired, self.kind)?, place)))
    }

    /// For each of `fired` the place of what was told of it; nothing told is of two of them.
    pub(super) fn of_each<'a>(
        &self,
        fired: impl IntoIterator<Item = &'a Fired>,
    ) -> Vec<Option<usize>> {
        let mut used = vec![false; self.told.len()];
        fired
            .into_iter()
            .map(|one| {
                let (_, place) = self.fitting(one).filter(|(_, at)| !used[*at]).min()?;
                used[place] = true;
                Some(place)
            })
            .collect()
    }
}
