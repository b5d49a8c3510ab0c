//! Tables for people.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};

use super::{Report, bars, cost};
use crate::{
    kernel::cpus::CpuList,
    model::{
        Attribution, CauseStats, CpuSnapshot, DetectorInfo, Gap, GapKind, Interval, Proof,
        SmiCounts, Snapshot,
    },
    units::show_ns,
};

/// Longest gaps named in the summary.
pub(super) const LONGEST: usize = 5;

pub(super) const BOLD: &str = "\x1b[1m";
pub(super) const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// See the module.
#[derive(Debug)]
pub struct Text {
    /// Report every interval, not only the end.
    pub intervals: bool,
    /// Whether the reader is a terminal.
    pub colour: bool,
    /// Longer gaps are marked, and the summary says whether there were any.
    pub hardlimit_ns: Option<u64>,
    /// Times are shown in this zone.
    pub zone: TimeZone,
    earlier: Option<Snapshot>,
    longest: Vec<Gap>,
}

impl Text {
    /// A report with nothing in it yet.
    pub fn new(intervals: bool, colour: bool, hardlimit_ns: Option<u64>, zone: TimeZone) -> Self {
        Self {
            intervals,
            colour,
            hardlimit_ns,
            zone,
            earlier: None,
            longest: Vec::new(),
        }
    }

    pub(super) fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("{colour}{text}{PLAIN}")
        } else {
            text.to_owned()
        }
    }

    fn clock(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone())
            .strftime("%H:%M:%S%.3f")
            .to_string()
    }

    pub(super) fn heading(&self) -> String {
        let heading = format!(
            "{:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  {}",
            "cpu", "exposure", "gaps", "gaps/s", "min", "avg", "p50", "p99", "p99.9", "max", "last"
        );
        self.paint(BOLD, &heading) + "\n"
    }

    pub(super) fn row(&self, name: &str, of: &Interval, last: &str) -> String {
        let time = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), show_ns);
        let exact = |ns: Option<u64>| time(ns.map(|ns| ns as f64));
        let rate = of.rate().map_or_else(|| "-".to_owned(), show_rate);
        // Padded first: the colour must not count as width.
        let mut max = format!("{:>9}", exact(of.max_ns));
        if self.exceeds(of.max_ns) {
            max = self.paint(RED, &max);
        }
        let row = format!(
            "{name:>5} {:>9} {:>9} {rate:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {max}  {last}",
            show_ns(of.exposure_ns as f64),
            of.count,
            exact(of.min_ns),
            time(of.mean_ns()),
            time(of.quantile_ns(0.5)),
            time(of.quantile_ns(0.99)),
            time(of.quantile_ns(0.999)),
        );
        row.trim_end().to_owned() + "\n"
    }

    fn exceeds(&self, ns: Option<u64>) -> bool {
        matches!((ns, self.hardlimit_ns), (Some(ns), Some(limit)) if ns > limit)
    }

    pub(super) fn last(&self, cpu: &CpuSnapshot) -> String {
        match (cpu.gaps.last_ns, cpu.gaps.last_time) {
            (Some(ns), Some(time)) => format!("{} at {}", show_ns(ns as f64), self.clock(time)),
            _ => String::new(),
        }
    }

    /// A single gap in words.
    pub(super) fn single(&self, gap: &Gap) -> String {
        format!(
            "{:>9} on CPU {} at {}, cause {}",
            show_ns(gap.duration_ns as f64),
            gap.cpu,
            gap.end_time
                .to_zoned(self.zone.clone())
                .strftime("%F %T%.3f"),
            gap.cause,
        )
    }

    fn remember(&mut self, snapshot: &Snapshot) {
        self.longest.extend(&snapshot.gaps);
        self.longest
            .sort_by_key(|gap| std::cmp::Reverse(gap.duration_ns));
        self.longest.truncate(LONGEST);
    }

    fn summary(&self, snapshot: &Snapshot) -> String {
        let mut text = String::new();
        let total = snapshot.total();
        let title = format!(
            "Summary of {} with {} of exposure",
            show_ns(snapshot.elapsed_ns as f64),
            show_ns(total.exposure_ns as f64)
        );
        line(&mut text, &self.paint(BOLD, &title));
        text += &self.heading();
        for cpu in &snapshot.cpus {
            text += &self.row(&cpu.cpu.to_string(), &cpu.total(), &self.last(cpu));
        }
        if snapshot.cpus.len() > 1 {
            text += &self.row("all", &total, "");
        }
        text += &sampling(&snapshot.detector, &snapshot.cpus);
        text += &causes(&snapshot.causes());
        text += &smis(&snapshot.attribution, &snapshot.cpus);
        if total.count > 0 {
            text += "\nGaps by duration\n";
            for row in bars::rows(&total.histogram) {
                line(&mut text, &row);
            }
        }
        if !self.longest.is_empty() {
            text += "\nLongest gaps passed on one by one\n";
            for gap in &self.longest {
                line(&mut text, &self.single(gap));
            }
        }
        let limited = snapshot.sum(|cpu| cpu.records.limited);
        let lost = snapshot.sum(|cpu| cpu.records.lost) + snapshot.gaps_dropped;
        if limited + lost > 0 {
            line(
                &mut text,
                &format!(
                    "single gaps not passed on: {limited} above --max-gap-records, {lost} for lack of room; all are counted above"
                ),
            );
        }
        let costs: Vec<_> = snapshot
            .cpus
            .iter()
            .filter_map(|cpu| Some((cpu.cpu, cpu.smi_cost?)))
            .collect();
        for (place, row) in cost::table(&costs).iter().enumerate() {
            let gap = if place == 0 { "\n" } else { "" };
            line(&mut text, &format!("{gap}{row}"));
        }
        if let Some(limit) = self.hardlimit_ns {
            let limit = show_ns(limit as f64);
            let verdict = match total.max_ns {
                Some(ns) if self.exceeds(Some(ns)) => self.paint(
                    RED,
                    &format!(
                        "hardlimit {limit}: exceeded, longest gap {}",
                        show_ns(ns as f64)
                    ),
                ),
                _ => format!("hardlimit {limit}: kept"),
            };
            line(&mut text, &format!("\n{verdict}"));
        }
        text
    }
}

