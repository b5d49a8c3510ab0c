//! I/O ports, by `/dev/port` (`mem(4)`): the byte at a port's number is the port.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
};

use thiserror::Error;

/// The file.
pub const PATH: &str = "/dev/port";

/// Why a port could not be written.
#[derive(Debug, Error)]
pub enum PortError {
    /// The file could not be opened.
    #[error("cannot open {PATH} for writing")]
    Open(#[source] io::Error),
    /// The write was refused.
    #[error("cannot write {value:#04x} to I/O port {port:#x}")]
    Write {
        /// The port.
        port: u16,
        /// The byte.
        value: u8,
        /// What the system said.
        source: io::Error,
    },
}

/// All ports, open for writing.
#[derive(Debug)]
pub struct Ports(File);

impl Ports {
    /// Opens them; nothing is written by that.
    ///
    /// # Errors
    /// `ENOENT` where the kernel has no such file, `EPERM` without `CAP_SYS_RAWIO` or when the kernel is locked down.
    pub fn open() -> Result<Self, PortError> {
        OpenOptions::new()
            .write(true)
            .open(PATH)
            .map(Self)
            .map_err(PortError::Open)
    }

    /// Has the CPU this thread runs on write one byte.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn write(&self, port: u16, value: u8) -> Result<(), PortError> {
        self.0
            .write_all_at(&[value], port.into())
            .map_err(|source| PortError::Write {
                port,
                value,
                source,
            })
    }
}
