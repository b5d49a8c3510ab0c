//! A long recording made of a short one: what the short one's intervals added is added over and over.

use std::io::{self, Write};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use smi_user::model::{
    CauseStats, CpuSnapshot, Gap, GapStats, Header, Histogram, SmiCounts, Snapshot, StealCounts,
};

/// Writes a recording of `count` snapshots, `interval` apart, as `smilat run --record` does: first the header, if there is one,
/// then the first of `recorded`, then again and again what each of the others added to the one before it. Counters go on
/// from snapshot to snapshot, and times fit. All of it begins when `recorded` does.
///
/// # Errors
/// When it cannot be written.
///
/// # Panics
/// When `recorded` has fewer than two snapshots, or they do not watch the same CPUs.
pub fn replay(
    header: Option<&Header>,
    recorded: &[Snapshot],
    count: u64,
    interval: SignedDuration,
    to: &mut impl Write,
) -> io::Result<()> {
    if let Some(header) = header {
        writeln!(to, "{}", json!({ "recording": header }))?;
    }
    advance(recorded, count, interval, |snapshot| {
        serde_json::to_writer(&mut *to, snapshot)?;
        writeln!(to)
    })
}

/// Passes on the snapshots that [`replay`] writes, one after the other.
///
/// # Errors
/// The first that `each` has.
///
/// # Panics
/// As [`replay`].
pub fn advance(
    recorded: &[Snapshot],
    count: u64,
    interval: SignedDuration,
    mut each: impl FnMut(&Snapshot) -> io::Result<()>,
) -> io::Result<()> {
    let [first, _, ..] = recorded else {
        panic!("two snapshots are needed to tell what an interval adds");
    };
    let interval_ns = u64::try_from(interval.as_nanos()).expect("a time ahead");
    let mut now = first.clone();
    for (number, step) in (0..count).zip(0i32..) {
        if number > 0 {
            let place = (number as usize - 1) % (recorded.len() - 1);
            let [then, next] = [&recorded[place], &recorded[place + 1]];
            let time = first.time + interval * step;
            now = advanced(&now, then, next, time);
            now.elapsed_ns += interval_ns;
        }
        now.interval = number + 1;
        now.last = number + 1 == count;
        each(&now)?;
    }
    Ok(())
}

/// `now` and what `next` adds to `then`, at `time`.
fn advanced(now: &Snapshot, then: &Snapshot, next: &Snapshot, time: Timestamp) -> Snapshot {
    assert_eq!(
        cpus(now),
        cpus(next),
        "a recording whose CPUs change cannot be replayed"
    );
    let later = next.time.duration_until(time);
    let shift = |at: Timestamp| at + later;
    let per_cpu = now.cpus.iter().zip(&then.cpus).zip(&next.cpus);
    Snapshot {
        time,
        elapsed_ns: now.elapsed_ns,
        cpus: per_cpu
            .map(|((now, then), next)| cpu(now, then, next, shift))
            .collect(),
        gaps: next
            .gaps
            .iter()
            .map(|gap| Gap {
                end_time: shift(gap.end_time),
                ..*gap
            })
            .collect(),
        gaps_dropped: now.gaps_dropped + next.gaps_dropped - then.gaps_dropped,
        ..next.clone()
    }
}

fn cpus(snapshot: &Snapshot) -> Vec<u32> {
    snapshot.cpus.iter().map(|cpu| cpu.cpu).collect()
}

fn cpu(
    now: &CpuSnapshot,
    then: &CpuSnapshot,
    next: &CpuSnapshot,
    shift: impl Fn(Timestamp) -> Timestamp,
) -> CpuSnapshot {
    let mut sum = now.clone();
    let (mut before, mut after) = (then.clone(), next.clone());
    let counters: [fn(&mut CpuSnapshot) -> &mut u64; 17] = [
        |cpu| &mut cpu.exposure_ns,
        |cpu| &mut cpu.windows.scheduled,
        |cpu| &mut cpu.windows.run,
        |cpu| &mut cpu.windows.skipped,
        |cpu| &mut cpu.stretches.scheduled,
        |cpu| &mut cpu.stretches.run,
        |cpu| &mut cpu.stretches.skipped,
        |cpu| &mut cpu.stretches.steps,
        |cpu| &mut cpu.stretches.clock_went_back,
        |cpu| &mut cpu.tracer.steps_over,
        |cpu| &mut cpu.tracer.nmi_count,
        |cpu| &mut cpu.tracer.nmi_ns,
        |cpu| &mut cpu.records.sent,
        |cpu| &mut cpu.records.limited,
        |cpu| &mut cpu.records.lost,
        |cpu| &mut cpu.gaps.count,
        |cpu| &mut cpu.gaps.sum_ns,
    ];
    for of in counters {
        *of(&mut sum) += *of(&mut after) - *of(&mut before);
    }
    sum.gaps = GapStats {
        min_ns: sum
            .gaps
            .min_ns
            .into_iter()
            .chain(next.gaps.interval_min_ns)
            .min(),
        max_ns: sum.gaps.max_ns.max(next.gaps.interval_max_ns),
        interval_min_ns: next.gaps.interval_min_ns,
        interval_max_ns: next.gaps.interval_max_ns,
        ..sum.gaps
    };
    if next.gaps.count > then.gaps.count {
        sum.gaps.last_ns = next.gaps.last_ns;
        sum.gaps.last_time = next.gaps.last_time.map(shift);
    }
    sum.histogram.add(&next.histogram.since(&then.histogram));
    for of in &next.causes {
        add_cause(&mut sum.causes, &then.causes, of);
    }
    if let (Some(sum), Some(then), Some(next)) = (&mut sum.smis, then.smis, next.smis) {
        let both = |sum: Option<u64>, of: fn(&SmiCounts) -> Option<u64>| {
            Some(sum? + of(&next)? - of(&then)?)
        };
        *sum = SmiCounts {
            counted: sum.counted + next.counted - then.counted,
            sampled: both(sum.sampled, |of| of.sampled),
            in_gaps: both(sum.in_gaps, |of| of.in_gaps),
            unread: sum.unread + next.unread - then.unread,
        };
    }
    if let (Some(sum), Some(then), Some(next)) = (&mut sum.steal, then.steal, next.steal) {
        *sum = StealCounts {
            sampled_ns: sum.sampled_ns + next.sampled_ns - then.sampled_ns,
            in_gaps_ns: sum.in_gaps_ns + next.in_gaps_ns - then.in_gaps_ns,
        };
    }
    sum
}

fn add_cause(sum: &mut Vec<CauseStats>, then: &[CauseStats], next: &CauseStats) {
    let none = CauseStats {
        cause: next.cause,
        count: 0,
        sum_ns: 0,
        max_ns: 0,
        histogram: Histogram::default(),
    };
    let then = then
        .iter()
        .find(|of| of.cause == next.cause)
        .unwrap_or(&none);
    let place = sum.iter().position(|of| of.cause == next.cause);
    let place = place.unwrap_or_else(|| {
        sum.push(none.clone());
        sum.len() - 1
    });
    let of = &mut sum[place];
    of.count += next.count - then.count;
    of.sum_ns += next.sum_ns - then.sum_ns;
    of.max_ns = of.max_ns.max(next.max_ns);
    of.histogram.add(&next.histogram.since(&then.histogram));
}
