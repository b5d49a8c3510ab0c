//! The recording of a run.

use anyhow::Result;
use jiff::Timestamp;

use crate::{
    cli::RunArgs,
    kernel::identity,
    model::{Header, SCHEMA_VERSION},
    recording::{Claim, Recorder, Rotation},
    units::ns,
};

/// Takes hold of the file that `args` name, if they do, and changes nothing in it.
///
/// # Errors
/// When it cannot be recorded to.
pub(super) fn claim(args: &RunArgs) -> Result<Option<Claim>> {
    args.record.as_deref().map(Claim::take).transpose()
}

/// Begins the run in it.
///
/// # Errors
/// When its header cannot be written.
pub(super) fn begin(args: &RunArgs, claim: Claim) -> Result<Recorder> {
    let header = Header {
        schema_version: SCHEMA_VERSION,
        smilat: env!("CARGO_PKG_VERSION").to_owned(),
        started: Timestamp::now(),
        part: 1,
        interval_ns: ns(args.interval),
        hardlimit_ns: args.hardlimit.map(ns),
        machine: identity::machine(),
    };
    let rotation = Rotation {
        size: args.rotate_size,
        keep: args.rotate_keep,
    };
    Recorder::begin(claim, rotation, header)
}
