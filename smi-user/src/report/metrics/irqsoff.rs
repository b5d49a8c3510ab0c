//! What `smilat irqsoff` exports.

use smi_common::irqsoff::Kind;

use super::{
    Family, List, Sample,
    Value::{self, Count, Gaps, Ns},
};
use crate::model::{
    Interval,
    irqsoff::{CpuCounts, IrqsoffSnapshot, KindCounts, kind_name},
};

/// All that `snapshot` says; `displaced` connections made room for others.
pub(in crate::report) fn families(snapshot: &IrqsoffSnapshot, displaced: u64) -> Vec<Family> {
    let mut list = List::default();
    stretches(&mut list, snapshot);
    ticks(&mut list, snapshot);
    own(&mut list, snapshot, displaced);
    list.0
}

fn stretches(list: &mut List, snapshot: &IrqsoffSnapshot) {
    // All kinds from the start, at 0, so that the first of a kind shows as an increase.
    let by_kind = |of: fn(&KindCounts) -> Value| {
        snapshot.cpus.iter().flat_map(move |cpu| {
            Kind::ALL.into_iter().map(move |kind| {
                let counts = cpu.kinds.iter().find(|counts| counts.kind == kind);
                let none = KindCounts::none(kind);
                sample(cpu, of(counts.unwrap_or(&none))).with("kind", &kind_name(kind))
            })
        })
    };
    list.counter(
        "smilat.irqsoff.stretches",
        "{stretch}",
        "Stretches of at least the threshold: with interrupts off (disabled), preemption or bottom halves off, or in one run of a \
         softirq; and late ticks that the hypervisor, SMIs, NMIs, a CPU that woke up late or something unknown made. Exempt ones are not among them.",
        by_kind(|counts| Count(counts.count)),
    );
    list.counter(
        "smilat.irqsoff.stretch",
        "s",
        "Sum of their lengths, as far as known for sure.",
        by_kind(|counts| Ns(counts.sum_ns)),
    );
    list.gauge(
        "smilat.irqsoff.stretch.max",
        "s",
        "The longest since start; 0 while there was none.",
        by_kind(|counts| Ns(counts.max_ns)),
    );
    list.counter(
        "smilat.irqsoff.exempt",
        "{stretch}",
        "Stretches whose stack led through an exempt function.",
        by_kind(|counts| Count(counts.exempt)),
    );
    list.histogram(
        "smilat.irqsoff.stretch.length",
        "Stretches of all watched CPUs together by length, of each kind that there was.",
        Kind::ALL.into_iter().filter_map(|kind| {
            let all = all(snapshot, kind)?;
            Some(Sample::from(Gaps(Box::new(all))).with("kind", &kind_name(kind)))
        }),
    );
    list.counter(
        "smilat.irqsoff.entries",
        "{entry}",
        "Entries written (logged), and kept back by --max-log (suppressed).",
        [
            ("logged", snapshot.logged),
            ("suppressed", snapshot.suppressed),
        ]
        .map(|(outcome, number)| Sample::from(Count(number)).with("outcome", &outcome)),
    );
}

/// Those of all CPUs; `None` where there was none.
fn all(snapshot: &IrqsoffSnapshot, kind: Kind) -> Option<Interval> {
    let mut all = Interval::default();
    let counts = snapshot.cpus.iter().flat_map(|cpu| &cpu.kinds);
    for counts in counts.filter(|counts| counts.kind == kind && counts.count > 0) {
        all.count += counts.count;
        all.sum_ns += counts.sum_ns;
        all.max_ns = all.max_ns.max(Some(counts.max_ns));
        all.histogram.add(&counts.histogram);
    }
    (all.count > 0).then_some(all)
}

fn ticks(list: &mut List, snapshot: &IrqsoffSnapshot) {
    let by_cpu =
        |of: fn(&CpuCounts) -> Value| snapshot.cpus.iter().map(move |cpu| sample(cpu, of(cpu)));
    list.counter(
        "smilat.irqsoff.ticks",
        "{tick}",
        "Ticks that came.",
        by_cpu(|cpu| Count(cpu.ticks)),
    );
    list.counter(
        "smilat.irqsoff.ticks.missed",
        "{tick}",
        "Ticks that could not come because one before them was late.",
        by_cpu(|cpu| Count(cpu.missed)),
    );
    list.counter(
        "smilat.irqsoff.smi.readings.failed",
        "{reading}",
        "Ticks at which the counter of SMIs could not be read: one that an SMI made late counts as disabled there.",
        by_cpu(|cpu| Count(cpu.smis_unread)),
    );
    list.counter(
        "smilat.irqsoff.watched",
        "s",
        "Time from the first tick to the newest, without that for which the CPU was offline.",
        by_cpu(|cpu| Ns(cpu.watched_ns)),
    );
    list.gauge(
        "smilat.irqsoff.tick.late.max",
        "s",
        "By how much a tick was late at most, whatever made it.",
        by_cpu(|cpu| Ns(cpu.late_max_ns)),
    );
    list.counter(
        "smilat.irqsoff.records.lost",
        "{record}",
        "Stretches that are counted only, since too many came at once to pass on each.",
        by_cpu(|cpu| Count(cpu.records_lost)),
    );
    list.gauge(
        "smilat.irqsoff.tick",
        "s",
        "Time from one tick to the next.",
        [Ns(snapshot.tick_ns)],
    );
    list.gauge(
        "smilat.irqsoff.threshold",
        "s",
        "Stretches shorter than this are not counted.",
        snapshot.threshold_ns.map(Ns),
    );
}

fn own(list: &mut List, snapshot: &IrqsoffSnapshot, displaced: u64) {
    list.build();
    list.taken(snapshot.time);
    list.displaced(displaced);
}

fn sample(cpu: &CpuCounts, value: Value) -> Sample {
    Sample {
        cpu: Some(cpu.cpu),
        ..value.into()
    }
}
