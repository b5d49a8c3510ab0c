//! `smilat top` in a terminal: keys, sizes, recordings, and a terminal that is found as it was left, however it ends.

use std::{
    fs,
    io::Write as _,
    mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process::Stdio,
};

use aya::maps::{Array, Map, MapData, loaded_maps};
use tests::{output, refused, smilat, smilat_path, snapshots, stderr, tmux::Tmux, wait_until};

/// What `smilat top ARGS` is for the shell.
fn top(args: &str) -> String {
    format!("{} top {args}", smilat_path().display())
}

/// Waits until there are numbers.
#[track_caller]
fn wait_for_numbers(tmux: &Tmux) -> String {
    let screen = tmux.wait("numbers", |screen| {
        screen.contains("CPUs by max") && !screen.contains("\n0 gaps")
    });
    assert_eq!(tmux.flags(), (true, false), "{screen}");
    screen
}

/// The knobs of the programs that were loaded with this threshold, which no other smilat here has.
fn knobs(threshold_ns: u64) -> Array<MapData, [u64; 4]> {
    loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| map.name_as_str() == Some("KNOBS"))
        .filter_map(|map| MapData::from_id(map.id()).ok())
        .filter_map(|data| Array::try_from(Map::Array(data)).ok())
        .find(|knobs| value(knobs)[0] == threshold_ns)
        .expect("the programs' knobs")
}

fn value(knobs: &Array<MapData, [u64; 4]>) -> [u64; 4] {
    knobs.get(&0, 0).expect("a value")
}

#[test]
fn keys_do_what_the_help_says() {
    let tmux = Tmux::new(80, 24, &[]);
    tmux.command(&top("--interval 200ms --threshold 7777ns"));
    wait_for_numbers(&tmux);
    for (key, shown) in [
        (">", "CPUs by now max"),
        ("Right", "CPUs by last"),
        ("<", "CPUs by now max"),
        ("Left", "CPUs by max"),
        ("t", "longest gap of each interval, all CPUs"),
        ("Enter", "longest gap of each interval, CPU "),
        ("a", "longest gap of each interval, all CPUs"),
        ("t", "gaps in each interval, all CPUs"),
        ("m", "no messages"),
        ("Escape", "gaps in each interval, all CPUs"),
        ("?", "count from now on"),
        // The help tells the plan, further down.
        ("PPage", "count from now on"),
    ] {
        tmux.press(&[key]);
        tmux.wait_for(shown);
    }
    for _ in 0..16 {
        tmux.press(&["Down"]);
    }
    tmux.wait_for("of each watched CPU");
    tmux.press(&["Escape"]);
    tmux.wait("no help", |screen| !screen.contains("help: "));

    tmux.press(&["i"]);
    tmux.wait_for("max▲");

    // The cursor goes from the first row to the next.
    for (key, row) in [("g", 0), ("Down", 1), ("k", 0), ("G", 1)] {
        tmux.press(&[key]);
        tmux.wait("the cursor", |_| {
            let screen = tmux.run(&["capture-pane", "-p", "-e"]);
            // Below header, title and headings.
            let line = screen.lines().nth(5 + row).unwrap_or_default();
            line.contains("[7m") || line.contains(";7m")
        });
    }
    tmux.press(&["q"]);
    let ended = tmux.wait_for_prompt();
    assert!(
        ended.contains("Longest gaps passed on") || ended.contains("Gaps by"),
        "{ended}"
    );
}

