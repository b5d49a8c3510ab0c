//! Every family that is exported, said once: name, kind, meaning, and its values in a snapshot.
//!
//! Base units and endings are those of <https://prometheus.io/docs/practices/naming/>.

use super::{
    About, Served,
    family::{Family, Kind, Labels, List, Sample, Value},
};
use crate::{
    model::{Cause, CauseStats, CpuSnapshot, GapKind, Proof, Snapshot},
    units::ns,
};

/// All that `snapshot` and `about` say.
pub(super) fn families(snapshot: &Snapshot, about: &About, served: &Served) -> Vec<Family> {
    let mut list = List::default();
    gaps(&mut list, snapshot, about, served);
    causes(&mut list, snapshot);
    windows(&mut list, snapshot);
    settings(&mut list, snapshot, about);
    own(&mut list, snapshot, served);
    list.0
}

fn gaps(list: &mut List, snapshot: &Snapshot, about: &About, served: &Served) {
    list.add(
        "smilat_gaps_total",
        Kind::Counter,
        "Gaps by what is proven of their cause; each gap is in one of the causes.",
        by_cause(snapshot, |stats| stats.count as f64),
    );
    list.add(
        "smilat_gap_seconds_total",
        Kind::Counter,
        "Sum of the gaps' durations, by cause.",
        by_cause(snapshot, |stats| seconds(stats.sum_ns)),
    );
    list.add(
        "smilat_exposure_seconds_total",
        Kind::Counter,
        "Time really spent sampling. Gaps divided by it is their true rate.",
        by_cpu(snapshot, |cpu| Some(seconds(cpu.exposure_ns))),
    );
    let histogram = |sum_ns, histogram| Value::Histogram {
        sum: seconds(sum_ns),
        histogram: Box::new(histogram),
    };
    if about.per_cpu_histograms {
        list.values(
            "smilat_gap_duration_seconds",
            Kind::Histogram,
            "Gaps of each CPU by duration. A CPU takes 1 series as a native histogram, 28 as a classic one.",
            snapshot.cpus.iter().map(|cpu| Sample {
                labels: labels(cpu),
                value: histogram(cpu.gaps.sum_ns, cpu.histogram.clone()),
            }),
        );
    } else {
        let total = snapshot.total();
        list.values(
            "smilat_gap_duration_seconds",
            Kind::Histogram,
            "Gaps of all CPUs together by duration. 1 series as a native histogram, 28 as a classic one.",
            [Sample {
                labels: Labels::new(),
                value: histogram(total.sum_ns, total.histogram),
            }],
        );
    }
    list.add(
        "smilat_gap_max_seconds",
        Kind::Gauge,
        "The longest gap since start; 0 while there was none.",
        by_cpu(snapshot, |cpu| Some(seconds(cpu.gaps.max_ns.unwrap_or(0)))),
    );
    list.add(
        "smilat_gap_interval_max_seconds",
        Kind::Gauge,
        "The longest gap of the last interval; 0 when there was none.",
        by_cpu(snapshot, |cpu| {
            Some(seconds(cpu.gaps.interval_max_ns.unwrap_or(0)))
        }),
    );
    list.add(
        "smilat_gap_recent_max_seconds",
        Kind::Gauge,
        "The longest gap of the last minute or two, or two intervals where they are longer; 0 when there was none. Scrapes at \
         least once a minute miss none.",
        by_cpu(snapshot, |cpu| {
            let recent = served.recent_max_ns.get(&cpu.cpu).copied();
            Some(seconds(recent.unwrap_or(0)))
        }),
    );
}

