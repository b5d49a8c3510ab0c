//! Lines of a recording for tests.

use jiff::Timestamp;

use crate::{
    model::{
        Attribution, DetectorInfo, GapKind, Header, Machine, OwnCost, Proof, SCHEMA_VERSION,
        Snapshot,
    },
    report::Ndjson,
    settings::Mode,
};

/// When the run began.
pub(super) fn started() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

/// The header of a run's first file.
pub(super) fn first_header() -> Header {
    Header {
        schema_version: SCHEMA_VERSION,
        smilat: "0.1.0".into(),
        started: started(),
        part: 1,
        interval_ns: 1_000_000_000,
        hardlimit_ns: None,
        machine: Machine::default(),
    }
}

/// The line of a file's header.
pub(super) fn header(part: u64) -> Vec<u8> {
    let header = Header {
        part,
        ..first_header()
    };
    let json = serde_json::to_string(&header).expect("json");
    format!("{{\"recording\":{json}}}\n").into()
}

/// An interval's snapshot.
pub(crate) fn snapshot(interval: u64) -> Snapshot {
    Snapshot {
        schema_version: SCHEMA_VERSION,
        time: started(),
        elapsed_ns: interval * 1_000_000_000,
        interval,
        last: false,
        detector: DetectorInfo {
            name: "spin".into(),
            gap_kind: GapKind::Gap,
            threshold_ns: 10_000,
            width_ns: 1_000_000,
            window_ns: 100_000_000,
            irqs_off_max_ns: 1_000_000,
            mode: Mode::RoundRobin,
            cpus: "0-1".into(),
            step_ns: 25.0,
            noise_floor_ns: 168,
        },
        attribution: Attribution {
            smi: Proof::None,
            nmi: Proof::Gap,
            steal: Proof::None,
            counter: None,
        },
        own_cost: OwnCost::default(),
        cpus: Vec::new(),
        gaps: Vec::new(),
        gaps_dropped: 0,
        recording_lost: None,
    }
}

/// Its line.
pub(super) fn line(interval: u64) -> Vec<u8> {
    Ndjson::line(&snapshot(interval)).to_vec()
}
