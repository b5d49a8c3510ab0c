//! What `smilat iommu` exports.

use std::collections::BTreeMap;

use super::{
    Family, List, Sample, Sizes,
    Value::{self, Bytes, Count, Gaps, Ns},
};
use crate::{
    model::{
        Interval,
        iommu::{CpuMoves, DomainCounts, FaultCounts, FaultSource, IommuSnapshot, Moved},
    },
    report::iommu::listed,
};

/// Groups or devices of one label; more are only counted, so that it stays short.
const NAMED: usize = 4;

/// All that `snapshot` says; `displaced` connections made room for others.
pub(in crate::report) fn families(snapshot: &IommuSnapshot, displaced: u64) -> Vec<Family> {
    let mut list = List::default();
    moves(&mut list, &by_label(&snapshot.domains));
    sizes(&mut list, &snapshot.domains);
    times(&mut list, snapshot);
    by_cpu(&mut list, &snapshot.cpus);
    faults(&mut list, snapshot);
    findings(&mut list, snapshot);
    losses(&mut list, snapshot);
    list.build();
    list.taken(snapshot.time);
    list.displaced(displaced);
    list.0
}

/// What tells domains apart for whoever scrapes: their groups, devices and type.
type Labels = [String; 3];

/// What is exported of all domains with the same labels.
#[derive(Default)]
struct Sums {
    maps: u64,
    unmaps: u64,
    mapped: u64,
    unmapped: u64,
    freed: u64,
    whole: u64,
    pieces: u64,
    untracked: u64,
    not_ram: u64,
}

/// Numbers of domains would be new ones with each guest that starts; what a group's next domain counts goes on where the one
/// before ended.
fn by_label(domains: &[DomainCounts]) -> BTreeMap<Labels, Sums> {
    let mut all: BTreeMap<Labels, Sums> = BTreeMap::new();
    for domain in domains {
        let groups = listed(&domain.groups, ",", NAMED);
        let devices = listed(&domain.devices, ",", NAMED);
        let kind = domain.kind.clone().unwrap_or_default();
        let labels = [groups, devices, kind].map(|label| {
            // An empty label is none.
            if label.is_empty() {
                "unknown".to_owned()
            } else {
                label
            }
        });
        let sums = all.entry(labels).or_default();
        sums.maps += domain.maps.count;
        sums.unmaps += domain.unmaps.count;
        sums.mapped += domain.maps.bytes;
        sums.unmapped += domain.unmaps.bytes;
        sums.freed += domain.freed_bytes;
        sums.whole += domain.whole;
        sums.pieces += domain.pieces;
        sums.untracked += domain.untracked;
        sums.not_ram += domain.not_ram;
    }
    all
}

fn moves(list: &mut List, domains: &BTreeMap<Labels, Sums>) {
    let by_domain = |of: fn(&Sums) -> u64| {
        domains.iter().map(move |([group, device, kind], sums)| {
            Sample::from(Count(of(sums)))
                .with("group", group)
                .with("device", device)
                .with("kind", kind)
        })
    };
    for (name, unit, help, of) in [
        (
            "smilat.iommu.maps",
            "{map}",
            "Maps, by the groups and devices that the domain is for, and its type.",
            (|sums| sums.maps) as fn(&Sums) -> u64,
        ),
        ("smilat.iommu.unmaps", "{unmap}", "Unmaps.", |sums| {
            sums.unmaps
        }),
        ("smilat.iommu.mapped", "By", "Bytes mapped.", |sums| {
            sums.mapped
        }),
        (
            "smilat.iommu.unmapped",
            "By",
            "Bytes that the kernel said were unmapped; a superpage that was taken apart makes it say more than was asked for.",
            |sums| sums.unmapped,
        ),
        (
            "smilat.iommu.freed",
            "By",
            "Of the bytes that unmaps asked for, those that were unmapped, each once: what was mapped less these is mapped still.",
            |sums| sums.freed,
        ),
        (
            "smilat.iommu.unmaps.whole",
            "{unmap}",
            "Unmaps of mappings as they had been mapped.",
            |sums| sums.whole,
        ),
        (
            "smilat.iommu.unmaps.pieces",
            "{unmap}",
            "Unmaps of a piece of what had been mapped as one.",
            |sums| sums.pieces,
        ),
        (
            "smilat.iommu.unmaps.untracked",
            "{unmap}",
            "Unmaps of what was mapped before the watch began, or was not followed.",
            |sums| sums.untracked,
        ),
        (
            "smilat.iommu.maps.not_ram",
            "{map}",
            "Maps of what is no main memory.",
            |sums| sums.not_ram,
        ),
    ] {
        list.counter(name, unit, help, by_domain(of));
    }
}

