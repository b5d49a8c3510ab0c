//! `smilat restore`: put back what a killed run left changed.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::kernel::changes;

/// Runs the command.
///
/// # Errors
/// When a running smilat holds the settings, or they cannot be put back.
pub fn run() -> Result<ExitCode> {
    let (put_back, failures) = changes::restore("smilat restore");
    if put_back.is_empty() && failures.is_empty() {
        println!("nothing to put back");
    }
    for what in put_back {
        println!("{what}");
    }
    if !failures.is_empty() {
        let mut told: Vec<String> = failures
            .into_iter()
            .map(|error| format!("{:#}", anyhow::Error::from(error)))
            .collect();
        // Without the privilege, all areas say the same.
        told.dedup();
        bail!("{}", told.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}
