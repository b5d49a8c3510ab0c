//! Which start of the machine this is.

use std::{fs, io};

use thiserror::Error;

const FILE: &str = "/proc/sys/kernel/random/boot_id";

/// It could not be told.
#[derive(Debug, Error)]
#[error("cannot read {FILE}")]
pub struct BootError(#[from] io::Error);

/// A text that no other start of this machine or of another has.
///
/// # Errors
/// When the kernel does not show it.
pub fn id() -> Result<String, BootError> {
    Ok(fs::read_to_string(FILE)?.trim().to_owned())
}
