//! `smilat top` in terminals that are not as they should be: full, mute, another user's, gone. They are the tests' own, so
//! that what is written to them is seen byte by byte.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};

use aya::maps::{Array, Map, MapData, loaded_maps};
use tempfile::TempDir;
use tests::{
    made,
    pty::{ASKS_CURSOR, ENTERS_SCREEN, LEAVES_SCREEN, Pty, SHOWS_CURSOR},
    smilat, stderr, wait_until,
};

/// A recording of some seconds, and where it is.
fn recording() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recording");
    let gaps: &[made::Made] = &[(0, 20_000, false), (1, 50_000, true)];
    made::write(&path, &made::snapshots(2, &[gaps; 5]));
    (folder, path)
}

/// `smilat top RECORDING` in `pty`, as far as its first picture.
fn plays(pty: &mut Pty, recording: &PathBuf) -> Child {
    let mut command = smilat();
    pty.of(command.arg("top").arg(recording));
    let child = command.spawn().expect("smilat starts");
    pty.wait_for("CPUs by max");
    child
}

fn send(child: &Child, signal: i32) {
    let pid = libc::pid_t::try_from(child.id()).expect("a pid");
    // SAFETY: takes two integers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[track_caller]
fn end(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the end", || {
        status = child.try_wait().expect("a status");
        status.is_some()
    });
    status.expect("just seen")
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
    let mut child = plays(&mut pty, &recording);
    assert_ne!(pty.modes(), before);
    pty.fill();
    wait_until_it_draws_in_vain(&mut pty);
    for _ in 0..100 {
        assert!(
            !waits_in_write(child.id()),
            "a thread has the terminal's lock"
        );
        thread::yield_now();
    }
    send(&child, libc::SIGTERM);
    assert_eq!(end(&mut child).code(), Some(0));
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
    pty.of(command
        .arg("collecting")
        .arg(&file)
        .env("RUST_BACKTRACE", "0"));
    let mut child = command.spawn().expect("it starts");
    // Only what is no space is written.
    pty.wait_for("screen");
    pty.fill();
    // It draws ten times a second.
    thread::sleep(Duration::from_millis(300));
    fs::write(&file, "").expect("written");
    assert_eq!(end(&mut child).code(), Some(101));
    let output = child.wait_with_output().expect("output");
    assert!(stderr(&output).contains("made to panic while collecting"));
    assert_eq!(pty.modes(), before);
    pty.wait_for(LEAVES_SCREEN);
    pty.wait_for(SHOWS_CURSOR);
}

#[test]
fn a_terminal_that_answers_nothing_is_drawn_anew_when_the_process_is_continued() {
    let (_folder, recording) = recording();
    let mut pty = Pty::new(100, 24);
    let mut child = plays(&mut pty, &recording);
    pty.forget();
    send(&child, libc::SIGCONT);
    pty.wait_for(ENTERS_SCREEN);
    pty.wait_for("CPUs by max");
    assert!(!pty.text().contains(ASKS_CURSOR));
    // It reads keys, and writes what they change.
    pty.forget();
    pty.press("t");
    pty.wait_for("longest");
    pty.press("q");
    assert_eq!(end(&mut child).code(), Some(0));
}

#[test]
fn a_terminal_that_is_gone_ends_it_even_without_a_signal() {
    let (_folder, recording) = recording();
    let mut pty = Pty::new(100, 24);
    let mut child = plays(&mut pty, &recording);
    // Then nothing has to be drawn that would tell it.
    pty.press(" ");
    pty.wait_for("aused");
    pty.hang_up();
    assert_eq!(end(&mut child).code(), Some(2));
    let output = child.wait_with_output().expect("output");
    assert!(stderr(&output).contains("hung up"), "{}", stderr(&output));
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
        pty.of(command.arg("top").arg(&recording));
        command.uid(NOBODY).gid(NOBODY);
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
        let mut child = command.spawn().expect("smilat starts");
        pty.wait_for("CPUs by max");
        pty.press("q");
        assert_eq!(
            end(&mut child).code(),
            Some(0),
            "controlling: {is_controlling}"
        );
        pty.wait_for(LEAVES_SCREEN);
        pty.wait_for(SHOWS_CURSOR);
        assert_eq!(pty.modes(), before);
    }
}

/// The knobs of the programs that were loaded with this threshold, which no other smilat here has.
fn knobs(threshold_ns: u64) -> Array<MapData, [u64; 4]> {
    loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| map.name_as_str() == Some("KNOBS"))
        .filter_map(|map| MapData::from_id(map.id()).ok())
        .filter_map(|data| Array::try_from(Map::Array(data)).ok())
        .find(|knobs: &Array<MapData, [u64; 4]>| {
            knobs.get(&0, 0).expect("a value")[0] == threshold_ns
        })
        .expect("the programs' knobs")
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_neither_the_counting_nor_the_end() {
    let mut pty = Pty::new(250, 100);
    let before = pty.modes();
    let mut command = smilat();
    pty.of(command.args(["top", "--interval=50ms", "--threshold=9111ns"]));
    let mut child = command.spawn().expect("smilat starts");
    pty.wait_for(" by max");
    pty.fill();
    wait_until_it_draws_in_vain(&mut pty);
    let knobs = knobs(9_111);
    let interval = || knobs.get(&0, 0).expect("a value")[2];
    let began = interval();
    wait_until("further intervals", || interval() > began + 20);
    assert!(pty.is_full(), "it takes something");
    send(&child, libc::SIGTERM);
    let status = end(&mut child);
    let output = child.wait_with_output().expect("output");
    // The summary may or may not have had room; what must not be is a process that stays.
    assert!(matches!(status.code(), Some(0 | 2)), "{}", stderr(&output));
    assert_eq!(pty.modes(), before);
    pty.wait_for(LEAVES_SCREEN);
    pty.wait_for(SHOWS_CURSOR);
}