impl Report for Text {
    fn plan(&mut self, plan: &str) -> Bytes {
        if self.intervals {
            format!("{plan}\n").into()
        } else {
            Bytes::new()
        }
    }

    fn interval(&mut self, snapshot: &Snapshot) -> Bytes {
        self.remember(snapshot);
        let earlier = self.earlier.replace(snapshot.clone());
        if self.intervals {
            self.block(earlier.as_ref(), snapshot).into()
        } else {
            Bytes::new()
        }
    }

    fn end(&mut self, snapshot: &Snapshot) -> Bytes {
        // The last interval may be a short one.
        let mut text = self.interval(snapshot).to_vec();
        text.extend(self.summary(snapshot).into_bytes());
        text.into()
    }
}

impl Text {
    /// The table of one interval.
    fn block(&self, earlier: Option<&Snapshot>, snapshot: &Snapshot) -> String {
        let mut text = format!(
            "{}  interval {}, {} since start\n",
            self.clock(snapshot.time),
            snapshot.interval,
            show_ns(snapshot.elapsed_ns as f64)
        );
        text += &self.heading();
        for cpu in snapshot.cpus.iter().filter(|cpu| is_watched(snapshot, cpu)) {
            let since = match earlier.and_then(|earlier| earlier.cpu(cpu.cpu)) {
                Some(earlier) => cpu.since(earlier),
                None => cpu.total(),
            };
            let last = if since.count > 0 {
                self.last(cpu)
            } else {
                String::new()
            };
            text += &self.row(&cpu.cpu.to_string(), &since, &last);
        }
        if let Some(proven) = proven(earlier, snapshot) {
            line(&mut text, &proven);
        }
        text.push('\n');
        text
    }
}

