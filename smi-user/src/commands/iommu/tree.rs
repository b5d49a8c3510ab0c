//! Stub.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::TreeArgs;

/// Runs it.
///
/// # Errors
/// When it could not run.
pub(super) fn run(args: &TreeArgs) -> Result<ExitCode> {
    bail!("not there yet: {args:?}")
}
