//! Keeps two smilats from watching the same CPUs: they would see each other's ticks, and count everything twice.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::kernel::cpus::CpuList;

/// CPUs could not be claimed.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Another watches one of them.
    #[error(
        "CPU {cpu} is watched by {holder} already; end that one, or watch other CPUs with --cpus"
    )]
    Held {
        /// Which.
        cpu: u32,
        /// By whom, in words.
        holder: String,
    },
    /// A lock cannot be had.
    #[error(
        "cannot lock {path}, by which no two smilats watch the same CPU; run it as root, or let it write to that folder"
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Locks, one for each CPU; the kernel lets go of them when this process ends, however it does.
#[derive(Debug)]
pub struct Claim {
    _locks: Vec<File>,
}

impl Claim {
    /// Claims `cpus` by files in `folder`.
    ///
    /// # Errors
    /// When another process has one of them, or the folder cannot be written to.
    pub fn take(folder: &Path, cpus: &CpuList) -> Result<Self, ClaimError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ClaimError::Lock { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let mut locks = Vec::new();
        for cpu in cpus.iter() {
            let path = folder.join(format!("irqsoff-cpu{cpu}.lock"));
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = holder(&mut file);
                    return Err(ClaimError::Held { cpu, holder });
                }
                Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
            }
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()))
                .map_err(failed(&path))?;
            locks.push(file);
        }
        Ok(Self { _locks: locks })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "another smilat".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_claimed_once_and_told_by_whom() {
        let folder = tempfile::tempdir().expect("a folder");
        let cpus = |list: &str| list.parse().expect(list);
        let first = Claim::take(folder.path(), &cpus("0-1")).expect("free");
        let other = Claim::take(folder.path(), &cpus("2")).expect("free");
        let error = Claim::take(folder.path(), &cpus("1-2")).expect_err("held");
        assert!(
            error.to_string().contains(&format!(
                "CPU 1 is watched by process {}",
                std::process::id()
            )),
            "{error}"
        );
        drop((first, other));
        let _again = Claim::take(folder.path(), &cpus("0-2")).expect("free again");
    }
}
