//! `smilat restore`: put back what a killed run left changed.

use std::process::ExitCode;

use anyhow::Result;

use crate::kernel::changes::Changes;

/// Runs the command.
///
/// # Errors
/// When a running smilat holds the settings, or they cannot be put back.
pub fn run() -> Result<ExitCode> {
    let (_changes, put_back) = Changes::begin("smilat restore")?;
    if put_back.is_empty() {
        println!("nothing to put back");
    }
    for what in put_back {
        println!("{what}");
    }
    Ok(ExitCode::SUCCESS)
}
