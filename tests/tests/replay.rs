//! Long recordings made of short ones are what a long run would have written.

use std::fs;

use jiff::SignedDuration;
use smi_user::{
    model::{Header, Machine, SCHEMA_VERSION, Snapshot},
    recording::{Line, Reader},
};
use tempfile::TempDir;
use tests::{replay::replay, snapshots};

#[test]
fn intervals_are_added_over_and_over() {
    // At a threshold this low every machine has gaps.
    let recorded = snapshots(&["--interval=500ms", "--duration=2s", "--threshold=1us"]);
    assert!(recorded.len() >= 3);
    assert!(recorded.iter().any(|snapshot| !snapshot.gaps.is_empty()));
    let header = Header {
        schema_version: SCHEMA_VERSION,
        smilat: "test".to_owned(),
        started: recorded[0].time,
        part: 1,
        interval_ns: 1_000_000_000,
        hardlimit_ns: None,
        machine: Machine::default(),
    };
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("long.ndjson");
    let mut written = Vec::new();
    let second = SignedDuration::from_secs(1);
    replay(Some(&header), &recorded, 50, second, &mut written).expect("written");
    fs::write(&file, written).expect("write");

    let mut reader = Reader::open(&file).expect("opens");
    let mut long: Vec<Snapshot> = Vec::new();
    let mut headers = 0;
    while let Some(line) = reader.next_line().expect("reads") {
        match line {
            Line::Header(read) => {
                assert_eq!(*read, header);
                headers += 1;
            }
            Line::Snapshot(snapshot) => long.push(*snapshot),
            Line::Torn { number, .. } => panic!("line {number} is torn"),
        }
    }
    assert_eq!((headers, long.len()), (1, 50));
    assert_eq!(long[0].cpus, recorded[0].cpus);
    assert!(
        long.iter()
            .zip(1..)
            .all(|(of, number)| of.interval == number)
    );
    assert!(long.iter().rev().skip(1).all(|of| !of.last) && long[49].last);
    for (pair, number) in long.windows(2).zip(0..) {
        let place = number % (recorded.len() - 1);
        let [then, next] = [&recorded[place], &recorded[place + 1]];
        assert_eq!(pair[0].time.duration_until(pair[1].time), second);
        assert_eq!(pair[1].elapsed_ns - pair[0].elapsed_ns, 1_000_000_000);
        for cpu in 0..next.cpus.len() {
            let added = pair[1].cpus[cpu].since(&pair[0].cpus[cpu]);
            assert_eq!(added, next.cpus[cpu].since(&then.cpus[cpu]), "{number}");
            let all = pair[1].cpus[cpu]
                .causes
                .iter()
                .map(|of| of.count)
                .sum::<u64>();
            assert_eq!(all, pair[1].cpus[cpu].gaps.count);
        }
        let durations = |of: &Snapshot| {
            of.gaps
                .iter()
                .map(|gap| gap.duration_ns)
                .collect::<Vec<_>>()
        };
        assert_eq!(durations(&pair[1]), durations(next));
        for (gap, original) in pair[1].gaps.iter().zip(&next.gaps) {
            assert_eq!(
                gap.end_time.duration_until(pair[1].time),
                original.end_time.duration_until(next.time)
            );
        }
    }
}
