//! How long idle CPUs may take to wake up (`/dev/cpu_dma_latency`, `Documentation/power/pm_qos_interface.rst`).
//!
//! A limit holds for as long as the file is open: the kernel lifts it when the process that set it ends, however it ends,
//! so nothing has to be put back. Of several limits the lowest counts.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

const PATH: &str = "/dev/cpu_dma_latency";

/// The longest limit that means something: no idle state takes nearly as long to wake up from.
pub const MAX: Duration = Duration::from_secs(1);

/// Why there is no limit.
#[derive(Debug, Error)]
#[error(
    "cannot limit the latency of idle CPUs to {us} us: {what} {path} failed; {}, or leave out --dma-latency",
    remedy(.source)
)]
pub struct DmaLatencyError {
    /// What was tried.
    what: &'static str,
    /// The file.
    path: PathBuf,
    /// The limit asked for, in us.
    us: i32,
    /// What the system said.
    source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "it takes a kernel with CONFIG_CPU_IDLE=y, and devtmpfs at /dev"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "run it as root, for example with sudo, and outside containers"
        }
        _ => "see the kernel's log",
    }
}

/// A limit in force. Dropping it lifts it.
#[derive(Debug)]
pub struct DmaLatency {
    file: File,
    us: i32,
}

impl DmaLatency {
    /// Keeps all CPUs out of idle states that take longer than `limit` to wake up from, in whole us up to [`MAX`]; with
    /// 0 they do not sleep at all.
    ///
    /// # Errors
    /// When the kernel has no such file, or refuses.
    pub fn hold(limit: Duration) -> Result<Self, DmaLatencyError> {
        Self::hold_in(Path::new(PATH), limit)
    }

    fn hold_in(path: &Path, limit: Duration) -> Result<Self, DmaLatencyError> {
        let us = i32::try_from(limit.min(MAX).as_micros()).unwrap_or(i32::MAX);
        let failed = |what| {
            move |source| DmaLatencyError {
                what,
                path: path.to_owned(),
                us,
                source,
            }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("opening"))?;
        // Four bytes are an s32 of the machine's byte order; any other number of them would be taken for text
        // (`cpu_latency_qos_write` in `kernel/power/qos.c`).
        file.write_all(&us.to_ne_bytes())
            .map_err(failed("writing to"))?;
        Ok(Self { file, us })
    }

    /// The limit asked for, in us.
    pub fn us(&self) -> i32 {
        self.us
    }

    /// The limit in force, in us: lower than [`Self::us`] where another process asked for less.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn in_force_us(&self) -> io::Result<i32> {
        let mut bytes = [0; 4];
        (&self.file).read_exact(&mut bytes)?;
        Ok(i32::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_limit_is_written_as_four_bytes() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let held = DmaLatency::hold_in(file.path(), Duration::from_micros(258)).expect("held");
        assert_eq!(held.us(), 258);
        let written = fs::read(file.path()).expect("read");
        assert_eq!(written, 258i32.to_ne_bytes());
    }

    #[test]
    fn a_refusal_names_the_file_the_value_and_what_would_help() {
        let dir = tempfile::tempdir().expect("a folder");
        let absent = dir.path().join("cpu_dma_latency");
        let error = DmaLatency::hold_in(&absent, Duration::from_micros(7)).expect_err("absent");
        let told = error.to_string();
        for part in ["7 us", &absent.display().to_string(), "CONFIG_CPU_IDLE=y"] {
            assert!(told.contains(part), "{told}");
        }
        // Takes no bytes, whoever writes them.
        let full = DmaLatency::hold_in(Path::new("/dev/full"), Duration::ZERO).expect_err("full");
        assert!(full.to_string().contains("writing to /dev/full"), "{full}");
        assert!(remedy(&io::Error::from_raw_os_error(libc::EACCES)).contains("as root"));
    }
}