#[test]
fn a_paused_display_stands_still_while_counting_goes_on() {
    let tmux = Tmux::new(100, 24, &[]);
    tmux.command(&top("--interval 200ms"));
    wait_for_numbers(&tmux);
    tmux.press(&["p"]);
    let body = |screen: &str| {
        screen
            .lines()
            .skip(3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let paused = tmux.wait_for("PAUSED");
    let later = tmux.wait("intervals", |screen| {
        screen.contains("PAUSED") && !(0..5).any(|n| screen.contains(&format!(" in {n} interval")))
    });
    assert_eq!(body(&paused), body(&later));
    tmux.press(&["Space"]);
    tmux.wait("no pause", |screen| !screen.contains("PAUSED"));
    tmux.press(&["r"]);
    tmux.wait_for("since reset");
    tmux.press(&["q"]);
    // The summary has all of it.
    let ended = tmux.wait_for_prompt();
    assert!(!ended.contains("since reset"), "{ended}");
}

#[test]
fn the_threshold_changes_in_the_kernel() {
    let tmux = Tmux::new(80, 24, &[]);
    tmux.command(&top("--interval 100ms --threshold 13331ns --width 10ms"));
    tmux.wait_for("threshold 13.3 us");
    let knobs = knobs(13_331);
    for (key, ns, shown) in [
        ("+", 20_000, "threshold 20.0 us (13.3 us until"),
        ("+", 50_000, "threshold 50.0 us (13.3 us until"),
        ("-", 20_000, "threshold 20.0 us (13.3 us until"),
        ("-", 10_000, "threshold 10.0 us (13.3 us until"),
    ] {
        tmux.press(&[key]);
        tmux.wait_for(shown);
        assert_eq!(value(&knobs)[0], ns);
    }
    tmux.press(&["r"]);
    tmux.wait_for("threshold 10.0 us, 10.0 ms of every");
    // Up to the width, and no further.
    for _ in 0..12 {
        tmux.press(&["+"]);
    }
    tmux.wait_for("no longer gap fits the width of 10.0 ms");
    assert_eq!(value(&knobs)[0], 10_000_000);
    tmux.press(&["q"]);
    tmux.wait_for_prompt();
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let tmux = Tmux::new(80, 24, &[]);
    tmux.command(&top("--interval 200ms"));
    wait_for_numbers(&tmux);
    let resize = |width: &str, height: &str| {
        tmux.run(&["resize-window", "-x", width, "-y", height]);
    };
    resize("60", "15");
    tmux.wait("a small screen", |screen| {
        screen
            .lines()
            .nth(14)
            .is_some_and(|line| line.starts_with("q quit"))
    });
    resize("40", "10");
    tmux.wait_for("too small");
    resize("140", "45");
    let large = tmux.wait("a large screen", |screen| {
        screen
            .lines()
            .nth(44)
            .is_some_and(|line| line.starts_with("q quit"))
    });
    assert!(
        large.contains("exposure") && large.contains("newest gaps"),
        "{large}"
    );
    tmux.press(&["q"]);
    tmux.wait_for_prompt();
}

/// Runs `command`, ends it by `end` once `shown` is there, and compares the terminal with what it was before; returns
/// what is on the screen then.
#[track_caller]
fn comes_back(command: &str, shown: &str, status: u8, end: impl FnOnce(&Tmux)) -> String {
    // High enough for a whole summary.
    let tmux = Tmux::new(110, 70, &[]);
    let before = tmux.stty();
    tmux.command(&format!("{command}; echo status $?"));
    let screen = tmux.wait_for(shown);
    assert_eq!(tmux.flags(), (true, false), "{screen}");
    end(&tmux);
    let ended = tmux.wait_for_prompt();
    assert!(ended.contains(&format!("status {status}")), "{ended}");
    assert_eq!(tmux.stty(), before);
    // What is typed is seen, and does something.
    tmux.command("echo 'it is' usable");
    tmux.wait("an echo", |screen| {
        screen.lines().any(|line| line == "it is usable")
    });
    ended
}

/// Sends a signal to the program that has the terminal.
fn signal(tmux: &Tmux, name: &str) {
    let shell = tmux.run(&["display-message", "-p", "#{pane_pid}"]);
    let children = format!("/proc/{0}/task/{0}/children", shell.trim());
    let child = fs::read_to_string(children).expect("children");
    let status = std::process::Command::new("kill")
        .args([name, child.trim()])
        .status();
    assert!(status.expect("kill").success());
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    let numbers = "CPUs by max";
    let ended = comes_back(&top(""), numbers, 0, |tmux| tmux.press(&["q"]));
    assert!(ended.contains("Summary of "), "no summary: {ended}");
    let ended = comes_back(&top("-q"), numbers, 0, |tmux| tmux.press(&["Escape"]));
    assert!(!ended.contains("Summary of "), "a summary: {ended}");
    comes_back(&top("-q"), numbers, 0, |tmux| tmux.press(&["C-c"]));
    comes_back(&top("-q"), numbers, 0, |tmux| signal(tmux, "-TERM"));
    comes_back(&top("-q"), numbers, 0, |tmux| signal(tmux, "-INT"));
    comes_back(&top("-q"), numbers, 0, |tmux| signal(tmux, "-HUP"));
}

#[test]
fn the_terminal_is_as_it_was_after_a_panic() {
    let screen = env!("CARGO_BIN_EXE_panicking_screen");
    let shown = "a screen that will panic";
    for (thread, status) in [("drawing", 2), ("collecting", 101)] {
        let command = format!("RUST_BACKTRACE=0 {screen} {thread}");
        let ended = comes_back(&command, shown, status, |tmux| tmux.press(&["x"]));
        let told = format!("made to panic while {thread}");
        assert!(ended.contains(&told), "no \"{told}\" in: {ended}");
    }
}

#[test]
fn it_can_be_stopped_and_continued() {
    let tmux = Tmux::new(80, 24, &[]);
    let before = tmux.stty();
    tmux.command(&top("--interval 200ms"));
    for stop in [
        |tmux: &Tmux| tmux.press(&["C-z"]),
        |tmux: &Tmux| signal(tmux, "-TSTP"),
    ] {
        wait_for_numbers(&tmux);
        stop(&tmux);
        tmux.wait_for_prompt();
        assert_eq!(tmux.stty(), before);
        tmux.command("fg");
    }
    wait_for_numbers(&tmux);
    tmux.press(&["q"]);
    tmux.wait_for_prompt();
    assert_eq!(tmux.stty(), before);
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    const CYAN: &str = "\x1b[38;5;6m";
    for (variable, wanted) in [("NO_COLOR=1", false), ("NO_COLOR=", true)] {
        let tmux = Tmux::new(80, 24, &[variable]);
        tmux.command(&top(""));
        wait_for_numbers(&tmux);
        let screen = tmux.run(&["capture-pane", "-p", "-e"]);
        assert_eq!(screen.contains(CYAN), wanted, "{variable}: {screen:?}");
    }
}

/// A recording of two seconds and what its last snapshot has counted.
fn recording(folder: &Path) -> (String, u64, usize) {
    let all = snapshots(&["--duration", "2s", "--interval", "200ms"]);
    let path = folder.join("recording.ndjson");
    let mut file = fs::File::create(&path).expect("create");
    for snapshot in &all {
        let line = serde_json::to_string(snapshot).expect("json");
        writeln!(file, "{line}").expect("write");
    }
    write!(file, "{{\"schema_version\":1,\"time").expect("write");
    let last = all.last().expect("a snapshot");
    (path.display().to_string(), last.total().count, all.len())
}

#[test]
fn a_recording_is_played_and_stepped_through() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, gaps, snapshots) = recording(folder.path());
    let counted = format!("\n{gaps} gap{}, ", if gaps == 1 { "" } else { "s" });
    let tmux = Tmux::new(100, 24, &[]);
    tmux.command(&top(&path));
    tmux.wait_for("snapshot 2");
    tmux.press(&["Home"]);
    tmux.press(&["Space"]);
    tmux.wait_for("paused");
    // Wherever it was when it stopped.
    tmux.press(&["Home"]);
    tmux.wait_for("snapshot 1,");
    tmux.press(&["Right"]);
    tmux.wait_for("snapshot 2, paused");
    tmux.press(&["Right", "Right"]);
    tmux.wait_for("snapshot 4, paused");
    tmux.press(&["Left"]);
    tmux.wait_for("snapshot 3, paused");
    tmux.press(&["End"]);
    let end = format!("snapshot {snapshots} of {snapshots}, at the end, 1 torn line left out");
    let screen = tmux.wait_for(&end);
    assert!(screen.contains(&counted), "not {gaps}: {screen}");
    assert!(screen.contains("is torn"), "{screen}");
    // Back and there again: the same numbers, and the line told once.
    tmux.press(&["Home"]);
    tmux.wait_for(&format!("snapshot 1 of {snapshots}"));
    tmux.press(&["Space"]);
    tmux.press(&["+"]);
    tmux.wait_for("playing 2x");
    tmux.wait_for(&end);
    tmux.wait_for(&counted);
    tmux.press(&["q"]);
    let ended = tmux.wait_for_prompt();
    assert_eq!(ended.matches("is torn").count(), 1, "{ended}");
}

