//! How numbers, devices and events are put into words, in all reports alike.

use std::fmt::{Display, Write as _};

use crate::{
    model::iommu::{DomainCounts, FaultSource, IommuEvent, What},
    units::{show_bytes, show_ns},
};

/// Devices that are named before the others are only counted.
const NAMED: usize = 3;

/// A list with `between` between; of more than `most`, how many there are beside the first.
pub(in crate::report) fn listed<T: Display>(all: &[T], between: &str, most: usize) -> String {
    let mut text = String::new();
    for (number, one) in all.iter().take(most).enumerate() {
        let between = if number == 0 { "" } else { between };
        // Writing to a string does not fail.
        let _written = write!(text, "{between}{one}");
    }
    if all.len() > most {
        let _written = write!(text, "{between}+{}", all.len() - most);
    }
    text
}

/// The devices, the first ones by name.
pub(in crate::report) fn devices(of: &[String]) -> String {
    if of.is_empty() {
        "-".to_owned()
    } else {
        listed(of, ", ", NAMED)
    }
}

/// The groups by number.
pub(in crate::report) fn groups(of: &[u32]) -> String {
    if of.is_empty() {
        "-".to_owned()
    } else {
        listed(of, ",", NAMED)
    }
}

/// The number of a domain, where there is one.
pub(in crate::report) fn number(domain: &DomainCounts) -> String {
    match domain.domain {
        0 => "-".to_owned(),
        number => number.to_string(),
    }
}

/// Its type, and whether it is no more.
pub(in crate::report) fn kind(domain: &DomainCounts) -> String {
    let kind = domain.kind.as_deref().unwrap_or("-");
    if domain.gone {
        format!("{kind} gone")
    } else {
        kind.to_owned()
    }
}

/// A domain and whose it is.
fn whose(domain: u32, groups: &[u32], of: &[String]) -> String {
    let mut text = match domain {
        0 => "no known domain".to_owned(),
        number => format!("domain {number}"),
    };
    if !of.is_empty() {
        let _written = write!(text, " ({})", devices(of));
    } else if !groups.is_empty() {
        let _written = write!(text, " (group {})", self::groups(groups));
    }
    text
}

/// A device and its group.
fn device(name: &str, group: Option<u32>) -> String {
    match group {
        Some(group) => format!("{name} (group {group})"),
        None => name.to_owned(),
    }
}

/// A number a second, of what came in `ns`.
pub(in crate::report) fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 {
        0.0
    } else {
        count as f64 * 1e9 / ns as f64
    }
}

/// With one decimal below 100.
pub(in crate::report) fn show_rate(rate: f64) -> String {
    let decimals = usize::from(rate > 0.0 && rate < 100.0);
    format!("{rate:.decimals$}")
}

/// Unmaps for each map.
pub(in crate::report) fn show_ratio(unmaps: u64, maps: u64) -> String {
    if maps == 0 {
        return "-".to_owned();
    }
    let ratio = unmaps as f64 / maps as f64;
    let decimals = if ratio < 10.0 {
        2
    } else {
        usize::from(ratio < 100.0)
    };
    format!("{ratio:.decimals$}")
}

/// A size that may be below zero.
pub(in crate::report) fn show_net(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", show_bytes(bytes.unsigned_abs()))
}

/// The upper end of a range of sizes.
pub(in crate::report) fn size(le_bytes: Option<u64>) -> String {
    le_bytes.map_or_else(|| "larger".to_owned(), show_bytes)
}

/// `one thing`, or `2 things`.
pub(in crate::report) fn number_of(count: u64, one: &str, more: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {more}"),
    }
}

/// Who told of a fault.
pub(in crate::report) fn source(source: FaultSource) -> &'static str {
    match source {
        FaultSource::Tracepoint => "tracepoint",
        FaultSource::KernelLog => "kernel log",
    }
}

/// Whether it is something that somebody should look at, and not only a change.
pub(in crate::report) fn is_alarming(what: &What) -> bool {
    match what {
        What::Fault(_)
        | What::NotRam { .. }
        | What::Late { .. }
        | What::Ratio { .. }
        | What::Growth { .. } => true,
        What::Added { .. }
        | What::Removed { .. }
        | What::Attached { .. }
        | What::Detached { .. }
        | What::Bound { .. }
        | What::Unbound { .. } => false,
    }
}

