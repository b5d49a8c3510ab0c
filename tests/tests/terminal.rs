//! `smilat top` in terminals that are not as they should be: full, mute, another user's, gone. They are the tests' own, so
//! that what is written to them is seen byte by byte.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tests::{
    killed::Killed,
    knobs::LoadedKnobs,
    made_up,
    pty::{ASKS_CURSOR, ENTERS_SCREEN, LEAVES_SCREEN, Pty, SHOWS_CURSOR},
    smilat, wait_until,
};

/// A recording of some seconds, and where it is.
fn recording() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recording");
    let gaps: &[made_up::Made] = &[(0, 20_000, false), (1, 50_000, true)];
    made_up::write(&path, None, &made_up::snapshots(2, &[gaps; 5]));
    (folder, path)
}

/// A program in a terminal.
struct Running(Killed);

impl Running {
    fn start(pty: &Pty, command: &mut Command) -> Self {
        pty.of(command);
        Self(Killed::start(command))
    }

    /// `smilat top RECORDING`, as far as its first picture.
    #[track_caller]
    fn play(pty: &mut Pty, recording: &Path) -> Self {
        let running = Self::start(pty, smilat().arg("top").arg(recording));
        pty.wait_for("CPUs by max");
        running
    }

    fn send(&self, signal: i32) {
        self.0.signal(signal);
    }

    /// Waits for the end; returns the exit status and what was told on standard error.
    #[track_caller]
    fn end(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        wait_until("the end", || {
            status = self.0.try_wait().expect("a status");
            status.is_some()
        });
        let mut told = String::new();
        let mut stderr = self.0.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut told).expect("text");
        (status.and_then(|status| status.code()), told)
    }
}

/// Whether a thread of the process waits in write(2).
fn waits_in_write(pid: u32) -> bool {
    const WRITE: &str = "1 ";
    fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads")
        .flatten()
        .any(|thread| {
            let call = fs::read_to_string(thread.path().join("syscall"));
            call.is_ok_and(|call| call.starts_with(WRITE))
        })
}

/// It reads keys ten times a second, if it does not wait for the terminal to take a picture.
#[track_caller]
fn wait_until_it_draws_in_vain(pty: &mut Pty) {
    wait_until("keys that nobody reads", || {
        pty.press("?");
        thread::sleep(Duration::from_millis(500));
        pty.typed() > 0
    });
}

#[test]
fn a_full_terminal_is_given_back() {
    let (_folder, recording) = recording();
    let mut pty = Pty::new(250, 100);
    let before = pty.modes();
    let mut child = Running::play(&mut pty, &recording);
    assert_ne!(pty.modes(), before);
    pty.fill();
    wait_until_it_draws_in_vain(&mut pty);
    for _ in 0..100 {
        assert!(
            !waits_in_write(child.0.id()),
            "a thread has the terminal's lock"
        );
        thread::yield_now();
    }
    child.send(libc::SIGTERM);
    let (status, told) = child.end();
    assert_eq!(status, Some(0), "{told}");
    assert_eq!(pty.modes(), before);
    pty.wait_for(LEAVES_SCREEN);
    pty.wait_for(SHOWS_CURSOR);
}

#[test]
fn a_full_terminal_is_given_back_after_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("panic");
    let mut pty = Pty::new(80, 24);
    let before = pty.modes();
    let mut command = Command::new(env!("CARGO_BIN_EXE_panicking_screen"));
    command.arg("collecting").arg(&file);
    let mut child = Running::start(&pty, command.env("RUST_BACKTRACE", "0"));
    // Only what is no space is written.
    pty.wait_for("screen");
    pty.fill();
    // It draws ten times a second.
    thread::sleep(Duration::from_millis(300));
    fs::write(&file, "").expect("written");
    let (status, told) = child.end();
    assert_eq!(status, Some(101), "{told}");
    assert!(told.contains("made to panic while collecting"), "{told}");
    assert_eq!(pty.modes(), before);
    pty.wait_for(LEAVES_SCREEN);
    pty.wait_for(SHOWS_CURSOR);
}

#[test]
fn a_terminal_that_answers_nothing_is_drawn_anew_when_the_process_is_continued() {
    let (_folder, recording) = recording();
    let mut pty = Pty::new(100, 24);
    let mut child = Running::play(&mut pty, &recording);
    pty.forget();
    child.send(libc::SIGCONT);
    pty.wait_for(ENTERS_SCREEN);
    pty.wait_for("CPUs by max");
    assert!(!pty.text().contains(ASKS_CURSOR));
    // It reads keys, and writes what they change.
    pty.forget();
    pty.press("t");
    pty.wait_for("longest");
    pty.press("q");
    let (status, told) = child.end();
    assert_eq!(status, Some(0), "{told}");
}

#[test]
fn a_terminal_that_is_gone_ends_it_even_without_a_signal() {
    let (_folder, recording) = recording();
    let mut pty = Pty::new(100, 24);
    let mut child = Running::play(&mut pty, &recording);
    // Then nothing has to be drawn that would tell it.
    pty.press(" ");
    pty.wait_for("aused");
    pty.hang_up();
    let (status, told) = child.end();
    assert_eq!(status, Some(2), "{told}");
    assert!(told.contains("hung up"), "{told}");
}

#[test]
fn another_users_terminal_is_used_though_it_cannot_be_opened() {
    const NOBODY: u32 = 65_534;
    let (folder, recording) = recording();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    for is_controlling in [false, true] {
        let mut pty = Pty::new(100, 24);
        let before = pty.modes();
        let mut command = smilat();
        command.arg("top").arg(&recording).uid(NOBODY).gid(NOBODY);
        // SAFETY: both are system calls that may be made after a fork.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                if is_controlling {
                    libc::ioctl(0, libc::TIOCSCTTY, 0);
                }
                Ok(())
            });
        }
        let mut child = Running::start(&pty, &mut command);
        pty.wait_for("CPUs by max");
        pty.press("q");
        let (status, told) = child.end();
        assert_eq!(status, Some(0), "controlling: {is_controlling}: {told}");
        pty.wait_for(LEAVES_SCREEN);
        pty.wait_for(SHOWS_CURSOR);
        assert_eq!(pty.modes(), before);
    }
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_neither_the_counting_nor_the_end() {
    let mut pty = Pty::new(250, 100);
    let before = pty.modes();
    let mut child = Running::start(
        &pty,
        smilat().args(["top", "--interval=50ms", "--threshold=9111ns"]),
    );
    pty.wait_for(" by max");
    pty.fill();
    wait_until_it_draws_in_vain(&mut pty);
    let knobs = LoadedKnobs::with_threshold(9_111);
    let began = knobs.interval();
    wait_until("further intervals", || knobs.interval() > began + 20);
    assert!(pty.is_full(), "it takes something");
    child.send(libc::SIGTERM);
    let (status, told) = child.end();
    // The summary may or may not have had room; what must not be is a process that stays.
    assert!(matches!(status, Some(0 | 2)), "{told}");
    assert_eq!(pty.modes(), before);
    pty.wait_for(LEAVES_SCREEN);
    pty.wait_for(SHOWS_CURSOR);
}
