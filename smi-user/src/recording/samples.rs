//! Lines of a recording for tests.

use crate::{made_up, model::Header, report::Ndjson};

/// The line of a file's header.
pub(super) fn header(part: u64) -> Vec<u8> {
    let header = Header {
        part,
        ..made_up::header()
    };
    let json = serde_json::to_string(&header).expect("json");
    format!("{{\"recording\":{json}}}\n").into()
}

/// An interval's line.
pub(super) fn line(interval: u64) -> Vec<u8> {
    Ndjson::line(&made_up::snapshot(interval)).to_vec()
}