/// What was found, on one line.
pub(in crate::report) fn headline(event: &IommuEvent) -> String {
    match &event.what {
        What::Added { device, group } => format!("group {group}: {device} came in"),
        What::Removed { device, group } => format!("group {group}: {device} left"),
        What::Attached {
            device: name,
            group,
            kind,
            driver,
        } => {
            let mut text = format!("{}: attached to another domain", device(name, *group));
            if let Some(kind) = kind {
                let _written = write!(text, ", {kind}");
            }
            if let Some(driver) = driver {
                let _written = write!(text, ", driver {driver}");
            }
            text
        }
        What::Detached {
            device: name,
            group,
        } => format!("{}: detached from its domain", device(name, *group)),
        What::Bound {
            device: name,
            group,
            driver,
        } => format!("{}: taken by driver {driver}", device(name, *group)),
        What::Unbound {
            device: name,
            group,
            driver,
        } => {
            let driver = driver.as_ref().map_or_else(
                || "its driver".to_owned(),
                |driver| format!("driver {driver}"),
            );
            format!("{}: given up by {driver}", device(name, *group))
        }
        What::Fault(fault) => {
            let access = fault.access.as_deref().unwrap_or("access");
            let mut text = format!("{}: FAULT, {access}", device(&fault.device, fault.group));
            if let Some(iova) = fault.iova {
                let _written = write!(text, " at {iova:#x}");
            }
            text
        }
        What::NotRam {
            domain,
            groups,
            devices,
            iova,
            bytes,
            ..
        } => format!(
            "{}: NO RAM mapped, {} at {iova:#x}",
            whose(*domain, groups, devices),
            show_bytes(*bytes)
        ),
        What::Late { cpu, length_ns, .. } => format!(
            "CPU {cpu}: LATE, goes on mapping or unmapping while the scheduler wants the CPU, for {} so far",
            show_ns(*length_ns as f64)
        ),
        What::Ratio {
            domain,
            groups,
            devices,
            maps,
            unmaps,
            pieces,
            single_pages,
            ..
        } => {
            let ratio = if *maps == 0 {
                String::new()
            } else {
                format!(" {} unmaps for each map", show_ratio(*unmaps, *maps))
            };
            format!(
                "{}: RATIO{ratio}: {unmaps} unmaps, {}, {pieces} unmaps of pieces, {single_pages} of single pages",
                whose(*domain, groups, devices),
                number_of(*maps, "map", "maps"),
            )
        }
        What::Growth {
            domain,
            groups,
            devices,
            net_bytes,
            for_ns,
            grown_bytes,
            ..
        } => format!(
            "{}: LEAK? mapped memory grows: by {} in {}, to {}",
            whose(*domain, groups, devices),
            show_bytes(*grown_bytes),
            show_ns(*for_ns as f64),
            show_net(*net_bytes)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_name_the_first_and_count_the_others() {
        assert_eq!(listed(&[1, 2], ",", 3), "1,2");
        assert_eq!(listed(&[1, 2, 3, 4, 5], ",", 3), "1,2,3,+2");
        assert_eq!(devices(&[]), "-");
        let many: Vec<String> = (0..5).map(|slot| format!("0000:00:0{slot}.0")).collect();
        assert_eq!(
            devices(&many),
            "0000:00:00.0, 0000:00:01.0, 0000:00:02.0, +2"
        );
    }

    #[test]
    fn a_domain_is_told_by_its_devices_or_else_its_groups() {
        assert_eq!(whose(3, &[7], &["a".to_owned()]), "domain 3 (a)");
        assert_eq!(whose(3, &[7, 8], &[]), "domain 3 (group 7,8)");
        assert_eq!(whose(0, &[], &[]), "no known domain");
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        assert_eq!(show_ratio(1, 0), "-");
        for (unmaps, shown) in [(100, "1.00"), (1_100, "11.0"), (110_000, "1100")] {
            assert_eq!(show_ratio(unmaps, 100), shown);
        }
        for (rate, shown) in [(0.0, "0"), (0.25, "0.2"), (99.94, "99.9"), (1e6, "1000000")] {
            assert_eq!(show_rate(rate), shown);
        }
        assert_eq!(show_net(-4096), "-4 KiB");
        assert_eq!(show_net(i64::MIN), "-8388608 TiB");
        assert!(per_second(5, 0).abs() < f64::EPSILON);
    }
}
