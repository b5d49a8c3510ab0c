//! Stub.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::LiveArgs;

/// Runs it.
///
/// # Errors
/// When it could not run.
pub(super) fn run(args: &LiveArgs) -> Result<ExitCode> {
    bail!("not there yet: {args:?}")
}
