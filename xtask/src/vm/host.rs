//! What a guest asks of its host, by a line on its console (`tests/src/guest/host.rs`).
//!
//! `HOST stop N ms` has all of QEMU stopped for N milliseconds: its CPUs stand still, and their TSC, which is the host's,
//! goes on. (QMP's `stop` would stop the guest's clocks too.) When that is over, the guest reads `HOST continued` from its
//! console.

use std::{
    io::{self, Write},
    mem,
    process::Child,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// Does what a line of the console asks for, if it asks for anything, and answers to `answers`.
pub(super) fn serve(line: &str, qemu: &Child, answers: &mut impl Write) -> Result<()> {
    let Some(length) = stop_asked(line) else {
        return Ok(());
    };
    while_stopped(qemu, || thread::sleep(length))?;
    writeln!(answers, "HOST continued").context("QEMU takes no answer for its guest")
}

fn stop_asked(line: &str) -> Option<Duration> {
    let milliseconds = line.strip_prefix("HOST stop ")?.strip_suffix(" ms")?;
    milliseconds.parse().ok().map(Duration::from_millis)
}

/// Does `meanwhile` while every thread of `child` stands still.
fn while_stopped<T>(child: &Child, meanwhile: impl FnOnce() -> T) -> Result<T> {
    let stopped = Stopped::stop(child)?;
    let result = meanwhile();
    drop(stopped);
    Ok(result)
}

/// A process that goes on when this is dropped.
struct Stopped(libc::pid_t);

impl Stopped {
    fn stop(child: &Child) -> Result<Self> {
        let pid = libc::pid_t::try_from(child.id())?;
        signal(pid, libc::SIGSTOP).context("cannot stop QEMU")?;
        let stopped = Self(pid);
        // Threads stop one by one; the parent is told when the last has (`do_signal_stop` in `kernel/signal.c`).
        let code = next_change(child.id()).context("cannot wait for QEMU")?;
        ensure!(code == libc::CLD_STOPPED, "QEMU ended before it stopped");
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It fails only when there is no such process any more.
        let _continued = signal(self.0, libc::SIGCONT);
    }
}

fn signal(pid: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the child was not waited for, so the number is still its own.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits until a child has stopped or ended, and says which (`si_code` of `SIGCHLD`). Leaves it to be waited for.
fn next_change(pid: u32) -> io::Result<libc::c_int> {
    let options = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
    // SAFETY: all zeros are a valid value of this plain structure.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    match unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, options) } {
        0 => Ok(info.si_code),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, panic, process::Command};

    #[test]
    fn only_whole_requests_are_served() {
        let ms = |line| stop_asked(line).map(|length| length.as_millis());
        assert_eq!(ms("HOST stop 50 ms"), Some(50));
        for line in [
            "HOST continued",
            "HOST stop 50",
            "HOST stop x ms",
            "    HOST stop 50 ms",
        ] {
            assert_eq!(ms(line), None, "{line}");
        }
    }

    /// Whether it is stopped by a signal (`proc_pid_stat(5)`).
    fn is_stopped(child: &Child) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("a process");
        stat.rsplit_once(") ").expect("a name").1.starts_with('T')
    }

    #[test]
    fn a_process_stands_still_meanwhile_and_goes_on_whatever_happens() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep(1)");
        for _ in 0..2 {
            assert!(!is_stopped(&child));
            assert!(while_stopped(&child, || is_stopped(&child)).expect("stopped"));
        }
        let panicked = panic::catch_unwind(|| while_stopped(&child, || panic!("on purpose")));
        assert!(panicked.is_err() && !is_stopped(&child));
        let mut answers = Vec::new();
        serve("noise", &child, &mut answers).expect("nothing to do");
        assert!(answers.is_empty());
        serve("HOST stop 1 ms", &child, &mut answers).expect("stopped");
        assert_eq!(answers, b"HOST continued\n");
        child.kill().expect("a child");
        // Whether it has died yet or not.
        while_stopped(&child, || ()).expect_err("it ended");
        child.wait().expect("a child");
    }
}
