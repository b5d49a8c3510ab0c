//! Entries and tables for a terminal or a log.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::{Timestamp, tz::TimeZone};

use super::words::{
    devices, groups, headline, kind, number, number_of, per_second, show_net, show_rate,
    show_ratio, size, source,
};
use crate::{
    model::iommu::{DomainCounts, FaultSource, IommuEvent, IommuSnapshot, Lately, What},
    units::{show_bytes, show_ns},
};

/// Characters of the longest bar.
const BAR: u64 = 20;

/// The entry of `event`.
pub fn entry(event: &IommuEvent, zone: &TimeZone) -> String {
    let mut text = format!("{}  {}\n", moment(event.time, zone), headline(event));
    for (name, what) in rows(&event.what) {
        // Writing to a string does not fail.
        let _written = writeln!(text, "  {name:<8} {what}");
    }
    text
}

pub(super) fn moment(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone())
        .strftime("%F %T%.3f")
        .to_string()
}

/// What is told below the first line.
fn rows(what: &What) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    match what {
        What::Added { .. }
        | What::Removed { .. }
        | What::Attached { .. }
        | What::Detached { .. }
        | What::Bound { .. }
        | What::Unbound { .. } => {}
        What::Fault(fault) => {
            if let Some(driver) = &fault.driver {
                rows.push(("driver", driver.clone()));
            }
            if let Some(reason) = &fault.reason {
                rows.push(("reason", reason.clone()));
            }
            rows.push((
                "told by",
                match fault.source {
                    FaultSource::Tracepoint => "tracepoint iommu:io_page_fault",
                    FaultSource::KernelLog => "the IOMMU's driver, in the kernel log",
                }
                .to_owned(),
            ));
        }
        What::NotRam { paddr, of, .. } => {
            let of = of.as_deref().unwrap_or("nothing that the kernel knows");
            rows.push(("physical", format!("{paddr:#x}, {of}")));
        }
        What::Late {
            process,
            thread,
            comm,
            stack,
            no_stack,
            ..
        } => {
            rows.push(("thread", format!("{thread} ({comm}) of process {process}")));
            if let Some(why) = no_stack {
                rows.push(("stack", format!("none: {why}")));
            }
            for (number, frame) in stack.iter().enumerate() {
                rows.push((if number == 0 { "stack" } else { "" }, frame.clone()));
            }
        }
        What::Ratio {
            groups,
            limit,
            interval_ns,
            ..
        } => {
            rows.push((
                "limit",
                format!(
                    "{limit} unmaps for each map, in {}",
                    show_ns(*interval_ns as f64)
                ),
            ));
            rows.push(("groups", self::groups(groups)));
        }
        What::Growth { left, .. } => {
            for (number, left) in left.iter().enumerate() {
                rows.push((
                    if number == 0 { "left" } else { "" },
                    format!(
                        "{} of {}, up to {} old",
                        number_of(left.mappings, "mapping", "mappings"),
                        show_bytes(left.bytes),
                        show_ns(left.age_ns as f64)
                    ),
                ));
            }
        }
    }
    rows
}

