//! Whose a domain is: the kernel's counts go by its address, reports by groups and devices.

use std::collections::BTreeMap;

use smi_common::iommu::{DomainStats, SIZES, size_bound};

use crate::model::iommu::{DomainCounts, Lately, Moved, SizeCount};

/// A group's domain as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Number of the group.
    pub group: u32,
    /// Its devices.
    pub devices: Vec<String>,
    /// Address of its domain; 0 where it has none.
    pub domain: u64,
    /// Type of that.
    pub domain_type: u64,
}

/// How sysfs calls a domain of this type (`iommu_group_show_type` in `drivers/iommu/iommu.c`, and `__IOMMU_DOMAIN_*` of
/// `include/linux/iommu.h`); VFIO's is `unmanaged`.
pub fn kind(domain_type: u64) -> Option<&'static str> {
    const PAGING: u64 = 1;
    const DMA_API: u64 = 1 << 1;
    const PASS_THROUGH: u64 = 1 << 2;
    const FLUSH_QUEUE: u64 = 1 << 3;
    match domain_type {
        0 => Some("blocked"),
        PAGING => Some("unmanaged"),
        PASS_THROUGH => Some("identity"),
        kind if kind == PAGING | DMA_API => Some("DMA"),
        kind if kind == PAGING | DMA_API | FLUSH_QUEUE => Some("DMA-FQ"),
        _ => None,
    }
}

/// All domains that were ever seen.
#[derive(Debug, Default)]
pub struct Domains {
    /// By address: those that are.
    live: BTreeMap<u64, DomainCounts>,
    /// Those that are no more.
    gone: Vec<DomainCounts>,
    /// Number of the next.
    next: u32,
}

/// Domains that are no more and are kept apart; older ones are added up under number 0.
const GONE: usize = 256;

impl Domains {
    /// Learns which groups use which domain.
    pub fn learn(&mut self, all: &[InUse]) {
        let mut used: BTreeMap<u64, Vec<&InUse>> = BTreeMap::new();
        for one in all.iter().filter(|one| one.domain > 0) {
            used.entry(one.domain).or_default().push(one);
        }
        for (domain, groups) in used {
            let counts = self.at(domain);
            counts.kind = kind(groups[0].domain_type).map(str::to_owned);
            counts.groups = groups.iter().map(|one| one.group).collect();
            counts.groups.sort_unstable();
            counts.devices = groups.iter().flat_map(|one| one.devices.clone()).collect();
        }
    }

    /// The domain at that address; what is not known yet gets a number. Number 0 has what could not be put down to one.
    pub fn at(&mut self, domain: u64) -> &mut DomainCounts {
        let next = &mut self.next;
        self.live.entry(domain).or_insert_with(|| DomainCounts {
            domain: if domain == 0 {
                0
            } else {
                *next += 1;
                *next
            },
            ..DomainCounts::default()
        })
    }

    /// Whether it is known who uses the domain at that address.
    pub fn knows(&self, domain: u64) -> bool {
        domain == 0
            || self
                .live
                .get(&domain)
                .is_some_and(|counts| !counts.groups.is_empty())
    }

    /// The address of the domain of that number; `None` where it is no more.
    pub fn address_of(&self, number: u32) -> Option<u64> {
        self.live
            .iter()
            .find(|(_, counts)| counts.domain == number)
            .map(|(address, _)| *address)
    }

    /// What was counted in the domain at that address, all CPUs together. What came since the call before is what came lately.
    pub fn count(&mut self, domain: u64, stats: &[DomainStats]) {
        let counts = self.at(domain);
        let had = (
            counts.maps.count,
            counts.maps.bytes,
            counts.unmaps.count,
            counts.unmaps.bytes,
        );
        let sum = |of: &dyn Fn(&DomainStats) -> u64| stats.iter().map(of).sum::<u64>();
        counts.maps = Moved {
            count: sum(&|one| one.maps.count),
            bytes: sum(&|one| one.maps.bytes),
            sizes: sizes(stats.iter().map(|one| &one.maps.sizes)),
        };
        counts.unmaps = Moved {
            count: sum(&|one| one.unmaps.count),
            bytes: sum(&|one| one.unmaps.bytes),
            sizes: sizes(stats.iter().map(|one| &one.unmaps.sizes)),
        };
        counts.asked_bytes = sum(&|one| one.unmaps.asked_bytes);
        counts.freed_bytes = sum(&|one| one.unmaps.freed_bytes);
        counts.whole = sum(&|one| one.unmaps.whole);
        counts.pieces = sum(&|one| one.unmaps.pieces);
        counts.untracked = sum(&|one| one.unmaps.untracked);
        counts.not_ram = sum(&|one| one.maps.not_ram);
        counts.not_ram_bytes = sum(&|one| one.maps.not_ram_bytes);
        counts.lately.maps += counts.maps.count.saturating_sub(had.0);
        counts.lately.map_bytes += counts.maps.bytes.saturating_sub(had.1);
        counts.lately.unmaps += counts.unmaps.count.saturating_sub(had.2);
        counts.lately.unmap_bytes += counts.unmaps.bytes.saturating_sub(had.3);
    }

