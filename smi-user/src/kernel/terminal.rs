//! The terminal as the kernel sees it, where a library would wait for it or does not care (`termios(3)`, `signal(7)`).

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    thread,
    time::{Duration, Instant},
};

/// The standard output of this process, opened anew: its own flags do not become those of others that share it.
const OUTPUT: &str = "/proc/self/fd/1";

/// How long a terminal that takes nothing is waited for before what it has not taken is thrown away.
const PATIENCE: Duration = Duration::from_millis(500);

/// Writes `bytes` to the terminal that is the standard output, even where it takes nothing at the moment: after half a
/// second what was written to it and not yet taken is thrown away.
///
/// # Errors
/// When it cannot be opened, or takes nothing even then.
pub fn write_at_once(bytes: &[u8]) -> io::Result<()> {
    let mut terminal = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(OUTPUT)?;
    let began = Instant::now();
    let mut thrown_away = false;
    loop {
        match terminal.write_all(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        if began.elapsed() > PATIENCE {
            if thrown_away {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // SAFETY: takes a descriptor that is open and an integer.
            if unsafe { libc::tcflush(terminal.as_raw_fd(), libc::TCOFLUSH) } != 0 {
                return Err(io::Error::last_os_error());
            }
            thrown_away = true;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Stops this process as Ctrl-Z would; returns when it is continued.
pub fn stop_this_process() {
    // SAFETY: takes an integer. SIGSTOP rather than SIGTSTP, which this process may have a handler for. `raise` rather
    // than `kill`: sent to this thread, it takes effect before this returns, while another thread might be the one that
    // takes a signal to the process, and this one go on for a while.
    unsafe { libc::raise(libc::SIGSTOP) };
}
