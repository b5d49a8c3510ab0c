//! All that is watched, put together: events as they come, and snapshots of all counts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use smi_common::iommu::{IommuRecord, Notice};

use super::{
    changes::Changes,
    events,
    fault_log::FaultLog,
    faults::{FaultReader, Report},
    growth::Growth,
    ratio::{Lately, Ratio},
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
    },
    model::iommu::{
        DomainCounts, Fault, FaultCounts, FaultSource, IOMMU_SCHEMA_VERSION, IommuEvent,
        IommuSnapshot, LeftOver, What,
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
    iomem: Iomem,
    naming: Naming,
    /// The kernel's log, where it can be read.
    log: Option<Kmsg>,
    reader: FaultReader,
    faults: FaultLog,
    ratio_limit: f64,
    growth_for: Duration,
    alarms: BTreeMap<u32, Alarms>,
    /// What of other memory was told already: domain and place.
    told_not_ram: BTreeSet<(u32, Option<String>)>,
    waiting: VecDeque<IommuEvent>,
    warnings: Vec<String>,
    began: Instant,
    snapshot_at: Instant,
    interval: u64,
    ratio_alarms: u64,
    growth_alarms: u64,
    changes_seen: u64,
    log_suppressed: u64,
}

/// What watches one domain.
struct Alarms {
    ratio: Ratio,
    growth: Option<Growth>,
    /// What had been counted at the snapshot before.
    had: DomainCounts,
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
        let iomem = Iomem::read().unwrap_or_else(|error| {
            warnings.push(format!(
                "whether main memory is mapped cannot be told: {:#}",
                anyhow::Error::new(error)
            ));
            Iomem::default()
        });
        let mut watching = Watching::start(look, &iomem)?;
        // Once more: what changed before the tracepoints were followed was told by none.
        changes.refresh()?;
        watching.learn(changes.topology())?;
        let now = Instant::now();
        Ok(Self {
            watching,
            changes,
            selection,
            iomem,
            naming: Naming::default(),
            log,
            reader: FaultReader::default(),
            faults: FaultLog::new(max_faults),
            ratio_limit: look.ratio_limit,
            growth_for: look.growth_for,
            alarms: BTreeMap::new(),
            told_not_ram: BTreeSet::new(),
            waiting: VecDeque::new(),
            warnings,
            began: now,
            snapshot_at: now,
            interval: 0,
            ratio_alarms: 0,
            growth_alarms: 0,
            changes_seen: 0,
            log_suppressed: 0,
        })
    }

    /// What the user should know that is no failure; each is told once.
    pub fn warnings(&mut self) -> Vec<String> {
        let mut all = std::mem::take(&mut self.warnings);
        all.extend(self.watching.warnings());
        all
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
        for record in &records {
            match events::notice(record) {
                Some(Notice::DomainGone) => self.watching.domain_gone(record.domain)?,
                Some(
                    Notice::Added | Notice::Removed | Notice::Attached | Notice::Detached,
                ) => learn = true,
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
                &self.iomem,
                &mut self.naming,
            )
            .context("cannot name the kernel's functions")?;
            if let Some(what) = what {
                self.take(events::time(record, epoch), what);
            }
        }
        self.read_log(epoch)?;
        let mut all: Vec<IommuEvent> = self.waiting.drain(..).collect();
        all.sort_by_key(|event| event.time);
        Ok(all)
    }

    fn take(&mut self, time: Timestamp, what: What) {
        match what {
            What::Fault(fault) => self.fault(time, fault),
            What::NotRam {
                domain, ref of, ..
            } => {
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
        if self.selection.has(&what) && self.waiting.len() < WAITING {
            self.waiting.push_back(IommuEvent { time, what });
        }
    }

    fn read_log(&mut self, epoch: Epoch) -> Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        for message in log.take().context("cannot read the kernel's log")? {
            match self.reader.take(&message) {
                Some(Report::Fault(fault)) => {
                    // The log's clock is the monotonic one.
                    let date = epoch.date(ns(message.since_boot));
                    let time = Timestamp::try_from(date).unwrap_or_else(|_| Timestamp::now());
                    self.fault(time, fault);
                }
                Some(Report::Suppressed(count)) => self.log_suppressed += count,
                None => {}
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
        for counts in &domains {
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
            ratio_alarms: self.ratio_alarms,
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

    /// Faults by device: what the programs counted of the tracepoint's, since records of them may be lost, and what was read.
    fn fault_counts(&self) -> Result<Vec<FaultCounts>> {
        let mut counts = self.faults.counts();
        for (device, count) in self.watching.faults()? {
            let had = counts
                .iter_mut()
                .find(|had| had.source == FaultSource::Tracepoint && had.device == device);
            if let Some(had) = had {
                had.count = had.count.max(count);
            }
        }
        Ok(counts)
    }

    fn judge(&mut self, counts: &DomainCounts, interval_ns: u64) -> Result<()> {
        let growth_for = self.growth_for;
        let alarms = self.alarms.entry(counts.domain).or_insert_with(|| Alarms {
            ratio: Ratio::default(),
            growth: (!growth_for.is_zero()).then(|| Growth::new(growth_for)),
            had: DomainCounts::default(),
        });
        let lately = Lately::between(&alarms.had, counts);
        alarms.had = counts.clone();
        let verdict = alarms.ratio.judge(lately, self.ratio_limit);
        let grown = alarms.growth.as_mut().and_then(|growth| {
            growth.judge(self.began.elapsed(), counts.net_bytes())
        });
        let (domain, groups, devices) = (
            counts.domain,
            counts.groups.clone(),
            counts.devices.clone(),
        );
        self.ratio_alarms += u64::from(verdict.is_alarm);
        if verdict.is_told {
            self.wait(
                Timestamp::now(),
                What::Ratio {
                    domain,
                    groups: groups.clone(),
                    devices: devices.clone(),
                    maps: lately.maps,
                    unmaps: lately.unmaps,
                    pieces: lately.pieces,
                    single_pages: lately.single_pages,
                    limit: self.ratio_limit,
                    interval_ns,
                },
            );
        }
        if let Some(grown) = grown {
            self.growth_alarms += 1;
            let left = self.left(domain)?;
            self.wait(
                Timestamp::now(),
                What::Growth {
                    domain,
                    groups,
                    devices,
                    net_bytes: counts.net_bytes(),
                    for_ns: ns(grown.lasted),
                    grown_bytes: grown.bytes,
                    left,
                },
            );
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
        self.ratio_alarms > 0
    }
}