fn sizes(list: &mut List, domains: &[DomainCounts]) {
    let of = |moved: fn(&DomainCounts) -> &Moved, bytes: fn(&DomainCounts) -> u64| {
        let counts = domains
            .iter()
            .flat_map(|domain| &moved(domain).sizes)
            .map(|size| (size.le_bytes, size.count));
        let sum = domains.iter().map(bytes).sum();
        [Bytes(Box::new(Sizes::new(counts, sum)))]
    };
    list.sizes(
        "smilat.iommu.map.size",
        "Maps of all domains together by size.",
        of(|domain| &domain.maps, |domain| domain.maps.bytes),
    );
    list.sizes(
        "smilat.iommu.unmap.size",
        "Unmaps of all domains together by the size that was asked for.",
        of(|domain| &domain.unmaps, |domain| domain.asked_bytes),
    );
}

fn times(list: &mut List, snapshot: &IommuSnapshot) {
    list.histogram(
        "smilat.iommu.unmap.duration",
        "Calls of the kernel's functions that unmap, of those that were timed, by duration.",
        snapshot.times.iter().map(|times| {
            let calls = Interval {
                count: times.count,
                sum_ns: times.sum_ns,
                max_ns: Some(times.max_ns),
                histogram: times.histogram.clone(),
                ..Interval::default()
            };
            Sample::from(Gaps(Box::new(calls))).with("function", &times.function)
        }),
    );
}

fn by_cpu(list: &mut List, cpus: &[CpuMoves]) {
    let by_cpu = |of: fn(&CpuMoves) -> u64| {
        cpus.iter().map(move |cpu| Sample {
            cpu: Some(cpu.cpu),
            ..Count(of(cpu)).into()
        })
    };
    list.counter(
        "smilat.iommu.cpu.maps",
        "{map}",
        "Maps by the CPU that made them.",
        by_cpu(|cpu| cpu.maps),
    );
    list.counter(
        "smilat.iommu.cpu.unmaps",
        "{unmap}",
        "Unmaps by the CPU that made them.",
        by_cpu(|cpu| cpu.unmaps),
    );
}

fn faults(list: &mut List, snapshot: &IommuSnapshot) {
    let by_device = |of: fn(&FaultCounts) -> u64| {
        snapshot.faults.iter().map(move |faults| {
            let source = match faults.source {
                FaultSource::Tracepoint => "tracepoint",
                FaultSource::KernelLog => "kernel_log",
            };
            Sample::from(Count(of(faults)))
                .with("device", &faults.device)
                .with("source", &source)
        })
    };
    list.counter(
        "smilat.iommu.faults",
        "{fault}",
        "Accesses to what is not mapped for the device, by who told of them. The kernel log holds back what comes too often.",
        by_device(|faults| faults.count),
    );
    list.counter(
        "smilat.iommu.faults.unreported",
        "{fault}",
        "Of them, those that --max-faults kept out of the reports.",
        by_device(|faults| faults.suppressed),
    );
}

