//! The list.

use super::{
    Family, List, Sample,
    Value::{self, Count, Ns},
    Way,
};
use crate::model::{CauseStats, CpuSnapshot, GapKind, Snapshot};

/// All that `snapshot` says by `way`.
pub(in crate::report) fn families(snapshot: &Snapshot, way: &Way<'_>) -> Vec<Family> {
    let mut list = List::default();
    gaps(&mut list, snapshot, way);
    smis_and_steal(&mut list, snapshot);
    windows_and_records(&mut list, snapshot);
    settings(&mut list, snapshot, way);
    own(&mut list, snapshot);
    way.own(&mut list);
    list.0
}

/// Gaps, and the time in which they could be seen.
fn gaps(list: &mut List, snapshot: &Snapshot, way: &Way<'_>) {
    let by_cause = |of: fn(&CauseStats) -> u64, value: fn(u64) -> Value| {
        snapshot.cpus.iter().flat_map(move |cpu| {
            way.causes(snapshot, cpu).into_iter().map(move |cause| {
                let stats = cpu.causes.iter().find(|stats| stats.cause == cause);
                Sample::of(cpu, value(stats.map_or(0, of))).with("cause", &cause)
            })
        })
    };
    list.counter(
        "smilat.gaps",
        "{gap}",
        "Gaps by what is proven of their cause; each gap is in one of the causes.",
        by_cause(|stats| stats.count, Count),
    );
    list.counter(
        "smilat.gap",
        "s",
        "Sum of the gaps' durations, by cause.",
        by_cause(|stats| stats.sum_ns, Ns),
    );
    list.counter(
        "smilat.exposure",
        "s",
        "Time really spent sampling. Gaps divided by it is their true rate.",
        by_cpu(snapshot, |cpu| Some(Ns(cpu.exposure_ns))),
    );
    way.durations(list, snapshot);
    list.gauge(
        "smilat.gap.max",
        "s",
        "The longest gap since start; 0 while there was none.",
        by_cpu(snapshot, |cpu| Some(Ns(cpu.gaps.max_ns.unwrap_or(0)))),
    );
    way.longest_of_late(list, snapshot);
}

/// What counts SMIs and tells steal; nothing where nothing does.
fn smis_and_steal(list: &mut List, snapshot: &Snapshot) {
    // A run that counted SMIs before its configuration was read again, and does not now, has counts that stand still.
    let counter = snapshot.attribution.counter.as_ref();
    let smis = |cpu: &CpuSnapshot| counter.and(cpu.smis);
    list.counter(
        "smilat.smis",
        "{smi}",
        "SMIs that the CPU's counter counted since start, whatever the CPU was doing. Most stop and count on all CPUs: do not \
         add CPUs up, take the highest.",
        snapshot.cpus.iter().filter_map(|cpu| {
            let counted = Count(smis(cpu)?.counted);
            Some(Sample::of(cpu, counted).with("counter", &counter?.name))
        }),
    );
    list.counter(
        "smilat.smis.sampled",
        "{smi}",
        "SMIs that came while the CPU was sampling.",
        by_cpu(snapshot, |cpu| smis(cpu)?.sampled.map(Count)),
    );
    list.counter(
        "smilat.smis.in_gaps",
        "{smi}",
        "SMIs across gaps; the rest of those sampled was shorter than the threshold.",
        by_cpu(snapshot, |cpu| smis(cpu)?.in_gaps.map(Count)),
    );
    list.counter(
        // Not `smi.counter.unread`: a name must not hold a type, says promtool.
        "smilat.smi.readings.failed",
        "{reading}",
        "Readings of the SMI counter within the kernel that failed; gaps there have no proven SMI.",
        by_cpu(snapshot, |cpu| Some(Count(smis(cpu)?.unread))),
    );
    list.counter(
        "smilat.steal.sampled",
        "s",
        "Time for which the hypervisor, by its own account, let something else have the CPU while it was sampling.",
        by_cpu(snapshot, |cpu| Some(Ns(cpu.steal?.sampled_ns))),
    );
    list.counter(
        "smilat.steal.in_gaps",
        "s",
        "Of that time, the part across gaps.",
        by_cpu(snapshot, |cpu| Some(Ns(cpu.steal?.in_gaps_ns))),
    );
}