/// Whether the CPU is still watched: those that are not keep their place in the summary.
fn is_watched(snapshot: &Snapshot, cpu: &CpuSnapshot) -> bool {
    let watched: Result<CpuList, _> = snapshot.detector.cpus.parse();
    watched.is_ok_and(|watched| watched.contains(cpu.cpu))
}

/// What was proven in an interval, on a line; `None` when nothing was.
fn proven(earlier: Option<&Snapshot>, snapshot: &Snapshot) -> Option<String> {
    let before = earlier.map(Snapshot::causes).unwrap_or_default();
    let by_cause: Vec<(String, u64)> = snapshot
        .causes()
        .iter()
        .map(|now| {
            let then = before.iter().find(|then| then.cause == now.cause);
            let count = now.count - then.map_or(0, |then| then.count);
            (now.cause, count)
        })
        .filter(|(_, count)| *count > 0)
        .map(|(cause, count)| (format!("{count} {cause}"), u64::from(!cause.is_unknown())))
        .collect();
    // By how many: most SMIs come to all CPUs.
    let mut moved: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for cpu in &snapshot.cpus {
        let then = earlier
            .and_then(|earlier| earlier.cpu(cpu.cpu)?.smis)
            .unwrap_or_default();
        let by = cpu
            .smis
            .map_or(0, |now| now.counted.saturating_sub(then.counted));
        if by > 0 {
            moved.entry(by).or_default().push(cpu.cpu);
        }
    }
    let smis: Vec<String> = moved
        .into_iter()
        .map(|(by, cpus)| format!("{by} on CPU {}", list(&cpus)))
        .collect();
    let mut parts = Vec::new();
    if by_cause.iter().any(|(_, proven)| *proven > 0) {
        let counts: Vec<String> = by_cause.into_iter().map(|(text, _)| text).collect();
        parts.push(format!("gaps by cause: {}", counts.join(", ")));
    }
    if !smis.is_empty() {
        parts.push(format!("SMIs counted: {}", smis.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The gaps by what is proven of them.
pub(super) fn causes(causes: &[CauseStats]) -> String {
    let mut text = String::new();
    if causes.is_empty() {
        return text;
    }
    let heading = format!(
        "\nGaps by cause  {:>9} {:>9} {:>9} {:>9} {:>9}",
        "gaps", "sum", "p50", "p99", "max"
    );
    line(&mut text, &heading);
    for of in causes {
        let quantile = |q| {
            of.histogram
                .quantile(q)
                .map_or_else(|| "-".to_owned(), |ns| show_ns(ns.min(of.max_ns as f64)))
        };
        line(
            &mut text,
            &format!(
                "  {:<12} {:>9} {:>9} {:>9} {:>9} {:>9}",
                of.cause,
                of.count,
                show_ns(of.sum_ns as f64),
                quantile(0.5),
                quantile(0.99),
                show_ns(of.max_ns as f64),
            ),
        );
    }
    text
}

/// The SMIs counted, beside the gaps.
pub(super) fn smis(attribution: &Attribution, cpus: &[CpuSnapshot]) -> String {
    let mut text = String::new();
    match &attribution.counter {
        Some(counter) => line(&mut text, &format!("\nSMIs counted: {}", counter.source)),
        // A reload may have taken the counter away: what it counted until then stays.
        None if cpus.iter().any(|cpu| cpu.smis.is_some()) => line(
            &mut text,
            "\nSMIs counted until the counter was given up; of gaps since, none is proven to be one",
        ),
        None => {
            line(
                &mut text,
                "\nSMIs were not counted, so no gap is proven to be one",
            );
            return text;
        }
    }
    let mut alike: BTreeMap<Option<SmiCounts>, Vec<u32>> = BTreeMap::new();
    for cpu in cpus {
        alike.entry(cpu.smis).or_default().push(cpu.cpu);
    }
    for (smis, cpus) in &alike {
        let row = match smis {
            None => "not counted".to_owned(),
            Some(SmiCounts {
                counted,
                sampled: Some(sampled),
                in_gaps: Some(in_gaps),
                ..
            }) if *counted > 0 => {
                format!("{counted}, of which {sampled} within sampled time, {in_gaps} seen as gaps")
            }
            Some(smis) => smis.counted.to_string(),
        };
        let unread = match smis.map_or(0, |smis| smis.unread) {
            0 => String::new(),
            unread => format!(" ({unread} readings failed)"),
        };
        line(&mut text, &format!("  CPU {}: {row}{unread}", list(cpus)));
    }
    if alike.len() > 1 {
        line(
            &mut text,
            "  the CPUs' counts must not be added up, since one SMI can stop and count on several",
        );
    }
    if attribution.smi == Proof::Interval {
        line(
            &mut text,
            "  attribution = interval: they were not compared with single gaps",
        );
    }
    for caveat in attribution
        .counter
        .iter()
        .flat_map(|counter| &counter.caveats)
    {
        line(&mut text, &format!("  {caveat}"));
    }
    text
}

/// CPUs in the kernel's notation.
fn list(cpus: &[u32]) -> CpuList {
    cpus.iter().copied().collect()
}

/// How the sampling went, and what the numbers stand for.
pub(super) fn sampling(detector: &DetectorInfo, cpus: &[CpuSnapshot]) -> String {
    let mut text = String::new();
    let sum = |of: fn(&CpuSnapshot) -> u64| cpus.iter().map(of).sum::<u64>();
    line(
        &mut text,
        &format!(
            "\nwindows: {} scheduled, {} run, {} skipped; stretches: {} run, {} skipped",
            sum(|cpu| cpu.windows.scheduled),
            sum(|cpu| cpu.windows.run),
            sum(|cpu| cpu.windows.skipped),
            sum(|cpu| cpu.stretches.run),
            sum(|cpu| cpu.stretches.skipped),
        ),
    );
    let steps = sum(|cpu| cpu.stretches.steps);
    if steps > 0 {
        line(
            &mut text,
            &format!(
                "{:.1} ns a step; noise floor before the start {}",
                sum(|cpu| cpu.exposure_ns) as f64 / steps as f64,
                show_ns(detector.noise_floor_ns as f64),
            ),
        );
    }
    if detector.gap_kind == GapKind::WindowMax {
        line(
            &mut text,
            &format!(
                "each gap is the longest of its window, whatever else was in it: {} windows had one, with {} steps \
                     above the threshold in all",
                sum(|cpu| cpu.gaps.count),
                sum(|cpu| cpu.tracer.steps_over),
            ),
        );
    }
    let nmis = sum(|cpu| cpu.tracer.nmi_count);
    if nmis > 0 {
        line(
            &mut text,
            &format!(
                "the tracer saw {nmis} NMIs{}, which took {}",
                match detector.gap_kind {
                    GapKind::Gap => "",
                    GapKind::WindowMax => " in those windows",
                },
                show_ns(sum(|cpu| cpu.tracer.nmi_ns) as f64)
            ),
        );
    }
    let went_back = sum(|cpu| cpu.stretches.clock_went_back);
    if went_back > 0 {
        line(
            &mut text,
            &format!("the clock went back {went_back} times: gaps near those moments are in doubt"),
        );
    }
    text
}

/// Gaps per second with at least two significant digits.
pub(super) fn show_rate(rate: f64) -> String {
    if rate >= 100.0 || rate == 0.0 {
        format!("{rate:.0}")
    } else if rate >= 1.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.2e}")
    }
}

pub(super) fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _written = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use crate::report::otlp::testing;

    #[test]
    fn smis_counted_before_a_reload_took_the_counter_away_are_told() {
        let mut snapshot = testing::snapshot();
        snapshot.attribution.counter = None;
        let told = super::smis(&snapshot.attribution, &snapshot.cpus);
        assert!(told.contains("until the counter was given up"), "{told}");
        assert!(
            told.contains(": 40, of which 20 within sampled time"),
            "{told}"
        );
        for cpu in &mut snapshot.cpus {
            cpu.smis = None;
        }
        let told = super::smis(&snapshot.attribution, &snapshot.cpus);
        assert_eq!(
            told,
            "\nSMIs were not counted, so no gap is proven to be one\n"
        );
    }
}
