//! Alarms where a domain has many unmaps for each map.

use std::collections::BTreeMap;

/// Fewer unmaps in an interval are no load.
const LEAST_UNMAPS: u64 = 100;
/// Domains of which is kept what was told last.
const DOMAINS: usize = 4096;

/// What came of one domain in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RatioDeltas {
    /// Maps.
    pub maps: u64,
    /// Unmaps.
    pub unmaps: u64,
    /// Of these, those of mappings as they had been mapped; 0 where mappings are not followed.
    pub whole: u64,
    /// Of these, those of what was not seen mapped.
    pub untracked: u64,
    /// Of these, those that asked for a single page.
    pub single_pages: u64,
}

impl RatioDeltas {
    /// Unmaps that count, see [`RatioAlarm`].
    fn counted_unmaps(&self) -> u64 {
        let tracked = self.unmaps.saturating_sub(self.untracked);
        // At least so many of the untracked ones asked for a single page, whichever the tracked ones were.
        let single = self.single_pages.saturating_sub(tracked);
        tracked + single.min(self.untracked)
    }

    /// Maps that they are held against, see [`RatioAlarm`].
    fn counted_maps(&self) -> u64 {
        self.maps.max(self.whole)
    }

    fn ratio(&self) -> f64 {
        self.counted_unmaps() as f64 / self.counted_maps().max(1) as f64
    }
}

/// What to do about an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatioVerdict {
    /// Nothing.
    Fine,
    /// The limit was exceeded; that was told before.
    Again,
    /// The limit was exceeded; tell it.
    Tell,
}

/// See the module.
///
/// What was mapped in one piece and is unmapped in many costs one flush of the IOMMU's caches for each: VFIO once unmapped guests'
/// memory page by page, 5,217,244 unmaps for 472,574 maps. Everything else has one unmap for each map, sooner or later. So there is an
/// alarm when an interval has at least 100 unmaps, and more than the limit for each map. Two things would make it cry wolf:
///
/// - Maps and their unmaps may fall into different intervals: a driver that is unloaded unmaps in one what it mapped in hours. An
///   unmap of a whole mapping has its map, whenever that was: there are at least as many maps as those.
/// - What was mapped before the watch began is unmapped without its map being known. It counts only as far as single pages
///   were asked for, as is done where the defect is; how many that are is known at least from how many single pages were unmapped
///   in all. A driver that had mapped single pages before the watch, and is unloaded, still looks like that for one interval.
#[derive(Debug)]
pub struct RatioAlarm {
    limit: f64,
    alarms: u64,
    /// By domain, the ratio that was told, as long as one interval after another is above the limit.
    told: BTreeMap<u32, f64>,
}

impl RatioAlarm {
    /// Alarms above `limit` unmaps for each map (`--ratio-limit`).
    pub fn new(limit: f64) -> Self {
        Self {
            limit,
            alarms: 0,
            told: BTreeMap::new(),
        }
    }

    /// Takes what came of `domain` in an interval; call it for each domain at each interval, with nothing too. Told once while one
    /// interval after another is above the limit, and again when the ratio is twice of what was told.
    pub fn take(&mut self, domain: u32, deltas: &RatioDeltas) -> RatioVerdict {
        let unmaps = deltas.counted_unmaps();
        let is_above = unmaps as f64 > self.limit * deltas.counted_maps() as f64;
        if unmaps < LEAST_UNMAPS || !is_above {
            self.told.remove(&domain);
            return RatioVerdict::Fine;
        }
        self.alarms += 1;
        let ratio = deltas.ratio();
        if self
            .told
            .get(&domain)
            .is_some_and(|told| ratio < told * 2.0)
        {
            return RatioVerdict::Again;
        }
        if self.told.len() < DOMAINS || self.told.contains_key(&domain) {
            self.told.insert(domain, ratio);
        }
        RatioVerdict::Tell
    }