/// What came in the interval that ended with `snapshot`, by domain.
///
/// Rates and ratio are the interval's; pieces and what is mapped are since start.
pub fn interval(snapshot: &IommuSnapshot, zone: &TimeZone) -> String {
    let ns = snapshot.interval_ns;
    let all = snapshot
        .domains
        .iter()
        .fold(Lately::default(), |all, domain| Lately {
            maps: all.maps + domain.lately.maps,
            map_bytes: all.map_bytes + domain.lately.map_bytes,
            unmaps: all.unmaps + domain.lately.unmaps,
            unmap_bytes: all.unmap_bytes + domain.lately.unmap_bytes,
        });
    let mut text = format!("{}  ", moment(snapshot.time, zone));
    let (active, idle): (Vec<_>, Vec<_>) = snapshot
        .domains
        .iter()
        .partition(|domain| domain.lately.maps + domain.lately.unmaps > 0);
    if active.is_empty() {
        let _written = writeln!(
            text,
            "nothing was mapped or unmapped in {}",
            show_ns(ns as f64)
        );
    } else {
        let _written = writeln!(
            text,
            "{}: {} maps/s, {} unmaps/s, {}/s mapped",
            show_ns(ns as f64),
            show_rate(per_second(all.maps, ns)),
            show_rate(per_second(all.unmaps, ns)),
            show_bytes(per_second(all.map_bytes, ns) as u64)
        );
        text.push_str(
            "  domain  groups    kind          maps/s  unmaps/s   mapped/s   ratio    pieces  net mapped  devices\n",
        );
        for domain in active {
            let lately = &domain.lately;
            let _written = writeln!(
                text,
                "  {:>6}  {:<8}  {:<11} {:>8}  {:>8}  {:>9}  {:>6}  {:>8}  {:>10}  {}",
                number(domain),
                groups(&domain.groups),
                kind(domain),
                show_rate(per_second(lately.maps, ns)),
                show_rate(per_second(lately.unmaps, ns)),
                show_bytes(per_second(lately.map_bytes, ns) as u64),
                show_ratio(lately.unmaps, lately.maps),
                domain.pieces,
                show_net(domain.net_bytes()),
                devices(&domain.devices)
            );
        }
    }
    if !idle.is_empty() {
        let _written = writeln!(
            text,
            "  {} counted before had nothing in this interval",
            number_of(idle.len() as u64, "domain", "domains")
        );
    }
    text
}

/// All that was counted, as tables.
pub fn summary(snapshot: &IommuSnapshot) -> String {
    let mut text = format!("Summary of {}\n", show_ns(snapshot.elapsed_ns as f64));
    totals(&mut text, snapshot);
    sizes(&mut text, &snapshot.domains);
    times(&mut text, snapshot);
    faults(&mut text, snapshot);
    cpus(&mut text, snapshot);
    findings(&mut text, snapshot);
    for loss in losses(snapshot) {
        let _written = writeln!(text, "{loss}");
    }
    text
}

fn totals(text: &mut String, snapshot: &IommuSnapshot) {
    if snapshot.domains.is_empty() {
        text.push_str("Nothing was mapped or unmapped.\n");
        return;
    }
    text.push_str(
        "  domain  groups    kind              maps      unmaps   ratio     whole     pieces  untracked      mapped    unmapped  net mapped  devices\n",
    );
    for domain in &snapshot.domains {
        let _written = writeln!(
            text,
            "  {:>6}  {:<8}  {:<11} {:>10}  {:>10}  {:>6}  {:>8}  {:>9}  {:>9}  {:>10}  {:>10}  {:>10}  {}",
            number(domain),
            groups(&domain.groups),
            kind(domain),
            domain.maps.count,
            domain.unmaps.count,
            show_ratio(domain.unmaps.count, domain.maps.count),
            domain.whole,
            domain.pieces,
            domain.untracked,
            show_bytes(domain.maps.bytes),
            show_bytes(domain.unmaps.bytes),
            show_net(domain.net_bytes()),
            devices(&domain.devices)
        );
    }
    for domain in snapshot.domains.iter().filter(|domain| domain.not_ram > 0) {
        let _written = writeln!(
            text,
            "  of domain {}, {} of what is no main memory, {}",
            number(domain),
            number_of(domain.not_ram, "map", "maps"),
            show_bytes(domain.not_ram_bytes)
        );
    }
}

/// Maps and unmaps of all domains by the size asked for, ascending; the upper end of the last may be open.
pub(in crate::report) fn by_size(domains: &[DomainCounts]) -> Vec<(Option<u64>, u64, u64)> {
    // What is larger than all bounds comes last.
    let mut sizes: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for domain in domains {
        for size in &domain.maps.sizes {
            let bound = size.le_bytes.unwrap_or(u64::MAX);
            sizes.entry(bound).or_default().0 += size.count;
        }
        for size in &domain.unmaps.sizes {
            let bound = size.le_bytes.unwrap_or(u64::MAX);
            sizes.entry(bound).or_default().1 += size.count;
        }
    }
    sizes
        .into_iter()
        .map(|(bound, (maps, unmaps))| ((bound < u64::MAX).then_some(bound), maps, unmaps))
        .collect()
}