fn causes(list: &mut List, snapshot: &Snapshot) {
    // A run that counted SMIs before its configuration was read again, and does not now, has counts that stand still.
    let counter = snapshot.attribution.counter.as_ref();
    let smis = |cpu: &CpuSnapshot| counter.and(cpu.smis);
    list.values(
        "smilat_smis_total",
        Kind::Counter,
        "SMIs that the CPU's counter counted since start, whatever the CPU was doing. Most stop and count on all CPUs: do not \
         add CPUs up, take the highest.",
        snapshot.cpus.iter().filter_map(|cpu| {
            let mut labels = labels(cpu);
            labels.push(("counter", counter?.name.clone()));
            Some(Sample {
                labels,
                value: Value::Number(smis(cpu)?.counted as f64),
            })
        }),
    );
    list.add(
        "smilat_smis_sampled_total",
        Kind::Counter,
        "SMIs that came while the CPU was sampling.",
        by_cpu(snapshot, |cpu| smis(cpu)?.sampled.map(|smis| smis as f64)),
    );
    list.add(
        "smilat_smis_in_gaps_total",
        Kind::Counter,
        "SMIs across gaps; the rest of those sampled was shorter than the threshold.",
        by_cpu(snapshot, |cpu| smis(cpu)?.in_gaps.map(|smis| smis as f64)),
    );
    list.add(
        // Not `smi_counter_unread`: a name must not hold a type, says promtool.
        "smilat_smi_readings_failed_total",
        Kind::Counter,
        "Readings of the SMI counter within the kernel that failed; gaps there have no proven SMI.",
        by_cpu(snapshot, |cpu| Some(smis(cpu)?.unread as f64)),
    );
    list.add(
        "smilat_steal_sampled_seconds_total",
        Kind::Counter,
        "Time for which the hypervisor, by its own account, let something else have the CPU while it was sampling.",
        by_cpu(snapshot, |cpu| Some(seconds(cpu.steal?.sampled_ns))),
    );
    list.add(
        "smilat_steal_in_gaps_seconds_total",
        Kind::Counter,
        "Of that time, the part across gaps.",
        by_cpu(snapshot, |cpu| Some(seconds(cpu.steal?.in_gaps_ns))),
    );
}

fn windows(list: &mut List, snapshot: &Snapshot) {
    let by_outcome = |of: fn(&CpuSnapshot) -> Vec<(&'static str, u64)>| {
        snapshot.cpus.iter().flat_map(move |cpu| {
            of(cpu).into_iter().map(|(outcome, count)| {
                let mut labels = labels(cpu);
                labels.push(("outcome", outcome.to_owned()));
                (labels, count as f64)
            })
        })
    };
    list.add(
        "smilat_windows_total",
        Kind::Counter,
        "Windows that were sampled for at least half of their width (run), and that were missed or cut short (skipped).",
        by_outcome(|cpu| {
            vec![
                ("run", cpu.windows.run),
                ("skipped", cpu.windows.skipped),
            ]
        }),
    );
    list.add(
        "smilat_gap_records_total",
        Kind::Counter,
        "Single gaps passed on (sent), kept back by the rate limit (limited), and lost because the buffer was full (lost). All \
         are counted in everything else.",
        by_outcome(|cpu| {
            vec![
                ("sent", cpu.records.sent),
                ("limited", cpu.records.limited),
                ("lost", cpu.records.lost),
            ]
        }),
    );
    list.one(
        "smilat_gap_records_dropped_total",
        Kind::Counter,
        "Single gaps given up because too many waited for a report. All are counted in everything else.",
        Some(snapshot.gaps_dropped as f64),
    );
}

