//! A terminal whose other end the test holds: it reads what it wants to, and answers nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::wait_until;

/// See the module.
pub struct Pty {
    /// What a terminal's program has; `None` once it hung up.
    master: Option<File>,
    /// What the program in it has.
    slave: OwnedFd,
    /// All that was read.
    read: Vec<u8>,
}

/// What has a terminal show what was there before.
pub const LEAVES_SCREEN: &str = "\x1b[?1049l";
/// What has a terminal show a program's screen.
pub const ENTERS_SCREEN: &str = "\x1b[?1049h";
/// What has a terminal show the cursor.
pub const SHOWS_CURSOR: &str = "\x1b[?25h";
/// What asks a terminal where the cursor is.
pub const ASKS_CURSOR: &str = "\x1b[6n";

impl Pty {
    /// One of this size.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn new(columns: u16, rows: u16) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the pointers are to live variables, or null where that is allowed (openpty(3)).
        let rc = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut slave,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const size,
            )
        };
        assert_eq!(rc, 0, "openpty");
        for fd in [master, slave] {
            // SAFETY: takes integers. What programs get are duplicates, which stay open.
            let rc = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            assert_eq!(rc, 0, "fcntl");
        }
        // SAFETY: takes integers.
        let rc = unsafe { libc::fcntl(master, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) };
        assert_eq!(rc, 0, "fcntl");
        // SAFETY: both were just opened and belong to nobody else.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        Self {
            master: Some(master),
            slave,
            read: Vec::new(),
        }
    }

    /// Has `command` run in it; standard error goes to a pipe.
    ///
    /// # Panics
    /// When it has no descriptor to spare.
    pub fn of(&self, command: &mut Command) {
        command
            .env("TERM", "xterm")
            .stdin(self.end())
            .stdout(self.end())
            .stderr(Stdio::piped());
    }

    /// What a program in it has.
    ///
    /// # Panics
    /// When it has no descriptor to spare.
    pub fn end(&self) -> Stdio {
        self.slave.try_clone().expect("duplicate").into()
    }

    /// All that was written so far and not thrown away, as far as it arrived.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn text(&mut self) -> String {
        let mut some = [0; 4_096];
        while let Some(master) = &mut self.master {
            match master.read(&mut some) {
                Ok(0) => break,
                Ok(bytes) => self.read.extend(&some[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("the terminal: {error}"),
            }
        }
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Reads until `text` comes.
    ///
    /// # Panics
    /// When that takes more than 20 s.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        wait_until(&format!("{text:?}"), || self.text().contains(text));
    }

    /// Forgets what was read.
    pub fn forget(&mut self) {
        self.text();
        self.read.clear();
    }

    /// Types.
    ///
    /// # Panics
    /// When it hung up.
    pub fn press(&mut self, keys: &str) {
        let master = self.master.as_mut().expect("it did not hang up");
        master.write_all(keys.as_bytes()).expect("typed");
    }

    /// Writes to it until it takes nothing more.
    ///
    /// # Panics
    /// When it takes everything.
    pub fn fill(&self) {
        let path = format!("/proc/self/fd/{}", self.slave.as_raw_fd());
        let mut options = OpenOptions::new();
        let options = options
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let mut slave = options.open(path).expect("the terminal");
        let mut written = 0;
        // The kernel hands it on in the background, which makes room once more.
        for _ in 0..20 {
            while let Ok(bytes) = slave.write(&[b'.'; 256]) {
                written += bytes;
                assert!(written < 1 << 24, "it takes everything");
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(self.is_full());
    }

    /// Bytes that were typed and not yet read.
    ///
    /// # Panics
    /// When it does not tell.
    pub fn typed(&self) -> i32 {
        let mut bytes = 0;
        // SAFETY: the descriptor is open and the pointer is to a live variable.
        let rc = unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        assert_eq!(rc, 0, "FIONREAD");
        bytes
    }

    /// Whether it takes nothing more.
    pub fn is_full(&self) -> bool {
        let mut asked = libc::pollfd {
            fd: self.slave.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: the pointer is to one live structure.
        unsafe { libc::poll(&raw mut asked, 1, 0) == 0 }
    }

    /// Goes away as a terminal whose connection broke.
    pub fn hang_up(&mut self) {
        self.master = None;
    }

    /// Its local and input modes.
    ///
    /// # Panics
    /// When it does not tell.
    pub fn modes(&self) -> (u32, u32) {
        // SAFETY: all zeros are a valid value of this structure of integers.
        let mut modes: libc::termios = unsafe { mem::zeroed() };
        // SAFETY: the descriptor is open and the pointer is to a live variable.
        let rc = unsafe { libc::tcgetattr(self.slave.as_raw_fd(), &raw mut modes) };
        assert_eq!(rc, 0, "tcgetattr");
        (modes.c_lflag, modes.c_iflag)
    }
}
