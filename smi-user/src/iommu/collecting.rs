//! All that is watched, put together: events as they come, and snapshots of all counts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use smi_common::iommu::{IommuRecord, Notice, size_bound};

use super::{
    changes::Changes,
    domains::InUse,
    events,
    fault_log::FaultLog,
    fault_sources::emits_tracepoint,
    faults::{FaultReader, Report},
    growth::Growth,
    ratio::{RatioAlarm, RatioDeltas, RatioVerdict},
    readiness::{Readiness, readiness},
    selection::Selection,
    watching::Watching,
};
use crate::{
    cli::Look,
    kernel::{
        clock::{Epoch, monotonic_ns},
        iomem::Iomem,
        kmsg::Kmsg,
        naming::Naming,
        viot::Endpoints,
    },
    model::iommu::{
        DomainCounts, Fault, FaultCounts, IOMMU_SCHEMA_VERSION, IommuEvent, IommuSnapshot,
        LeftOver, What,
    },
    model::iommu_topology::Topology,
    units::ns,
};

/// Events that wait to be fetched: more than all alarms of the domains that are counted apart.
const WAITING: usize = 8192;
/// Ages by which mappings that are left are told: up to each of these, and older.
const AGES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_mins(1),
    Duration::from_mins(10),
    Duration::from_hours(1),
];

/// See the module. Dropping it stops everything.
pub struct Collecting {
    watching: Watching,
    changes: Changes,
    selection: Selection,
    /// What lies where, where that can be read.
    iomem: Option<Iomem>,
    naming: Naming,
    /// The kernel's log, where it can be read.
    log: Option<Kmsg>,
    reader: FaultReader,
    faults: FaultLog,
    /// Where faults are told here, in words.
    fault_sources: Vec<&'static str>,
    ratio_limit: f64,
    ratio: RatioAlarm,
    growth: Growth,
    /// What had been counted at the snapshot before, by domain.
    had: BTreeMap<u32, DomainCounts>,
    /// What of other memory was told already: domain and place.
    told_not_ram: BTreeSet<(u32, Option<String>)>,
    waiting: VecDeque<IommuEvent>,
    warnings: Vec<String>,
    /// Events for which there was no room since that was told last.
    left_out: u64,
    began: Instant,
    snapshot_at: Instant,
    interval: u64,
    growth_alarms: u64,
    changes_seen: u64,
    log_suppressed: u64,
}

impl Collecting {
    /// Begins to watch. Of each device at most `max_faults` faults a minute become events.
    ///
    /// # Errors
    /// When the kernel refuses something, or `look` asks for what there is not.
    pub fn start(look: &Look, max_faults: u64) -> Result<Self> {
        let mut warnings = Vec::new();
        // Before anything is counted, and before the topology is read: what happens in between is in the log.
        let log = match Kmsg::follow() {
            Ok(log) => Some(log),
            Err(error) => {
                warnings.push(format!(
                    "faults that only the IOMMU's driver reports are not seen: {:#}",
                    anyhow::Error::new(error)
                ));
                None
            }
        };
        let mut changes = Changes::new(true)?;
        match readiness(changes.topology()) {
            Readiness::Ready => {}
            none @ Readiness::NoIommu { .. } => bail!("{}", none.words().unwrap_or_default()),
            // What VFIO gives to guests is mapped all the same.
            other => warnings.extend(other.words()),
        }
        let selection = Selection::new(changes.topology(), &look.part)?;
        let iomem = match Iomem::read() {
            Ok(iomem) => Some(iomem),
            Err(error) => {
                warnings.push(format!(
                    "whether it is main memory that is mapped cannot be told: {:#}",
                    anyhow::Error::new(error)
                ));
                None
            }
        };
        let sources = emits_tracepoint(&changes.topology().units);
        let mut watching = Watching::start(look, iomem.as_ref())?;
        // Once more: what changed before the tracepoints were followed was told by none.
        changes.refresh()?;
        watching.learn(changes.topology())?;
        let now = Instant::now();
        Ok(Self {
            fault_sources: sources.messages,
            watching,
            changes,
            selection,
            iomem,
            naming: Naming::default(),
            log,
            reader: FaultReader::new(Endpoints::read()),
            faults: FaultLog::new(max_faults),
            ratio_limit: look.ratio_limit,
            ratio: RatioAlarm::new(look.ratio_limit),
            growth: Growth::new(look.growth_for),
            had: BTreeMap::new(),
            told_not_ram: BTreeSet::new(),
            waiting: VecDeque::new(),
            warnings,
            left_out: 0,
            began: now,
            snapshot_at: now,
            interval: 0,
            growth_alarms: 0,
            changes_seen: 0,
            log_suppressed: 0,
        })
    }

