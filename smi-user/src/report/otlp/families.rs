//! Which metrics there are. A unit in braces is a thing that is counted (UCUM's annotations).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, number_data_point::Value};
use smi_common::cause::{NMI, SMI, STEAL};

use super::{
    PushCounts, Sender,
    points::{Points, count, counter, cpu, gauge, histogram, seconds, text},
};
use crate::model::{Cause, CauseStats, CpuSnapshot, GapKind, Proof, Snapshot};

/// A point for each CPU that has a value.
fn per_cpu(
    points: &Points,
    snapshot: &Snapshot,
    of: impl Fn(&CpuSnapshot) -> Option<Value>,
) -> Vec<NumberDataPoint> {
    let point = |one: &CpuSnapshot| Some(points.point(vec![cpu(one.cpu)], of(one)?));
    snapshot.cpus.iter().filter_map(point).collect()
}

/// The causes that are told of each CPU: those that can be proven here, and all that any CPU had. Receivers see a count
/// begin at 0 then, and grow.
fn causes(snapshot: &Snapshot) -> BTreeSet<Cause> {
    let proofs = &snapshot.attribution;
    let provable = [(proofs.smi, SMI), (proofs.nmi, NMI), (proofs.steal, STEAL)];
    let mut causes = BTreeSet::from([Cause::default()]);
    causes.extend(
        provable
            .iter()
            .filter(|(proof, _)| *proof == Proof::Gap)
            .map(|(_, bit)| Cause::of_bits(*bit)),
    );
    causes.extend(
        snapshot
            .cpus
            .iter()
            .flat_map(|one| &one.causes)
            .map(|stats| stats.cause),
    );
    causes
}

/// Gaps, and the time in which they could be seen.
pub(super) fn gaps(
    points: &Points,
    snapshot: &Snapshot,
    interval_max_ns: &BTreeMap<u32, u64>,
) -> Vec<Option<Metric>> {
    let causes = causes(snapshot);
    let causes = &causes;
    let by_cause = |of: fn(Option<&CauseStats>) -> Value| {
        snapshot.cpus.iter().flat_map(move |one| {
            causes.iter().map(move |cause| {
                let stats = one.causes.iter().find(|stats| stats.cause == *cause);
                let cause = text("cause", &cause.to_string());
                points.point(vec![cpu(one.cpu), cause], of(stats))
            })
        })
    };
    vec![
        counter(
            "smilat.gaps",
            "{gap}",
            "Gaps by what is proven of their cause",
            by_cause(|stats| count(stats.map_or(0, |stats| stats.count))),
        ),
        counter(
            "smilat.gap",
            "s",
            "Time in gaps by what is proven of their cause",
            by_cause(|stats| seconds(stats.map_or(0, |stats| stats.sum_ns))),
        ),
        counter(
            "smilat.exposure",
            "s",
            "Time really spent sampling; gaps divided by it is their rate",
            per_cpu(points, snapshot, |one| Some(seconds(one.exposure_ns))),
        ),
        Some(histogram(
            "smilat.gap.duration",
            "Durations of gaps, all watched CPUs together",
            points.histogram(&snapshot.total()),
        )),
        gauge(
            "smilat.gap.max",
            "s",
            "The longest gap since start; 0 while there was none",
            per_cpu(points, snapshot, |one| {
                Some(seconds(one.gaps.max_ns.unwrap_or(0)))
            }),
        ),
        gauge(
            "smilat.gap.interval_max",
            "s",
            "The longest gap since the push before, and of pushes given up between; 0 when there was none",
            per_cpu(points, snapshot, |one| {
                let max = interval_max_ns.get(&one.cpu).copied();
                Some(seconds(max.unwrap_or(0)))
            }),
        ),
    ]
}

/// What counts SMIs and tells steal; nothing where nothing does.
pub(super) fn smis_and_steal(points: &Points, snapshot: &Snapshot) -> Vec<Option<Metric>> {
    // A run that counted SMIs before its configuration was read again, and does not now, has counts that stand still.
    let counter_now = snapshot.attribution.counter.as_ref();
    let smis = |one: &CpuSnapshot| counter_now.and(one.smis);
    let counted = snapshot.cpus.iter().filter_map(|one| {
        let attributes = vec![cpu(one.cpu), text("counter", &counter_now?.name)];
        Some(points.point(attributes, count(one.smis?.counted)))
    });
    vec![
        counter(
            "smilat.smis",
            "{smi}",
            "SMIs that the CPU's counter counted; most stop all CPUs and count on each, so take the highest, not the sum",
            counted,
        ),
        counter(
            "smilat.smis.sampled",
            "{smi}",
            "Of them, those that came while the CPU was sampling",
            per_cpu(points, snapshot, |one| Some(count(smis(one)?.sampled?))),
        ),
        counter(
            "smilat.smis.in_gaps",
            "{smi}",
            "Of these, those across gaps",
            per_cpu(points, snapshot, |one| Some(count(smis(one)?.in_gaps?))),
        ),
        counter(
            "smilat.smi.readings.failed",
            "{reading}",
            "Readings of the SMI counter that failed; gaps there have no proven SMI",
            per_cpu(points, snapshot, |one| Some(count(smis(one)?.unread))),
        ),
        counter(
            "smilat.steal.sampled",
            "s",
            "Time that the hypervisor took while the CPU was sampling, by its own account",
            per_cpu(points, snapshot, |one| Some(seconds(one.steal?.sampled_ns))),
        ),
        counter(
            "smilat.steal.in_gaps",
            "s",
            "Of it, the time across gaps",
            per_cpu(points, snapshot, |one| Some(seconds(one.steal?.in_gaps_ns))),
        ),
    ]
}

