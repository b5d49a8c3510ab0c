//! What a process took, by the kernel's own account.

use std::{
    fs, io, mem,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// From its start to its end.
    pub(super) wall: Duration,
    /// CPU time, user and system.
    pub(super) cpu: Duration,
    /// The most memory it held at a time, in bytes.
    pub(super) peak_bytes: u64,
}

/// Runs `command` to its end, which must be a success.
pub(super) fn of(command: &mut Command) -> Result<Usage> {
    let began = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let (status, usage) = wait(&child).with_context(|| format!("cannot wait for {command:?}"))?;
    let wall = began.elapsed();
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "{command:?} failed"
    );
    let peak_bytes = u64::try_from(usage.ru_maxrss)? * 1024;
    // Before it became another program, the process had this one's memory, which counts (`exec_mmap` in `fs/exec.c`).
    let own = own_peak_bytes()?;
    ensure!(
        peak_bytes > own,
        "{command:?} never held more than the {own} bytes that this process does, so what it held is not known"
    );
    Ok(Usage {
        wall,
        cpu: duration(usage.ru_utime)? + duration(usage.ru_stime)?,
        peak_bytes,
    })
}

/// Waits for `child`, which nothing else does.
fn wait(child: &Child) -> io::Result<(libc::c_int, libc::rusage)> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: integers only, for which zero is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: both places are valid to write to while the call lasts.
    if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } == pid {
        Ok((status, usage))
    } else {
        Err(io::Error::last_os_error())
    }
}

fn duration(time: libc::timeval) -> Result<Duration> {
    Ok(Duration::from_secs(u64::try_from(time.tv_sec)?)
        + Duration::from_micros(u64::try_from(time.tv_usec)?))
}

/// The most memory this process held at a time.
fn own_peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    peak_of_status(&status).context("/proc/self/status has no VmHWM")
}

fn peak_of_status(status: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_status_file() {
        let status = "Name:\tcat\nVmHWM:\t    1536 kB\nVmRSS:\t     512 kB\n";
        assert_eq!(peak_of_status(status), Some(1_572_864));
        assert_eq!(peak_of_status("Name:\tcat\n"), None);
    }

    #[test]
    fn a_process_that_fails_is_told() {
        assert!(of(Command::new("sh").args(["-c", "exit 3"])).is_err());
    }
}
