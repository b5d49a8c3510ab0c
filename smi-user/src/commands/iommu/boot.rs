//! Stub.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::BootArgs;

/// Runs it.
///
/// # Errors
/// When it could not run.
pub(super) fn run(args: BootArgs) -> Result<ExitCode> {
    bail!("not there yet: {args:?}")
}