fn findings(list: &mut List, snapshot: &IommuSnapshot) {
    list.counter(
        "smilat.iommu.alarms",
        "{alarm}",
        "Intervals in which a domain had more unmaps for each map than --ratio-limit (ratio), and suspicions of a leak (growth).",
        [
            ("ratio", snapshot.ratio_alarms),
            ("growth", snapshot.growth_alarms),
        ]
        .map(|(alarm, number)| Sample::from(Count(number)).with("alarm", &alarm)),
    );
    list.counter(
        "smilat.iommu.changes",
        "{change}",
        "Changes of groups, domains and drivers.",
        [Count(snapshot.changes)],
    );
    let late = &snapshot.late;
    let if_looked_at = |value: Value| late.limit_ns.map(|_| value);
    list.counter(
        "smilat.iommu.late_runs",
        "{run}",
        "Runs of threads that went on mapping or unmapping for --resched-limit while the scheduler wanted their CPU.",
        if_looked_at(Count(late.count)),
    );
    list.gauge(
        "smilat.iommu.late_run.max",
        "s",
        "The longest of them since start; 0 while there was none.",
        if_looked_at(Ns(late.max_ns)),
    );
}

/// What is not in the other families, or was not passed on.
fn losses(list: &mut List, snapshot: &IommuSnapshot) {
    list.counter(
        "smilat.iommu.events.missed",
        "{event}",
        "Maps, unmaps and other events at which the kernel did not run the program: they are in none of the other families.",
        [Count(snapshot.missed)],
    );
    list.counter(
        "smilat.iommu.maps.not_followed",
        "{map}",
        "Maps that found no room among those that are followed: their unmaps are untracked.",
        [Count(snapshot.following.refused)],
    );
    list.counter(
        "smilat.iommu.records",
        "{record}",
        "Single events passed on (sent), and lost because too many waited (lost). All are counted in everything else.",
        [
            ("sent", snapshot.records_sent),
            ("lost", snapshot.records_lost),
        ]
        .map(|(outcome, number)| Sample::from(Count(number)).with("outcome", &outcome)),
    );
    list.counter(
        "smilat.iommu.log.lines_lost",
        "{line}",
        "Lines of the kernel log that were overwritten before they were read: faults may be missing.",
        [Count(snapshot.log_lost)],
    );
    list.counter(
        "smilat.iommu.log.faults_held_back",
        "{fault}",
        "Faults that the IOMMU's driver said it kept out of the kernel log.",
        [Count(snapshot.log_suppressed)],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up::{disk, guest};

    #[test]
    fn domains_with_the_same_labels_are_one_series() {
        let next = DomainCounts {
            domain: 3,
            ..guest()
        };
        let nobodys = DomainCounts {
            maps: disk().maps,
            ..DomainCounts::default()
        };
        let all = by_label(&[guest(), disk(), next, nobodys]);
        let labels: Vec<&str> = all.keys().flatten().map(String::as_str).collect();
        assert_eq!(
            labels,
            [
                "1,2",
                "0000:00:01.0,0000:00:02.0",
                "DMA-FQ",
                "4",
                "0000:00:03.0,0000:00:04.0",
                "unmanaged",
                "unknown",
                "unknown",
                "unknown"
            ]
        );
        let maps: Vec<u64> = all.values().map(|sums| sums.maps).collect();
        assert_eq!(maps, [10_200, 2 * 473, 10_200]);
    }

    #[test]
    fn labels_stay_short_however_many_devices_there_are() {
        let many = DomainCounts {
            groups: (0..100).collect(),
            devices: (0..100)
                .map(|slot| format!("0000:{slot:02}:00.0"))
                .collect(),
            ..guest()
        };
        let all = by_label(&[many]);
        let [groups, devices, _] = all.keys().next().expect("labels");
        assert_eq!(groups, "0,1,2,3,+96");
        assert!(devices.ends_with(",0000:03:00.0,+96"), "{devices}");
    }
}
