//! Model-specific registers, by the files of the `msr` module (`/dev/cpu/N/msr`, `msr(4)`).

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

use thiserror::Error;

/// Why a register could not be read.
#[derive(Debug, Error)]
pub enum MsrError {
    /// The file could not be opened.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// `ENOENT` without the module, `EPERM` without `CAP_SYS_RAWIO`, `ENXIO` when the CPU is offline.
        source: io::Error,
    },
    /// The register could not be read.
    #[error("cannot read MSR {register:#x} from {path}")]
    Read {
        /// The register.
        register: u32,
        /// The file.
        path: PathBuf,
        /// `EIO` where the CPU has no such register, `ENXIO` once it has gone offline.
        source: io::Error,
    },
}

impl MsrError {
    /// The system's error number.
    pub fn errno(&self) -> Option<i32> {
        let (Self::Open { source, .. } | Self::Read { source, .. }) = self;
        source.raw_os_error()
    }
}

/// The registers of one CPU.
#[derive(Debug)]
pub struct Msr {
    path: PathBuf,
    file: File,
}

impl Msr {
    /// Opens those of `cpu`.
    ///
    /// # Errors
    /// See [`MsrError::Open`].
    pub fn open(cpu: u32) -> Result<Self, MsrError> {
        let path = PathBuf::from(format!("/dev/cpu/{cpu}/msr"));
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(MsrError::Open { path, source }),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// See [`MsrError::Read`].
    pub fn read(&self, register: u32) -> Result<u64, MsrError> {
        let mut value = [0; 8];
        self.file
            .read_exact_at(&mut value, register.into())
            .map_err(|source| MsrError::Read {
                register,
                path: self.path.clone(),
                source,
            })?;
        Ok(u64::from_le_bytes(value))
    }
}
