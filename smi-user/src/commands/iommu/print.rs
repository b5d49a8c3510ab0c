//! Prints an outcome as a whole.

use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One JSON object, and the end of its line.
pub(super) fn json(outcome: &impl Serialize) -> Result<String> {
    let mut json = serde_json::to_string_pretty(outcome)?;
    json.push('\n');
    Ok(json)
}

/// Writes it to standard output.
pub(super) fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough, as `head` has.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
