//! Where scrapes and pushes differ: what one of them says alone, or otherwise. Everything else is the same for both.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    List, Sample,
    Value::{Count, Gaps, Ns},
    families::by_cpu,
};
use crate::{
    model::{Cause, CpuSnapshot, Proof, Snapshot},
    report::{
        otlp::{PushCounts, Sender},
        prometheus::{About, Served},
    },
    units::ns,
};

/// The way by which metrics leave the machine, with what it knows beside snapshots.
pub(in crate::report) enum Way<'a> {
    /// Servers fetch them, whenever they like.
    Scrape {
        /// What is exported beside snapshots.
        about: &'a About,
        /// What the server adds.
        served: &'a Served,
    },
    /// They are sent, to one receiver.
    Push {
        /// Who sends.
        sender: &'a Sender,
        /// Each CPU's longest gap since the push before; CPUs without any are not in it.
        interval_max_ns: &'a BTreeMap<u32, u64>,
        /// How the pushes before went.
        counts: PushCounts,
    },
}

impl Way<'_> {
    /// The limit that gaps are held against, if there is one.
    pub(super) fn hardlimit_ns(&self) -> Option<u64> {
        match self {
            Self::Scrape { about, .. } => about.hardlimit.map(ns),
            Self::Push { sender, .. } => sender.hardlimit_ns,
        }
    }

    /// The causes that are told of `cpu`. Those that can be proven here are told from the start, at 0, so that the first gap
    /// of a cause shows as an increase. Sets of several are told to scrapes once the CPU had such a gap, which keeps series
    /// few; in pushes, once any CPU had.
    pub(super) fn causes(&self, snapshot: &Snapshot, cpu: &CpuSnapshot) -> BTreeSet<Cause> {
        let seen_on = match self {
            Self::Scrape { .. } => std::slice::from_ref(cpu),
            Self::Push { .. } => &snapshot.cpus,
        };
        let seen = seen_on.iter().flat_map(|cpu| &cpu.causes);
        let proofs = &snapshot.attribution;
        let provable = [
            (proofs.smi, Cause::SMI),
            (proofs.nmi, Cause::NMI),
            (proofs.steal, Cause::STEAL),
        ];
        provable
            .into_iter()
            .filter_map(|(proof, cause)| (proof == Proof::Gap).then_some(cause))
            .chain(seen.map(|stats| stats.cause))
            .chain([Cause::UNKNOWN])
            .collect()
    }

    /// Gaps by duration: of each CPU only where scrapes ask for that.
    pub(super) fn durations(&self, list: &mut List, snapshot: &Snapshot) {
        let name = "smilat.gap.duration";
        match self {
            Self::Scrape { about, .. } if about.per_cpu_histograms => list.histogram(
                name,
                "Gaps of each CPU by duration. A CPU takes 1 series as a native histogram, 28 as a classic one.",
                by_cpu(snapshot, |cpu| Some(Gaps(Box::new(cpu.total())))),
            ),
            _ => list.histogram(
                name,
                "Gaps of all watched CPUs together by duration.",
                [Gaps(Box::new(snapshot.total()))],
            ),
        }
    }

    /// The longest gaps of late. Whoever is pushed to gets every interval's; whoever scrapes may miss some, hence the minutes.
    pub(super) fn longest_of_late(&self, list: &mut List, snapshot: &Snapshot) {
        let name = "smilat.gap.interval_max";
        match self {
            Self::Scrape { served, .. } => {
                list.gauge(
                    name,
                    "s",
                    "The longest gap of the last interval; 0 when there was none.",
                    by_cpu(snapshot, |cpu| {
                        Some(Ns(cpu.gaps.interval_max_ns.unwrap_or(0)))
                    }),
                );
                list.gauge(
                    "smilat.gap.recent_max",
                    "s",
                    "The longest gap of the last minute or two, or two intervals where they are longer; 0 when there was none. \
                     Scrapes at least once a minute miss none.",
                    longest(snapshot, &served.recent_max_ns),
                );
            }
            Self::Push {
                interval_max_ns, ..
            } => list.gauge(
                name,
                "s",
                "The longest gap since the push before, and of pushes given up between; 0 when there was none.",
                longest(snapshot, interval_max_ns),
            ),
        }
    }

    /// How this way itself fared.
    pub(super) fn own(&self, list: &mut List) {
        match self {
            Self::Scrape { served, .. } => list.displaced(served.connections_displaced),
            Self::Push { counts, .. } => {
                let outcome = |outcome, count| Sample::from(Count(count)).with("outcome", &outcome);
                list.counter(
                    "smilat.push.snapshots",
                    "{snapshot}",
                    "Snapshots pushed before this one that the receiver took (sent), and those given up (lost).",
                    [outcome("sent", counts.sent), outcome("lost", counts.lost)],
                );
                list.counter(
                    "smilat.push.points.rejected",
                    "{point}",
                    "Data points that the receiver rejected from snapshots it took.",
                    [Count(counts.rejected_points)],
                );
                list.counter(
                    "smilat.push.failures",
                    "{attempt}",
                    "Attempts to push that failed.",
                    [Count(counts.failures)],
                );
            }
        }
    }
}

/// What `max_ns` has of each CPU, or 0.
fn longest(snapshot: &Snapshot, max_ns: &BTreeMap<u32, u64>) -> impl Iterator<Item = Sample> {
    by_cpu(snapshot, |cpu| {
        Some(Ns(max_ns.get(&cpu.cpu).copied().unwrap_or(0)))
    })
}