#[test]
fn what_cannot_be_shown_is_told_before_the_screen_is_taken() {
    let folder = tempfile::tempdir().expect("folder");
    refused(smilat().args(["top"]), &["needs a terminal", "smilat run"]);
    let (path, ..) = recording(folder.path());
    refused(
        smilat().args(["top", &path, "--threshold", "5us"]),
        &["--threshold", "cannot be used with"],
    );
    let foreign = folder.path().join("foreign");
    fs::write(&foreign, "a letter\n").expect("write");
    let empty = folder.path().join("empty");
    fs::write(&empty, "").expect("write");
    let tmux = Tmux::new(100, 24, &[]);
    for (file, told) in [
        (foreign.display().to_string(), "is no recording of smilat"),
        (
            empty.display().to_string(),
            "is empty: nothing has been recorded",
        ),
        ("/nowhere".to_owned(), "cannot read /nowhere"),
    ] {
        tmux.command(&format!("{}; echo status $?", top(&file)));
        tmux.wait(told, |screen| {
            let screen = screen.replace('\n', " ");
            screen.contains(told) && screen.contains("status 2")
        });
    }
    tmux.command(&format!("TERM=dumb {}; echo status $?", top("")));
    tmux.wait("a refusal", |screen| {
        screen.contains("this terminal (TERM=dumb)") && screen.contains("status 2")
    });
    let help = output(smilat().args(["top", "--help"]));
    assert!(help.status.success(), "{}", stderr(&help));
}