/// What was not seen, or not passed on.
fn windows_and_records(list: &mut List, snapshot: &Snapshot) {
    list.counter(
        "smilat.windows",
        "{window}",
        "Windows that were sampled for at least half of their width (run), and that were missed or cut short (skipped).",
        by_outcome(snapshot, |cpu| {
            [
                ("run", cpu.windows.run),
                ("skipped", cpu.windows.skipped),
            ]
        }),
    );
    list.counter(
        "smilat.gap.records",
        "{record}",
        "Single gaps passed on (sent), kept back by --max-gap-records (limited), and lost because the buffer was full (lost). \
         All are counted in everything else.",
        by_outcome(snapshot, |cpu| {
            [
                ("sent", cpu.records.sent),
                ("limited", cpu.records.limited),
                ("lost", cpu.records.lost),
            ]
        }),
    );
    list.counter(
        "smilat.gap.records.dropped",
        "{record}",
        "Single gaps given up because too many waited for a report. All are counted in everything else.",
        [Count(snapshot.gaps_dropped)],
    );
}

/// What finds the gaps, and how it was set.
fn settings(list: &mut List, snapshot: &Snapshot, way: &Way<'_>) {
    let detector = &snapshot.detector;
    list.build();
    let gap_kind = match detector.gap_kind {
        GapKind::Gap => "gap",
        GapKind::WindowMax => "window_max",
    };
    list.info(
        "smilat.detector_info",
        "What finds the gaps. Its gaps are single ones (gap) or the longest of each window (window_max).",
        [
            ("detector", detector.name.clone()),
            ("gap_kind", gap_kind.to_owned()),
            ("mode", detector.mode.to_string()),
            ("cpus", detector.cpus.clone()),
        ],
    );
    // The kernel's tracers do not say.
    let noise_floor_ns = (detector.noise_floor_ns > 0).then_some(detector.noise_floor_ns);
    for (name, help, ns) in [
        (
            "smilat.threshold",
            "Gaps shorter than this are dropped in the kernel.",
            Some(detector.threshold_ns),
        ),
        (
            "smilat.width",
            "Time spent sampling in a window.",
            Some(detector.width_ns),
        ),
        (
            "smilat.window",
            "Time from one window to the next, on average.",
            Some(detector.window_ns),
        ),
        (
            "smilat.irqs_off_max",
            "Longest stretch with interrupts off: what an interrupt may have to wait because of smilat.",
            Some(detector.irqs_off_max_ns),
        ),
        (
            "smilat.noise_floor",
            "99.99th percentile of the time of one step of the sampling loop, measured before the first window.",
            noise_floor_ns,
        ),
        (
            "smilat.hardlimit",
            "The limit that gaps are held against; a longer one makes the run's exit status 1.",
            way.hardlimit_ns(),
        ),
    ] {
        list.gauge(name, "s", help, ns.map(Ns));
    }
}

/// What smilat itself does and costs.
fn own(list: &mut List, snapshot: &Snapshot) {
    let cost = &snapshot.own_cost;
    list.counter(
        "smilat.cpu",
        "s",
        "CPU time of smilat's process, user and system. The spin detector's sampling is part of it, unless the kernel accounts \
         for interrupts apart (CONFIG_IRQ_TIME_ACCOUNTING); the kernel's tracers sample in threads of their own.",
        [Ns(cost.cpu_ns)],
    );
    list.gauge(
        "smilat.resident_memory",
        "By",
        "Memory that smilat holds.",
        cost.resident_bytes.map(Count),
    );
    list.counter(
        "smilat.bpf.runs",
        "{run}",
        "Runs of smilat's BPF programs.",
        cost.bpf.map(|bpf| Count(bpf.runs)),
    );
    list.counter(
        "smilat.bpf.run",
        "s",
        "Time that smilat's BPF programs took; with the spin detector, sampling included.",
        cost.bpf.map(|bpf| Ns(bpf.run_ns)),
    );
    list.taken(snapshot.time);
    list.counter(
        "smilat.snapshots",
        "{snapshot}",
        "Snapshots taken: the number of the last interval.",
        [Count(snapshot.interval)],
    );
    list.counter(
        "smilat.recording.snapshots.lost",
        "{snapshot}",
        "Snapshots before this one that are missing in the recording, or that its disk may not have taken.",
        snapshot.recording_lost.map(Count),
    );
}

/// A value of each CPU that has one.
pub(super) fn by_cpu(
    snapshot: &Snapshot,
    of: impl Fn(&CpuSnapshot) -> Option<Value>,
) -> impl Iterator<Item = Sample> {
    let cpus = snapshot.cpus.iter();
    cpus.filter_map(move |cpu| Some(Sample::of(cpu, of(cpu)?)))
}

/// A number for each CPU and outcome.
fn by_outcome<const N: usize>(
    snapshot: &Snapshot,
    of: fn(&CpuSnapshot) -> [(&'static str, u64); N],
) -> impl Iterator<Item = Sample> {
    snapshot.cpus.iter().flat_map(move |cpu| {
        let outcomes = of(cpu).into_iter();
        outcomes.map(|(outcome, number)| Sample::of(cpu, Count(number)).with("outcome", &outcome))
    })
}