    /// What the user should know that is no failure; each is told once.
    pub fn warnings(&mut self) -> Vec<String> {
        let mut all = std::mem::take(&mut self.warnings);
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            all.push(format!(
                "more than {WAITING} things happened at once: {left_out} of them are counted only"
            ));
        }
        all.extend(self.watching.warnings());
        all
    }

    /// Where faults are told here, if not all by the tracepoint.
    pub fn fault_sources(&self) -> &[&'static str] {
        &self.fault_sources
    }

    /// The groups and devices as they are.
    pub fn topology(&self) -> &Topology {
        self.changes.topology()
    }

    /// Takes what has happened since the call before, oldest first.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub fn fetch(&mut self) -> Result<Vec<IommuEvent>> {
        let mut records: Vec<IommuRecord> = Vec::new();
        self.watching.take_records(|record| records.push(*record));
        let epoch = Epoch::now();
        let mut learn = false;
        // In their order: a domain may be gone again already.
        for record in &records {
            match events::notice(record) {
                Some(Notice::DomainGone) => {
                    let selection = &self.selection;
                    self.watching
                        .domain_gone(record.domain, record.at_ns, |counts| {
                            selection.has_groups(&counts.groups)
                        })?;
                }
                Some(Notice::Attached) => {
                    self.attached(record);
                    learn = true;
                }
                Some(Notice::Added | Notice::Removed | Notice::Detached) => learn = true,
                _ => {}
            }
        }
        for what in self.changes.poll()? {
            learn = true;
            self.changed(Timestamp::now(), what);
        }
        if learn {
            self.changes.refresh()?;
            self.watching.learn(self.changes.topology())?;
        }
        for record in &records {
            let what = events::what(
                record,
                self.watching.domains(),
                self.iomem.as_ref(),
                &mut self.naming,
            )
            .context("cannot name the kernel's functions")?;
            if let Some(what) = what {
                self.take(events::time(record, epoch), what);
            }
        }
        self.read_log()?;
        let mut all: Vec<IommuEvent> = self.waiting.drain(..).collect();
        all.sort_by_key(|event| event.time);
        Ok(all)
    }

    fn attached(&mut self, record: &IommuRecord) {
        let group = u32::try_from(record.group).ok();
        let known = group.and_then(|number| self.changes.topology().group(number));
        if let Some(known) = known {
            self.watching.attached(InUse {
                group: known.group,
                devices: known.devices.clone(),
                domain: record.domain,
                domain_type: record.domain_type,
            });
        }
    }

    fn take(&mut self, time: Timestamp, what: What) {
        match what {
            What::Fault(fault) => self.fault(time, fault),
            What::NotRam { domain, ref of, .. } => {
                if self.told_not_ram.len() < WAITING
                    && self.told_not_ram.insert((domain, of.clone()))
                {
                    self.wait(time, what);
                }
            }
            What::Late { .. } => self.wait(time, what),
            _ => self.changed(time, what),
        }
    }

    fn changed(&mut self, time: Timestamp, what: What) {
        self.changes_seen += 1;
        self.wait(time, what);
    }

    fn fault(&mut self, time: Timestamp, mut fault: Fault) {
        if let Some(device) = self.changes.topology().device(&fault.device) {
            fault.group = fault.group.or(device.group);
            fault.driver = fault.driver.or_else(|| device.driver.clone());
        }
        let what = What::Fault(fault.clone());
        if !self.selection.has(&what) {
            return;
        }
        if let Some(event) = self.faults.take(fault, time) {
            self.wait(event.time, event.what);
        }
    }

    /// Has `what` be fetched, if it was asked for.
    fn wait(&mut self, time: Timestamp, what: What) {
        if !self.selection.has(&what) {
            return;
        }
        if self.waiting.len() < WAITING {
            self.waiting.push_back(IommuEvent { time, what });
        } else {
            self.left_out += 1;
        }
    }

    fn read_log(&mut self) -> Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let messages = log.take().context("cannot read the kernel's log")?;
        for (_, report) in self.reader.take(&messages) {
            match report {
                // The log's own clock drifts, by seconds in weeks.
                Report::Fault(fault) => self.fault(Timestamp::now(), fault),
                Report::Suppressed(count) => self.log_suppressed += count,
            }
        }
        Ok(())
    }

    /// All that was counted so far. What alarms it raises are fetched next.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn snapshot(&mut self, last: bool) -> Result<IommuSnapshot> {
        let selection = &self.selection;
        let (cpus, is_new) = self
            .watching
            .count(|counts| selection.has_groups(&counts.groups))?;
        if is_new {
            self.changes.refresh()?;
            self.watching.learn(self.changes.topology())?;
        }
        let now = Instant::now();
        let interval_ns = ns(now - self.snapshot_at);
        self.snapshot_at = now;
        self.interval += 1;
        let selection = &self.selection;
        let domains: Vec<DomainCounts> = self
            .watching
            .domains()
            .all()
            .into_iter()
            .filter(|counts| selection.has_groups(&counts.groups))
            .collect();
        // The sum of those that went long ago is no domain.
        for counts in domains.iter().filter(|it| !it.gone || it.domain > 0) {
            self.judge(counts, interval_ns)?;
        }
        let own = self.watching.own()?;
        Ok(IommuSnapshot {
            schema_version: IOMMU_SCHEMA_VERSION,
            time: Timestamp::now(),
            interval: self.interval,
            elapsed_ns: ns(now - self.began),
            interval_ns,
            last,
            ratio_limit: self.ratio_limit,
            ratio_alarms: self.ratio.alarms(),
            growth_alarms: self.growth_alarms,
            changes: self.changes_seen,
            domains,
            cpus,
            times: self.watching.times()?,
            timed_one_in: self.watching.timed_one_in(),
            faults: self.fault_counts()?,
            log_lost: self.log.as_ref().map_or(0, Kmsg::lost),
            log_suppressed: self.log_suppressed,
            following: own.following,
            late: own.late,
            missed: own.missed,
            records_sent: own.records_sent,
            records_lost: own.records_lost,
        })
    }

    /// Faults by device: what was read, and what the programs counted, since records may be lost.
    fn fault_counts(&mut self) -> Result<Vec<FaultCounts>> {
        for (device, count) in self.watching.faults()? {
            let group = self
                .changes
                .topology()
                .device(&device)
                .and_then(|it| it.group);
            if self.selection.has_device(&device, group) {
                self.faults.counted(&device, count);
            }
        }
        Ok(self.faults.counts())
    }

    /// Raises the alarms of one domain.
    fn judge(&mut self, counts: &DomainCounts, interval_ns: u64) -> Result<()> {
        let had = self
            .had
            .insert(counts.domain, counts.clone())
            .unwrap_or_default();
        let (maps, unmaps) = (counts.lately.maps, counts.lately.unmaps);
        let deltas = RatioDeltas {
            maps,
            unmaps,
            whole: counts.whole.saturating_sub(had.whole),
            untracked: counts.untracked.saturating_sub(had.untracked),
            single_pages: single_pages(counts).saturating_sub(single_pages(&had)),
        };
        let verdict = self.ratio.take(counts.domain, &deltas);
        let grown = self
            .growth
            .take(counts.domain, self.began.elapsed(), counts.net_bytes());
        let (domain, groups, devices) =
            (counts.domain, counts.groups.clone(), counts.devices.clone());
        let now = Timestamp::now();
        if verdict == RatioVerdict::Tell {
            let what = What::Ratio {
                domain,
                groups: groups.clone(),
                devices: devices.clone(),
                maps,
                unmaps,
                pieces: counts.pieces.saturating_sub(had.pieces),
                single_pages: deltas.single_pages,
                limit: self.ratio_limit,
                interval_ns,
            };
            self.wait(now, what);
        }
        if let Some(grown) = grown {
            self.growth_alarms += 1;
            let what = What::Growth {
                domain,
                groups,
                devices,
                net_bytes: grown.net_bytes,
                for_ns: ns(grown.over),
                grown_bytes: grown.grown_bytes,
                left: self.left(domain)?,
            };
            self.wait(now, what);
        }
        if counts.gone {
            self.had.remove(&domain);
            self.growth.forget(domain);
        }
        Ok(())
    }

    /// What is left of the domain's mappings that are followed, by age.
    fn left(&mut self, domain: u32) -> Result<Vec<LeftOver>> {
        let Some(address) = self.watching.domains().address_of(domain) else {
            return Ok(Vec::new());
        };
        let now_ns = monotonic_ns();
        let mut by_age: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (key, live) in self.watching.left()? {
            if key.domain != address {
                continue;
            }
            let age_ns = now_ns.saturating_sub(live.at_ns);
            let class = AGES.into_iter().map(ns).find(|age| age_ns <= *age);
            let sum = by_age.entry(class.unwrap_or(u64::MAX)).or_default();
            sum.0 += 1;
            sum.1 += live.bytes;
        }
        Ok(by_age
            .into_iter()
            .map(|(age_ns, (mappings, bytes))| LeftOver {
                age_ns: if age_ns == u64::MAX {
                    ns(self.began.elapsed())
                } else {
                    age_ns
                },
                mappings,
                bytes,
            })
            .collect())
    }

    /// Whether `--ratio-limit` was exceeded.
    pub fn has_alarmed(&self) -> bool {
        self.ratio.alarms() > 0
    }
}

/// Unmaps that asked for a page or less.
fn single_pages(counts: &DomainCounts) -> u64 {
    let first = counts.unmaps.sizes.first();
    first
        .filter(|size| size.le_bytes == size_bound(0))
        .map_or(0, |size| size.count)
}