/// A terminal that nobody reads: both of its ends.
fn unread_terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize {
        ws_row: 100,
        ws_col: 250,
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
    // SAFETY: both were just opened and belong to nobody else.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

/// The local and input modes of a terminal.
fn modes(terminal: &OwnedFd) -> (u32, u32) {
    // SAFETY: all zeros are a valid value of this structure of integers.
    let mut modes: libc::termios = unsafe { mem::zeroed() };
    // SAFETY: the descriptor is open and the pointer is to a live variable.
    let rc = unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut modes) };
    assert_eq!(rc, 0, "tcgetattr");
    (modes.c_lflag, modes.c_iflag)
}

/// Whether the thread that draws waits in write(2).
fn draws_in_vain(pid: u32) -> bool {
    const WRITE: &str = "1 ";
    fs::read_dir(format!("/proc/{pid}/task"))
        .expect("threads")
        .flatten()
        .map(|thread| thread.path())
        .filter(|thread| {
            fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim() == "smilat/screen")
        })
        .any(|thread| {
            fs::read_to_string(thread.join("syscall")).is_ok_and(|call| call.starts_with(WRITE))
        })
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_neither_the_counting_nor_the_end() {
    let (master, slave) = unread_terminal();
    let before = modes(&slave);
    let end = |slave: &OwnedFd| Stdio::from(slave.try_clone().expect("duplicate"));
    let mut child = smilat()
        .args(["top", "--interval=50ms", "--threshold=9111ns"])
        .env("TERM", "xterm")
        .stdin(end(&slave))
        .stdout(end(&slave))
        .stderr(Stdio::piped())
        .spawn()
        .expect("smilat starts");
    wait_until("a terminal that is full", || draws_in_vain(child.id()));
    let knobs = knobs(9_111);
    let interval = || value(&knobs)[2];
    let began = interval();
    wait_until("further intervals", || interval() > began + 20);
    assert!(draws_in_vain(child.id()), "it is not full");

    let pid = libc::pid_t::try_from(child.id()).expect("a pid");
    // SAFETY: takes two integers.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    let mut status = None;
    wait_until("the end", || {
        status = child.try_wait().expect("a status");
        status.is_some()
    });
    let output = child.wait_with_output().expect("output");
    // The summary may or may not have had room; what must not be is a process that stays.
    assert!(
        matches!(status.and_then(|status| status.code()), Some(0 | 2)),
        "{}",
        stderr(&output)
    );
    assert_eq!(modes(&slave), before);
    drop(master);
}