    /// The domain at that address is no more; what lies there later is another.
    pub fn end(&mut self, domain: u64) {
        let Some(mut counts) = self.live.remove(&domain) else {
            return;
        };
        counts.gone = true;
        if counts.maps.count + counts.unmaps.count == 0 {
            return;
        }
        self.gone.push(counts);
        if self.gone.len() > GONE {
            // The first is the sum of those before it.
            let sum = DomainCounts {
                gone: true,
                ..DomainCounts::default()
            };
            if self.gone[0].domain > 0 {
                self.gone.insert(0, sum);
            }
            let oldest = self.gone.remove(1);
            add(&mut self.gone[0], &oldest);
        }
    }

    /// All of them that anything was counted in, by number, with what came since this was called before.
    pub fn all(&mut self) -> Vec<DomainCounts> {
        let mut all: Vec<DomainCounts> = self
            .gone
            .iter()
            .chain(self.live.values())
            .filter(|counts| counts.maps.count + counts.unmaps.count > 0)
            .cloned()
            .collect();
        all.sort_by_key(|counts| counts.domain);
        for counts in self.gone.iter_mut().chain(self.live.values_mut()) {
            counts.lately = Lately::default();
        }
        all
    }
}

/// The counts of all CPUs by size, without what is empty.
fn sizes<'a>(cpus: impl Iterator<Item = &'a [u64; SIZES]>) -> Vec<SizeCount> {
    let mut sums = [0; SIZES];
    for sizes in cpus {
        for (sum, count) in sums.iter_mut().zip(sizes) {
            *sum += count;
        }
    }
    sums.into_iter()
        .enumerate()
        .filter(|(_, count)| *count > 0)
        .map(|(position, count)| SizeCount {
            le_bytes: size_bound(position),
            count,
        })
        .collect()
}

/// Adds `other`'s counts to those of `sum`.
fn add(sum: &mut DomainCounts, other: &DomainCounts) {
    moved(&mut sum.maps, &other.maps);
    moved(&mut sum.unmaps, &other.unmaps);
    sum.asked_bytes += other.asked_bytes;
    sum.freed_bytes += other.freed_bytes;
    sum.whole += other.whole;
    sum.pieces += other.pieces;
    sum.untracked += other.untracked;
    sum.not_ram += other.not_ram;
    sum.not_ram_bytes += other.not_ram_bytes;
}

fn moved(sum: &mut Moved, other: &Moved) {
    sum.count += other.count;
    sum.bytes += other.bytes;
    for one in &other.sizes {
        match sum
            .sizes
            .iter_mut()
            .find(|had| had.le_bytes == one.le_bytes)
        {
            Some(had) => had.count += one.count,
            None => sum.sizes.push(*one),
        }
    }
    sum.sizes
        .sort_by_key(|one| one.le_bytes.unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(group: u32, domain: u64, device: &str) -> InUse {
        InUse {
            group,
            devices: vec![device.to_owned()],
            domain,
            domain_type: 3,
        }
    }

    fn stats(maps: u64, unmaps: u64) -> DomainStats {
        let mut stats = DomainStats::default();
        stats.maps.count = maps;
        stats.maps.bytes = maps * 4096;
        stats.maps.sizes[0] = maps;
        stats.unmaps.count = unmaps;
        stats.unmaps.bytes = unmaps * 4096;
        stats.unmaps.freed_bytes = unmaps * 4096;
        stats.unmaps.sizes[9] = unmaps;
        stats
    }

    #[test]
    fn a_domain_is_that_of_all_groups_that_use_it() {
        let mut domains = Domains::default();
        domains.learn(&[
            in_use(4, 0x1000, "0000:00:04.0"),
            in_use(3, 0x1000, "0000:00:03.0"),
            in_use(5, 0, "0000:00:05.0"),
        ]);
        domains.count(0x1000, &[stats(3, 1), stats(0, 1)]);
        let all = domains.all();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].domain, 1);
        assert_eq!(all[0].kind.as_deref(), Some("DMA"));
        assert_eq!(all[0].groups, [3, 4]);
        assert_eq!(all[0].devices, ["0000:00:04.0", "0000:00:03.0"]);
        assert_eq!(all[0].maps.count, 3);
        assert_eq!(
            all[0].unmaps.sizes,
            [SizeCount {
                le_bytes: Some(2 << 20),
                count: 2
            }]
        );
        assert_eq!(all[0].net_bytes(), 4096);
        assert_eq!(all[0].lately.maps, 3);
        domains.count(0x1000, &[stats(5, 2)]);
        assert_eq!(domains.all()[0].lately.maps, 2);
    }

    #[test]
    fn what_comes_to_lie_where_a_domain_was_is_another() {
        let mut domains = Domains::default();
        domains.learn(&[in_use(3, 0x1000, "0000:00:03.0")]);
        domains.count(0x1000, &[stats(3, 1)]);
        domains.end(0x1000);
        assert!(!domains.knows(0x1000));
        domains.count(0x1000, &[stats(1, 0)]);
        let all = domains.all();
        assert_eq!(all.len(), 2);
        assert!(all[0].gone && all[0].maps.count == 3);
        assert!(!all[1].gone && all[1].domain == 2 && all[1].groups.is_empty());
    }

    #[test]
    fn many_that_are_no_more_are_added_up() {
        let mut domains = Domains::default();
        for domain in 1..=GONE as u64 + 10 {
            domains.count(domain, &[stats(2, 1)]);
            domains.end(domain);
        }
        let all = domains.all();
        assert_eq!(all[0].domain, 0);
        assert_eq!(
            all.iter().map(|counts| counts.maps.count).sum::<u64>(),
            2 * (GONE as u64 + 10)
        );
        assert!(all.len() <= GONE + 1, "{}", all.len());
    }
}