fn sizes(text: &mut String, domains: &[DomainCounts]) {
    let rows = by_size(domains);
    let most = rows.iter().map(|(_, maps, unmaps)| *maps.max(unmaps)).max();
    let Some(most) = most.filter(|most| *most > 0) else {
        return;
    };
    let _written = writeln!(
        text,
        "\nSizes asked for\n       up to        maps  {:<20}      unmaps",
        ""
    );
    for (bound, maps, unmaps) in rows {
        let row = format!(
            "  {:>10}  {maps:>10}  {:<20}  {unmaps:>10}  {}",
            size(bound),
            bar(maps, most),
            bar(unmaps, most)
        );
        let _written = writeln!(text, "{}", row.trim_end());
    }
}

/// A bar in proportion; what is too little for one character still gets a dot.
fn bar(count: u64, most: u64) -> String {
    let length = u128::from(count) * u128::from(BAR) + u128::from(most / 2);
    match (count, length / u128::from(most.max(1))) {
        (0, _) => String::new(),
        (_, 0) => ".".to_owned(),
        (_, length) => "#".repeat(length as usize),
    }
}

fn times(text: &mut String, snapshot: &IommuSnapshot) {
    if snapshot.times.iter().all(|times| times.count == 0) {
        return;
    }
    let _written = writeln!(
        text,
        "\nTime that unmaps took, {}\n  function                        timed        p50        p90        p99    longest",
        match snapshot.timed_one_in {
            0 | 1 => "each of them".to_owned(),
            many => format!("one in {many} on each CPU"),
        }
    );
    for times in snapshot.times.iter().filter(|times| times.count > 0) {
        let quantile = |q| {
            let ns = times.histogram.quantile(q);
            // Buckets are 9 % wide; nothing took longer than the longest.
            ns.map_or_else(|| "-".to_owned(), |ns| show_ns(ns.min(times.max_ns as f64)))
        };
        let _written = writeln!(
            text,
            "  {:<27} {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {}",
            times.function,
            times.count,
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            show_ns(times.max_ns as f64),
            times.of
        );
    }
}

fn faults(text: &mut String, snapshot: &IommuSnapshot) {
    if snapshot.faults.is_empty() {
        text.push_str("\nNo fault was told of.\n");
        return;
    }
    text.push_str("\nFaults\n  device              faults  not shown  told by\n");
    for of in &snapshot.faults {
        let _written = writeln!(
            text,
            "  {:<16} {:>9}  {:>9}  {}",
            of.device,
            of.count,
            of.suppressed,
            source(of.source)
        );
    }
}

fn cpus(text: &mut String, snapshot: &IommuSnapshot) {
    if snapshot.cpus.is_empty() {
        return;
    }
    text.push_str("\n  cpu        maps      unmaps\n");
    for cpu in &snapshot.cpus {
        let _written = writeln!(
            text,
            "  {:>3}  {:>10}  {:>10}",
            cpu.cpu, cpu.maps, cpu.unmaps
        );
    }
}

fn findings(text: &mut String, snapshot: &IommuSnapshot) {
    let _written = writeln!(
        text,
        "\n{} for more than {} unmaps for each map, {} of a leak, {} of groups, domains and drivers",
        number_of(snapshot.ratio_alarms, "alarm", "alarms"),
        snapshot.ratio_limit,
        number_of(snapshot.growth_alarms, "suspicion", "suspicions"),
        number_of(snapshot.changes, "change", "changes")
    );
    let Some(limit_ns) = snapshot.late.limit_ns else {
        return;
    };
    let limit = show_ns(limit_ns as f64);
    let _written = if snapshot.late.count == 0 {
        writeln!(
            text,
            "No thread went on for {limit} or more while the scheduler wanted its CPU"
        )
    } else {
        writeln!(
            text,
            "{} of {limit} or more while the scheduler wanted the CPU, the longest {}",
            number_of(snapshot.late.count, "run", "runs"),
            show_ns(snapshot.late.max_ns as f64)
        )
    };
}

