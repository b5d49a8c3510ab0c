//! `smilat doctor`: what this machine offers, what is missing, and what would help.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use crate::{cli::DoctorArgs, doctor, report};

/// Exit status when no detector can run.
const CANNOT_RUN: u8 = 2;

/// Runs the command.
///
/// # Errors
/// When the outcome cannot be written.
pub fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let examination = doctor::examine();
    let text = if args.json {
        let mut json = serde_json::to_string_pretty(&examination)?;
        json.push('\n');
        json
    } else {
        report::doctor::text(&examination, args.all)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough, as `head` has.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to standard output")?,
    }
    Ok(if examination.can_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CANNOT_RUN)
    })
}
