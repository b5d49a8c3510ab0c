//! The recording of a run.

use std::{fs::File, io, os::fd::AsFd as _};

use anyhow::{Result, bail};
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
/// When it cannot be recorded to, or the reports would be written into the same file, or one that is put aside from it.
pub(super) fn claim(args: &RunArgs) -> Result<Option<Claim>> {
    let Some(file) = &args.record else {
        return Ok(None);
    };
    let claim = Claim::take(file)?;
    let (same, reports) = if let Some(output) = &args.output {
        let name = format!("--output {}", output.display());
        (claim.includes(output), name)
    } else {
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        let found = stdout.and_then(|stdout| File::from(stdout).metadata());
        // One that is closed is no file of the recording.
        let same = found.is_ok_and(|found| claim.is_one(&found));
        (same, "standard output".to_owned())
    };
    if same {
        bail!(
            "{reports} is --record {} itself, or a file that is put aside from it: the reports would destroy the recording; \
             write them to another file",
            file.display()
        );
    }
    Ok(Some(claim))
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