/// What is not in the counts, or was not passed on; empty when all is there.
pub(in crate::report) fn losses(snapshot: &IommuSnapshot) -> Vec<String> {
    let mut losses = Vec::new();
    if snapshot.missed > 0 {
        losses.push(format!(
            "MISSED: {} at which the kernel did not run the program: none of the counts has them",
            number_of(snapshot.missed, "event", "events")
        ));
    }
    if snapshot.following.refused > 0 {
        losses.push(format!(
            "{} found no room among the {} that are followed: their unmaps count as untracked; a larger --track has room",
            number_of(snapshot.following.refused, "map", "maps"),
            snapshot.following.room
        ));
    }
    if snapshot.records_lost > 0 {
        losses.push(format!(
            "{} counted and not told: too many came at once to pass on each",
            number_of(snapshot.records_lost, "event was", "events were")
        ));
    }
    if snapshot.log_lost > 0 {
        losses.push(format!(
            "{} of the kernel log overwritten before they were read: faults may be missing",
            number_of(snapshot.log_lost, "line was", "lines were")
        ));
    }
    if snapshot.log_suppressed > 0 {
        losses.push(format!(
            "{} kept out of the kernel log by the IOMMU's driver",
            number_of(snapshot.log_suppressed, "fault was", "faults were")
        ));
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up::{
        disk, events, fault, growth, guest, late, not_ram, nothing, ratio, snapshot,
    };

    fn told(event: &IommuEvent) -> String {
        entry(event, &TimeZone::UTC)
    }

    #[test]
    fn an_alarm_of_the_ratio_names_devices_and_figures() {
        assert_eq!(
            told(&ratio()),
            "\
2026-11-23 01:25:54.093  domain 1 (0000:00:03.0, 0000:00:04.0): RATIO 10.6 unmaps for each map: 1252 unmaps, 118 maps, 1152 unmaps of pieces, 1152 of single pages
  limit    2 unmaps for each map, in 5.00 s
  groups   4
"
        );
        let mut unmapped_only = ratio();
        if let What::Ratio { maps, .. } = &mut unmapped_only.what {
            *maps = 0;
        }
        assert!(told(&unmapped_only).contains(": RATIO: 1252 unmaps, 0 maps, "));
    }

    #[test]
    fn a_suspicion_of_a_leak_tells_what_is_left_by_age() {
        assert_eq!(
            told(&growth()),
            "\
2026-11-23 01:25:54.093  domain 1 (0000:00:03.0, 0000:00:04.0): LEAK? mapped memory grows: by 118 MiB in 600 s, to 126 MiB
  left     12 mappings of 24 MiB, up to 60.0 s old
           47 mappings of 94 MiB, up to 600 s old
"
        );
    }

    #[test]
    fn entries_of_all_other_kinds_can_be_read_by_an_operator() {
        let changes: String = events().iter().take(6).map(told).collect();
        assert_eq!(
            changes,
            "\
2026-11-23 01:25:54.093  group 3: 0000:00:03.0 left
2026-11-23 01:25:54.093  group 4: 0000:00:03.0 came in
2026-11-23 01:25:54.093  0000:00:03.0 (group 4): given up by driver virtio-pci
2026-11-23 01:25:54.093  0000:00:03.0 (group 4): detached from its domain
2026-11-23 01:25:54.093  0000:00:03.0 (group 4): attached to another domain, unmanaged, driver vfio-pci
2026-11-23 01:25:54.093  0000:00:03.0 (group 4): taken by driver vfio-pci
"
        );
        assert_eq!(
            [fault(), not_ram(), late()].iter().map(told).collect::<String>(),
            "\
2026-11-23 01:25:54.093  0000:00:03.0 (group 4): FAULT, write at 0xfee00000
  driver   vfio-pci
  reason   PTE Write access is not set
  told by  the IOMMU's driver, in the kernel log
2026-11-23 01:25:54.093  domain 1 (0000:00:03.0, 0000:00:04.0): NO RAM mapped, 64 KiB at 0xfe000000
  physical 0xfd000000, PCI Bus 0000:00
2026-11-23 01:25:54.093  CPU 1: LATE, goes on mapping or unmapping while the scheduler wants the CPU, for 12.4 ms so far
  thread   3696 (qemu-system-x86) of process 3693
  stack    __iommu_map+0x9e
           iommu_map+0x4d
"
        );
    }

    #[test]
    fn an_interval_has_the_rates_of_each_domain() {
        assert_eq!(
            interval(&snapshot(), &TimeZone::UTC),
            "\
2026-11-23 01:25:54.093  5.00 s: 524 maps/s, 751 unmaps/s, 49.6 MiB/s mapped
  domain  groups    kind          maps/s  unmaps/s   mapped/s   ratio    pieces  net mapped  devices
       1  4         unmanaged       23.6       250   47.2 MiB    10.6      4608     126 MiB  0000:00:03.0, 0000:00:04.0
       2  1,2       DMA-FQ           500       501    2.4 MiB    1.00         0         0 B  0000:00:01.0, 0000:00:02.0
"
        );
    }

    #[test]
    fn an_interval_without_anything_says_so() {
        let mut idle = snapshot();
        idle.domains = vec![guest()];
        idle.domains[0].lately = Lately::default();
        for (snapshot, more) in [
            (nothing(), ""),
            (
                idle,
                "  1 domain counted before had nothing in this interval\n",
            ),
        ] {
            assert_eq!(
                interval(&snapshot, &TimeZone::UTC),
                format!(
                    "2026-11-23 01:25:54.093  nothing was mapped or unmapped in 5.00 s\n{more}"
                )
            );
        }
    }

    #[test]
    fn the_summary_has_everything_that_was_counted() {
        assert_eq!(
            summary(&snapshot()),
            "\
Summary of 20.0 s
  domain  groups    kind              maps      unmaps   ratio     whole     pieces  untracked      mapped    unmapped  net mapped  devices
       1  4         unmanaged          473        5008    10.6       400       4608          0     944 MiB     818 MiB     126 MiB  0000:00:03.0, 0000:00:04.0
       2  1,2       DMA-FQ           10200       10200    1.00     10160          0         40    51.6 MiB    51.6 MiB         0 B  0000:00:01.0, 0000:00:02.0
  of domain 1, 1 map of what is no main memory, 64 KiB

Sizes asked for
       up to        maps                            unmaps
       4 KiB       10000  ##############             14608  ####################
      64 KiB         201  .                            200  .
       2 MiB         472  #                            400  #

Time that unmaps took, one in 16 on each CPU
  function                        timed        p50        p90        p99    longest
  __iommu_unmap                     950    47.5 us    85.5 us    94.1 us    95.0 us  unmapping, without the flush

Faults
  device              faults  not shown  told by
  0000:00:02.0             3          0  kernel log
  0000:00:03.0            12          2  tracepoint

  cpu        maps      unmaps
    0        5673        7608
    1        5000        7600

2 alarms for more than 2 unmaps for each map, 1 suspicion of a leak, 4 changes of groups, domains and drivers
2 runs of 10.0 ms or more while the scheduler wanted the CPU, the longest 12.4 ms
5 maps found no room among the 65536 that are followed: their unmaps count as untracked; a larger --track has room
1 event was counted and not told: too many came at once to pass on each
7 faults were kept out of the kernel log by the IOMMU's driver
"
        );
    }

    #[test]
    fn the_summary_of_nothing_says_so() {
        assert_eq!(
            summary(&nothing()),
            "\
Summary of 20.0 s
Nothing was mapped or unmapped.

No fault was told of.

0 alarms for more than 2 unmaps for each map, 0 suspicions of a leak, 0 changes of groups, domains and drivers
"
        );
        let mut quiet = nothing();
        quiet.late.limit_ns = Some(10_000_000);
        quiet.missed = 3;
        let text = summary(&quiet);
        assert!(text.contains("\nNo thread went on for 10.0 ms or more "));
        assert!(text.contains("\nMISSED: 3 events "), "{text}");
    }

    #[test]
    fn sizes_of_all_domains_are_added_up() {
        let mut large = disk();
        large.maps.sizes[0].le_bytes = None;
        assert_eq!(
            by_size(&[guest(), large]),
            [
                (Some(4096), 0, 14_608),
                (Some(65_536), 201, 200),
                (Some(2 << 20), 472, 400),
                (None, 10_000, 0)
            ]
        );
    }
}