fn settings(list: &mut List, snapshot: &Snapshot, about: &About) {
    let detector = &snapshot.detector;
    list.add(
        "smilat_build_info",
        Kind::Info,
        "Which smilat this is.",
        [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
    );
    let gap_kind = match detector.gap_kind {
        GapKind::Gap => "gap",
        GapKind::WindowMax => "window_max",
    };
    list.add(
        "smilat_detector_info",
        Kind::Info,
        "What finds the gaps. Its gaps are single ones (gap) or the longest of each window (window_max).",
        [(
            vec![
                ("detector", detector.name.clone()),
                ("gap_kind", gap_kind.to_owned()),
                ("mode", detector.mode.to_string()),
                ("cpus", detector.cpus.clone()),
            ],
            1.0,
        )],
    );
    let noise = (detector.noise_floor_ns > 0).then_some(detector.noise_floor_ns);
    for (name, help, value_ns) in [
        (
            "smilat_threshold_seconds",
            "Gaps shorter than this are dropped in the kernel.",
            Some(detector.threshold_ns),
        ),
        (
            "smilat_width_seconds",
            "Time spent sampling in a window.",
            Some(detector.width_ns),
        ),
        (
            "smilat_window_seconds",
            "Time from one window to the next, on average.",
            Some(detector.window_ns),
        ),
        (
            "smilat_irqs_off_max_seconds",
            "Longest stretch with interrupts off: what an interrupt may have to wait because of smilat.",
            Some(detector.irqs_off_max_ns),
        ),
        (
            "smilat_noise_floor_seconds",
            "99.99th percentile of the time of one step of the sampling loop, measured before the first window.",
            noise,
        ),
        (
            "smilat_hardlimit_seconds",
            "The limit that gaps are held against.",
            about.hardlimit.map(ns),
        ),
    ] {
        list.one(name, Kind::Gauge, help, value_ns.map(seconds));
    }
}

fn own(list: &mut List, snapshot: &Snapshot, served: &Served) {
    let cost = &snapshot.own_cost;
    list.one(
        "smilat_cpu_seconds_total",
        Kind::Counter,
        "CPU time of smilat's process, user and system. The spin detector's sampling is part of it, unless the kernel accounts \
         for interrupts apart (CONFIG_IRQ_TIME_ACCOUNTING); the kernel's tracers sample in threads of their own.",
        Some(seconds(cost.cpu_ns)),
    );
    list.one(
        "smilat_resident_memory_bytes",
        Kind::Gauge,
        "Memory that smilat holds.",
        cost.resident_bytes.map(|bytes| bytes as f64),
    );
    list.one(
        "smilat_bpf_runs_total",
        Kind::Counter,
        "Runs of smilat's BPF programs.",
        cost.bpf.map(|bpf| bpf.runs as f64),
    );
    list.one(
        "smilat_bpf_run_seconds_total",
        Kind::Counter,
        "Time that smilat's BPF programs took; with the spin detector, sampling included.",
        cost.bpf.map(|bpf| seconds(bpf.run_ns)),
    );
    list.one(
        "smilat_snapshot_timestamp_seconds",
        Kind::Gauge,
        "When the snapshot was taken that all of this is from, since 1970.",
        // Microseconds fit a double exactly enough to find the snapshot again.
        Some(snapshot.time.as_microsecond() as f64 / 1e6),
    );
    list.one(
        "smilat_snapshots_total",
        Kind::Counter,
        "Snapshots taken: the number of the last interval.",
        Some(snapshot.interval as f64),
    );
    list.one(
        "smilat_http_connections_displaced_total",
        Kind::Counter,
        "Connections that were closed, the one idle longest first, because too many were open and another came.",
        Some(served.connections_displaced as f64),
    );
}

fn labels(cpu: &CpuSnapshot) -> Labels {
    vec![("cpu", cpu.cpu.to_string())]
}

fn by_cpu(
    snapshot: &Snapshot,
    of: impl Fn(&CpuSnapshot) -> Option<f64>,
) -> impl Iterator<Item = (Labels, f64)> {
    snapshot
        .cpus
        .iter()
        .filter_map(move |cpu| Some((labels(cpu), of(cpu)?)))
}

/// One value for each CPU and cause. Causes that can be proven here are told from the start, at 0, so that the first gap
/// of a cause shows as an increase; sets of several once there is such a gap.
fn by_cause(
    snapshot: &Snapshot,
    of: impl Fn(&CauseStats) -> f64,
) -> impl Iterator<Item = (Labels, f64)> {
    let proofs = &snapshot.attribution;
    let provable: Vec<Cause> = [
        (Cause::UNKNOWN, true),
        (Cause::SMI, proofs.smi == Proof::Gap),
        (Cause::NMI, proofs.nmi == Proof::Gap),
        (Cause::STEAL, proofs.steal == Proof::Gap),
    ]
    .into_iter()
    .filter_map(|(cause, proven)| proven.then_some(cause))
    .collect();
    snapshot.cpus.iter().flat_map(move |cpu| {
        let seen = cpu.causes.iter().map(|stats| (stats.cause, of(stats)));
        let unseen = provable
            .iter()
            .filter(|cause| cpu.causes.iter().all(|stats| stats.cause != **cause))
            .map(|cause| (*cause, 0.0));
        let mut all: Vec<(Cause, f64)> = seen.chain(unseen).collect();
        all.sort_by_key(|(cause, _)| *cause);
        all.into_iter().map(move |(cause, value)| {
            let mut labels = labels(cpu);
            labels.push(("cause", cause.to_string()));
            (labels, value)
        })
    })
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