    /// How many intervals of domains were above the limit.
    pub fn alarms(&self) -> u64 {
        self.alarms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RatioVerdict::{Again, Fine, Tell};

    fn once(deltas: RatioDeltas) -> RatioVerdict {
        RatioAlarm::new(2.0).take(1, &deltas)
    }

    #[test]
    fn pieces_of_what_was_mapped_as_one_are_an_alarm() {
        assert_eq!(
            once(RatioDeltas {
                maps: 472_574,
                unmaps: 5_217_244,
                single_pages: 5_200_000,
                ..RatioDeltas::default()
            }),
            Tell
        );
        // A guest goes, all of whose memory was mapped at its start.
        assert_eq!(
            once(RatioDeltas {
                unmaps: 1024,
                single_pages: 1024,
                ..RatioDeltas::default()
            }),
            Tell
        );
    }

    #[test]
    fn one_unmap_for_each_map_is_fine_and_so_are_few() {
        for (maps, unmaps, expected) in [
            (100_000, 100_000, Fine),
            (100_000, 200_000, Fine),
            (100_000, 200_001, Tell),
            (0, 99, Fine),
            (0, 100, Tell),
            (0, 0, Fine),
        ] {
            let verdict = once(RatioDeltas {
                maps,
                unmaps,
                ..RatioDeltas::default()
            });
            assert_eq!(verdict, expected, "{maps} {unmaps}");
        }
    }

    #[test]
    fn whole_mappings_of_intervals_before_are_fine() {
        let unloaded = RatioDeltas {
            maps: 10,
            unmaps: 8192,
            whole: 8192,
            single_pages: 8192,
            ..RatioDeltas::default()
        };
        assert_eq!(once(unloaded), Fine);
        assert_eq!(
            once(RatioDeltas {
                unmaps: 8192 * 3,
                ..unloaded
            }),
            Tell,
            "with twice as many pieces besides"
        );
    }

    #[test]
    fn what_was_mapped_before_the_watch_counts_only_page_by_page() {
        let before = RatioDeltas {
            maps: 100,
            unmaps: 5000,
            untracked: 4900,
            ..RatioDeltas::default()
        };
        assert_eq!(once(before), Fine, "large ones");
        assert_eq!(
            once(RatioDeltas {
                single_pages: 5000,
                ..before
            }),
            Tell
        );
        // These may be the tracked ones.
        assert_eq!(
            once(RatioDeltas {
                single_pages: 100,
                ..before
            }),
            Fine
        );
        // With 150 of the others: 250 for 100.
        assert_eq!(
            once(RatioDeltas {
                single_pages: 250,
                ..before
            }),
            Tell
        );
    }

    #[test]
    fn it_is_told_once_until_it_ends_or_doubles_and_each_interval_counts() {
        let mut alarm = RatioAlarm::new(2.0);
        let mut take = |unmaps| {
            alarm.take(
                1,
                &RatioDeltas {
                    maps: 100,
                    unmaps,
                    ..RatioDeltas::default()
                },
            )
        };
        let verdicts: Vec<RatioVerdict> = [300, 400, 599, 600, 700, 100, 300]
            .into_iter()
            .map(&mut take)
            .collect();
        assert_eq!(verdicts, [Tell, Again, Again, Tell, Again, Fine, Tell]);
        assert_eq!(alarm.alarms(), 6);
    }

    #[test]
    fn domains_are_told_apart() {
        let mut alarm = RatioAlarm::new(1.5);
        let pieces = RatioDeltas {
            maps: 100,
            unmaps: 200,
            ..RatioDeltas::default()
        };
        assert_eq!(alarm.take(1, &pieces), Tell);
        assert_eq!(alarm.take(2, &pieces), Tell);
        assert_eq!(alarm.take(1, &pieces), Again);
        assert_eq!(alarm.take(2, &RatioDeltas::default()), Fine);
        assert_eq!(alarm.take(1, &pieces), Again);
    }
}
