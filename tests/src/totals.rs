//! What must hold of all snapshots of a run, whatever was changed meanwhile.

use std::collections::BTreeMap;

use smi_user::model::Snapshot;

/// What of each CPU may only grow.
fn growing(snapshot: &Snapshot) -> BTreeMap<u32, Vec<u64>> {
    snapshot
        .cpus
        .iter()
        .map(|cpu| {
            let buckets = cpu.histogram.counts().iter().copied();
            let smis = cpu.smis.unwrap_or_default();
            let counts = [
                cpu.exposure_ns,
                cpu.windows.scheduled,
                cpu.windows.run,
                cpu.stretches.steps,
                cpu.gaps.count,
                cpu.gaps.sum_ns,
                cpu.gaps.max_ns.unwrap_or_default(),
                cpu.records.sent,
                smis.counted,
                smis.sampled.unwrap_or_default(),
                cpu.steal.unwrap_or_default().sampled_ns,
            ];
            (cpu.cpu, counts.into_iter().chain(buckets).collect())
        })
        .collect()
}

/// Every total only grows, every interval is there once, and the single gaps are as many as were counted.
///
/// # Panics
/// When it is otherwise.
#[track_caller]
pub fn nothing_is_lost_or_counted_twice(all: &[Snapshot]) {
    for (earlier, later) in all.iter().zip(&all[1..]) {
        assert_eq!(later.interval, earlier.interval + 1);
        assert!(later.elapsed_ns > earlier.elapsed_ns);
        assert!(!earlier.last);
        let now = growing(later);
        for (cpu, counts) in growing(earlier) {
            let now = now.get(&cpu).unwrap_or_else(|| panic!("CPU {cpu} is gone"));
            let back = counts.iter().zip(now).position(|(then, now)| now < then);
            assert_eq!(
                back, None,
                "CPU {cpu}, interval {}: {counts:?}, then {now:?}",
                later.interval
            );
        }
    }
    let last = all.last().expect("a snapshot");
    assert!(last.last);
    for cpu in &last.cpus {
        assert_eq!(cpu.histogram.total(), cpu.gaps.count, "CPU {}", cpu.cpu);
        let by_cause: u64 = cpu.causes.iter().map(|of| of.count).sum();
        assert_eq!(by_cause, cpu.gaps.count, "CPU {}", cpu.cpu);
        let single: Vec<u64> = all
            .iter()
            .flat_map(|snapshot| &snapshot.gaps)
            .filter(|gap| gap.cpu == cpu.cpu)
            .map(|gap| gap.duration_ns)
            .collect();
        assert_eq!((cpu.records.limited, cpu.records.lost), (0, 0));
        assert_eq!(single.len() as u64, cpu.gaps.count, "CPU {}", cpu.cpu);
        assert_eq!(
            single.iter().sum::<u64>(),
            cpu.gaps.sum_ns,
            "CPU {}",
            cpu.cpu
        );
        assert_eq!(
            single.iter().max().copied(),
            cpu.gaps.max_ns,
            "CPU {}",
            cpu.cpu
        );
    }
}