/// What was not seen, or not passed on.
pub(super) fn windows_and_records(points: &Points, snapshot: &Snapshot) -> Vec<Option<Metric>> {
    let outcomes = |of: fn(&CpuSnapshot) -> Vec<(&'static str, u64)>| {
        snapshot.cpus.iter().flat_map(move |one| {
            of(one).into_iter().map(move |(outcome, number)| {
                let attributes = vec![cpu(one.cpu), text("outcome", outcome)];
                points.point(attributes, count(number))
            })
        })
    };
    vec![
        counter(
            "smilat.windows",
            "{window}",
            "Windows run, and windows skipped: missed or cut short",
            outcomes(|one| vec![("run", one.windows.run), ("skipped", one.windows.skipped)]),
        ),
        counter(
            "smilat.gap.records",
            "{record}",
            "Single gaps passed on, kept back by --max-gap-records, lost for want of room; all are counted",
            outcomes(|one| {
                vec![
                    ("sent", one.records.sent),
                    ("limited", one.records.limited),
                    ("lost", one.records.lost),
                ]
            }),
        ),
        counter(
            "smilat.gap.records.dropped",
            "{record}",
            "Single gaps passed on and given up, because too many waited for a report",
            [points.point(Vec::new(), count(snapshot.gaps_dropped))],
        ),
    ]
}

/// What finds the gaps, and how it was set.
pub(super) fn settings(
    points: &Points,
    sender: &Sender,
    snapshot: &Snapshot,
) -> Vec<Option<Metric>> {
    let detector = &snapshot.detector;
    let one = |value| [points.point(Vec::new(), value)];
    let setting = |name, description, ns| gauge(name, "s", description, one(seconds(ns)));
    // Without a unit: Prometheus makes a gauge of unit 1 a ratio.
    let info = |name, description, attributes| {
        gauge(name, "", description, [points.point(attributes, count(1))])
    };
    let kind = match detector.gap_kind {
        GapKind::Gap => "gap",
        GapKind::WindowMax => "window_max",
    };
    vec![
        info(
            "smilat.build_info",
            "Version of smilat",
            vec![text("version", env!("CARGO_PKG_VERSION"))],
        ),
        info(
            "smilat.detector_info",
            "What finds the gaps, and what one of them is",
            vec![
                text("detector", &detector.name),
                text("gap_kind", kind),
                text("mode", &detector.mode.to_string()),
                text("cpus", &detector.cpus),
            ],
        ),
        setting(
            "smilat.threshold",
            "Gaps shorter than this are dropped in the kernel",
            detector.threshold_ns,
        ),
        setting(
            "smilat.width",
            "Time spent sampling in a window",
            detector.width_ns,
        ),
        setting(
            "smilat.window",
            "From one window to the next, on average",
            detector.window_ns,
        ),
        setting(
            "smilat.irqs_off_max",
            "Longest stretch with interrupts off",
            detector.irqs_off_max_ns,
        ),
        // The kernel's tracers do not say.
        (detector.noise_floor_ns > 0)
            .then(|| {
                setting(
                    "smilat.noise_floor",
                    "99.99th percentile of the time of one step of the loop, measured before the first window",
                    detector.noise_floor_ns,
                )
            })
            .flatten(),
        sender.hardlimit_ns.and_then(|ns| {
            setting(
                "smilat.hardlimit",
                "A longer gap makes the run's exit status 1",
                ns,
            )
        }),
    ]
}

/// What smilat itself does and costs.
pub(super) fn own(points: &Points, snapshot: &Snapshot, pushes: PushCounts) -> Vec<Option<Metric>> {
    let cost = snapshot.own_cost;
    let one = |value| [points.point(Vec::new(), value)];
    let outcome = |outcome, number| points.point(vec![text("outcome", outcome)], count(number));
    vec![
        counter(
            "smilat.cpu",
            "s",
            "CPU time of the process; the spin detector's sampling is part of it, unless the kernel accounts for interrupts apart",
            one(seconds(cost.cpu_ns)),
        ),
        cost.resident_bytes.and_then(|bytes| {
            gauge(
                "smilat.resident_memory",
                "By",
                "Memory that smilat holds",
                one(count(bytes)),
            )
        }),
        cost.bpf.and_then(|bpf| {
            counter(
                "smilat.bpf.runs",
                "{run}",
                "Runs of its BPF programs",
                one(count(bpf.runs)),
            )
        }),
        cost.bpf.and_then(|bpf| {
            counter(
                "smilat.bpf.run",
                "s",
                "Time that runs of its BPF programs took; with the spin detector, sampling included",
                one(seconds(bpf.run_ns)),
            )
        }),
        gauge(
            "smilat.snapshot.timestamp",
            "s",
            "When this snapshot was taken, since 1970",
            one(Value::AsDouble(since_1970_s(snapshot.time))),
        ),
        counter(
            "smilat.snapshots",
            "{snapshot}",
            "Snapshots taken",
            one(count(snapshot.interval)),
        ),
        counter(
            "smilat.push.snapshots",
            "{snapshot}",
            "Snapshots pushed before this one that the receiver took, and those given up",
            [outcome("sent", pushes.sent), outcome("lost", pushes.lost)],
        ),
        counter(
            "smilat.push.points.rejected",
            "{point}",
            "Data points that the receiver rejected from snapshots it took",
            one(count(pushes.rejected_points)),
        ),
        counter(
            "smilat.push.failures",
            "{attempt}",
            "Attempts to push that failed",
            one(count(pushes.failures)),
        ),
    ]
}

fn since_1970_s(time: Timestamp) -> f64 {
    time.as_nanosecond() as f64 / 1e9
}
