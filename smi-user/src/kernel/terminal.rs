//! The terminal as the kernel sees it, where a library would wait for it or does not care (`termios(3)`, `signal(7)`).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, RawFd},
        unix::fs::OpenOptionsExt as _,
    },
    thread,
    time::{Duration, Instant},
};

/// The standard output of this process, opened anew: its own flags do not become those of others that share it.
const OUTPUT: &str = "/proc/self/fd/1";

/// The controlling terminal, which every process may open that has it (`tty(4)`).
const CONTROLLING: &str = "/dev/tty";

/// How long a terminal that takes nothing is waited for before what it has not taken is thrown away.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest wait within the kernel.
const WAIT: Duration = Duration::from_millis(100);

/// Where a terminal could take something and yet does not, because another process is writing.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes to the terminal that is the standard output, and never waits within `write(2)`: a thread that does has the
/// terminal's lock, and no other can write or be heard meanwhile (`atomic_write_lock` in `drivers/tty/tty_io.c`).
#[derive(Debug)]
pub struct Writer {
    file: File,
    /// Bytes that are written in one go.
    piece: usize,
}

impl Writer {
    /// # Errors
    /// When there is no standard output.
    pub fn open() -> io::Result<Self> {
        let anew = |path| {
            OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path)
        };
        // Under `su` and `sudo -u` the terminal is another user's: it may be written to, but not opened.
        let file = anew(OUTPUT).or_else(|error| {
            if is_controlling(libc::STDOUT_FILENO) {
                anew(CONTROLLING)
            } else {
                Err(error)
            }
        });
        Ok(match file {
            Ok(file) => Self {
                file,
                piece: usize::MAX,
            },
            // Shared, so its flags stay as they are. A terminal that has room takes one byte without waiting.
            Err(_) => Self {
                file: File::from(io::stdout().as_fd().try_clone_to_owned()?),
                piece: 1,
            },
        })
    }

    /// Writes `bytes`, and says how many were taken: fewer where the terminal took none for a tenth of a second.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            if ready(self.file.as_raw_fd(), libc::POLLOUT, WAIT)? == 0 {
                break;
            }
            let end = written.saturating_add(self.piece).min(bytes.len());
            match (&self.file).write(&bytes[written..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => written += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(PAUSE);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Writes `bytes` even where the terminal takes nothing at the moment: after half a second what was written to it and
    /// not yet taken is thrown away.
    ///
    /// # Errors
    /// When the terminal is gone, or takes nothing even then.
    pub fn write_at_once(&self, bytes: &[u8]) -> io::Result<()> {
        if self.write_for(bytes, PATIENCE)? {
            return Ok(());
        }
        // Where the terminal is others', it is not for this process to throw away what they wrote.
        if in_foreground() {
            // SAFETY: takes a descriptor that is open and an integer.
            if unsafe { libc::tcflush(self.file.as_raw_fd(), libc::TCOFLUSH) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // From the beginning: the first half may have been thrown away.
            if self.write_for(bytes, PATIENCE)? {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Whether all of `bytes` was taken within `patience`.
    fn write_for(&self, bytes: &[u8], patience: Duration) -> io::Result<bool> {
        let began = Instant::now();
        let mut written = 0;
        loop {
            written += self.write(&bytes[written..])?;
            if written == bytes.len() {
                return Ok(true);
            }
            if began.elapsed() > patience {
                return Ok(false);
            }
        }
    }
}

/// Waits until there is something to read from the terminal that is the standard input; false when nothing came for
/// `patience`, or a signal did.
///
/// # Errors
/// When the terminal is gone.
pub fn wait_for_input(patience: Duration) -> io::Result<bool> {
    const GONE: libc::c_short = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    let events = ready(libc::STDIN_FILENO, libc::POLLIN, patience)?;
    if events & GONE != 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "the terminal hung up",
        ));
    }
    Ok(events != 0)
}

/// What of `events`, or of what is always told, comes within `patience`; nothing when a signal does.
fn ready(fd: RawFd, events: libc::c_short, patience: Duration) -> io::Result<libc::c_short> {
    let mut asked = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is to one live structure.
    if unsafe { libc::poll(&raw mut asked, 1, patience) } >= 0 {
        return Ok(asked.revents);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        error => Err(error),
    }
}

/// Whether the terminal is this process's to use: a shell with job control gives it to one job at a time, and stops one
/// that sets up the terminal while it is another's (`setpgid(2)`, `tcsetattr(3)`).
pub fn in_foreground() -> bool {
    // SAFETY: take an integer, or nothing.
    let (owner, own) = unsafe { (libc::tcgetpgrp(libc::STDIN_FILENO), libc::getpgrp()) };
    // An error: it is not the controlling terminal, which no shell hands out.
    owner <= 0 || owner == own
}

/// Whether `fd` is this process's controlling terminal.
fn is_controlling(fd: RawFd) -> bool {
    // SAFETY: takes an integer.
    unsafe { libc::tcgetsid(fd) >= 0 }
}

/// Stops this process as Ctrl-Z would; returns when it is continued.
pub fn stop_this_process() {
    // SAFETY: takes an integer. SIGSTOP rather than SIGTSTP, which this process may have a handler for. `raise` rather
    // than `kill`: sent to this thread, it takes effect before this returns, while another thread might be the one that
    // takes a signal to the process, and this one go on for a while.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Has these signals do again what they do by default.
pub fn release_signals(signals: &[i32]) {
    for signal in signals {
        // SAFETY: the default action runs none of this program's code.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
}
