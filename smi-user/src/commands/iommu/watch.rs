//! Stub.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::WatchArgs;

/// Runs it.
///
/// # Errors
/// When it could not run.
pub(super) fn run(args: &WatchArgs) -> Result<ExitCode> {
    bail!("not there yet: {args:?}")
}
