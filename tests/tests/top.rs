//! `smilat top` in a terminal: keys, sizes, recordings, and a terminal that is found as it was left, however it ends.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use tests::{
    knobs::LoadedKnobs, made_up, output, refused, smilat, smilat_path, stderr, tmux::Tmux,
    wait_until,
};

/// What `smilat top ARGS` is for the shell.
fn top(args: &str) -> String {
    format!("{} top {args}", smilat_path().display())
}

/// Waits until there are numbers.
#[track_caller]
fn wait_for_numbers(tmux: &Tmux) -> String {
    let screen = tmux.wait_for(" by max");
    assert_eq!(tmux.flags(), (true, false), "{screen}");
    screen
}

#[test]
fn keys_do_what_the_help_says() {
    const FIRST: &str = "display stands still; collecting goes on";
    let tmux = Tmux::new(80, 24, &[]);
    tmux.command(&top("--interval 200ms --threshold 7777ns"));
    wait_for_numbers(&tmux);
    for (key, shown) in [
        (">", " by now max"),
        ("Right", " by last"),
        ("<", " by now max"),
        ("Left", " by max"),
        ("t", "longest gap of each interval, all CPUs"),
        ("Enter", "longest gap of each interval, CPU "),
        ("a", "longest gap of each interval, all CPUs"),
        ("t", "gaps in each interval, all CPUs"),
    ] {
        tmux.press(&[key]);
        tmux.wait_for(shown);
    }
    for (key, popup) in [("m", " messages: "), ("?", " help: ")] {
        tmux.press(&[key]);
        tmux.wait_for(popup);
        tmux.press(&["Escape"]);
        tmux.wait("no popup", |screen| !screen.contains(popup));
    }
    // The help is longer than the screen: the plan comes last.
    tmux.press(&["?"]);
    tmux.wait_for(FIRST);
    tmux.press(&["Down"]);
    tmux.wait("one line down", |screen| {
        !screen.contains(FIRST) && screen.contains("threshold in the kernel")
    });
    tmux.press(&["NPage"]);
    tmux.wait("a page down", |screen| {
        !screen.contains("threshold in the kernel") && screen.contains("of each watched CPU")
    });
    tmux.press(&["PPage", "PPage"]);
    tmux.wait_for(FIRST);
    tmux.press(&["?"]);
    tmux.wait("no help", |screen| !screen.contains(" help: "));
    tmux.press(&["q"]);
    tmux.wait_for_prompt();
    // It may be longer than the screen.
    let ended = tmux.history();
    assert!(ended.contains("SMIs"), "no summary: {ended}");
}

/// A recording of three CPUs whose gaps have another order by each column.
fn three_cpus(folder: &Path) -> String {
    let seconds: [&[made_up::Made]; 3] = [
        &[(0, 100_000, false), (1, 50_000, false), (2, 500_000, true)],
        &[(1, 30_000, false), (1, 30_000, false), (0, 20_000, false)],
        &[(0, 90_000, false), (1, 95_000, false)],
    ];
    let path = folder.join("three.ndjson");
    made_up::write(&path, None, &made_up::snapshots(3, &seconds));
    path.display().to_string()
}

/// The CPUs of the rows, from the top.
fn rows(screen: &str) -> Vec<u32> {
    // Below header, title and headings.
    let rows = screen.lines().skip(5).take(3);
    rows.filter_map(|row| row.split_whitespace().next()?.parse().ok())
        .collect()
}

/// The place of the row that is shown the other way round.
fn cursor(tmux: &Tmux) -> Option<usize> {
    let screen = tmux.run(&["capture-pane", "-p", "-e"]);
    let is_turned = |line: &str| line.contains("[7m") || line.contains(";7m");
    screen.lines().skip(5).take(3).position(is_turned)
}

#[test]
fn rows_are_sorted_and_the_cursor_goes_through_them() {
    let folder = tempfile::tempdir().expect("folder");
    let tmux = Tmux::new(80, 24, &[]);
    tmux.command(&top(&three_cpus(folder.path())));
    tmux.wait_for("CPUs by max");
    tmux.press(&["End"]);
    tmux.wait_for("at the end");
    assert_eq!(rows(&tmux.screen()), [2, 0, 1]);
    for (key, by, order) in [
        (">", "CPUs by now max", [1, 0, 2]),
        (">", "CPUs by last", [2, 1, 0]),
        ("<", "CPUs by now max", [1, 0, 2]),
        ("<", "CPUs by max", [2, 0, 1]),
        ("i", "max▲", [1, 0, 2]),
        ("i", "max▼", [2, 0, 1]),
    ] {
        tmux.press(&[key]);
        tmux.wait(by, |screen| screen.contains(by) && rows(screen) == order);
    }
    for (key, place) in [
        ("Down", 1),
        ("j", 2),
        // No further.
        ("Down", 2),
        ("k", 1),
        ("Up", 0),
        ("G", 2),
        ("g", 0),
        ("NPage", 2),
        ("PPage", 0),
    ] {
        tmux.press(&[key]);
        tmux.wait("the cursor", |_| cursor(&tmux) == Some(place));
    }
    // The second row is CPU 0, and stays it when the order changes.
    tmux.press(&["Down", "Enter"]);
    tmux.wait_for("gaps in each interval, CPU 0");
    tmux.press(&[">", ">"]);
    tmux.wait("the cursor", |screen| {
        rows(screen) == [2, 1, 0] && cursor(&tmux) == Some(2)
    });
    assert!(tmux.screen().contains("gaps in each interval, CPU 0"));
    tmux.press(&["q"]);
    tmux.wait_for_prompt();
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
    let knobs = LoadedKnobs::with_threshold(13_331);
    for (key, ns, shown) in [
        ("+", 20_000, "threshold 20.0 us (13.3 us until"),
        ("+", 50_000, "threshold 50.0 us (13.3 us until"),
        ("-", 20_000, "threshold 20.0 us (13.3 us until"),
        ("-", 10_000, "threshold 10.0 us (13.3 us until"),
    ] {
        tmux.press(&[key]);
        tmux.wait_for(shown);
        assert_eq!(knobs.threshold_ns(), ns);
    }
    tmux.press(&["r"]);
    tmux.wait_for("threshold 10.0 us, 10.0 ms of every");
    // Up to the width, and no further.
    for _ in 0..12 {
        tmux.press(&["+"]);
    }
    tmux.wait_for("no longer gap fits the width of 10.0 ms");
    assert_eq!(knobs.threshold_ns(), 10_000_000);
    tmux.press(&["q"]);
    // The summary says which were in force.
    let ended = tmux.wait_for_prompt();
    assert!(ended.contains("13.3 us from the start on"), "{ended}");
    let later = ended.lines().filter(|line| line.ends_with(" on"));
    assert!(later.count() > 5, "{ended}");
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

/// The programs that the shell started and that are still there.
fn children(tmux: &Tmux) -> String {
    let shell = tmux.run(&["display-message", "-p", "#{pane_pid}"]);
    let children = format!("/proc/{0}/task/{0}/children", shell.trim());
    fs::read_to_string(children).expect("children")
}

/// Whether one of them still runs; the shell may not have asked yet how it ended.
fn runs(tmux: &Tmux) -> bool {
    children(tmux).split_whitespace().any(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    })
}

/// Sends a signal to the program that has the terminal.
fn signal(tmux: &Tmux, name: &str) {
    let child = children(tmux);
    let status = std::process::Command::new("kill")
        .args([name, child.trim()])
        .status();
    assert!(status.expect("kill").success());
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    let numbers = " by max";
    let ended = comes_back(&top(""), numbers, 0, |tmux| tmux.press(&["q"]));
    assert!(ended.contains("Summary of "), "no summary: {ended}");
    let ended = comes_back(&top("-q"), numbers, 0, |tmux| tmux.press(&["Escape"]));
    assert!(!ended.contains("Summary of "), "a summary: {ended}");
    comes_back(&top("-q"), numbers, 0, |tmux| tmux.press(&["C-c"]));
    comes_back(&top("-q"), numbers, 0, |tmux| signal(tmux, "-TERM"));
    let folder = tempfile::tempdir().expect("folder");
    let recording = three_cpus(folder.path());
    for name in ["-INT", "-HUP", "-QUIT", "-USR1", "-USR2", "-ALRM"] {
        comes_back(&top(&recording), numbers, 0, |tmux| signal(tmux, name));
    }
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
fn one_that_was_stopped_can_be_ended() {
    let tmux = Tmux::new(80, 24, &[]);
    let before = tmux.stty();
    tmux.command(&top("-q --interval 200ms"));
    wait_for_numbers(&tmux);
    tmux.press(&["C-z"]);
    tmux.wait_for_prompt();
    // Continued while the shell has the terminal: it must not reach for it, which would stop it again.
    tmux.command("kill %1; kill -CONT %1");
    wait_until("the end", || !runs(&tmux));
    tmux.wait_for_prompt();
    assert_eq!(tmux.stty(), before);

    tmux.command(&top("-q --interval 200ms"));
    wait_for_numbers(&tmux);
    tmux.press(&["C-z"]);
    tmux.wait_for_prompt();
    // Without the terminal it goes on, and has it again when it is given it.
    tmux.command("bg");
    tmux.wait_for_prompt();
    tmux.command("fg");
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

/// A recording of ten seconds whose last line is torn, and how many gaps and snapshots it has.
fn recording(folder: &Path) -> (String, u64, usize) {
    let second: &[made_up::Made] = &[(0, 20_000, false), (1, 30_000, true), (1, 15_000, false)];
    let all = made_up::snapshots(2, &[second; 10]);
    let path = folder.join("recording.ndjson");
    made_up::write(&path, None, &all);
    let mut file = OpenOptions::new().append(true).open(&path).expect("open");
    write!(file, "{{\"schema_version\":1,\"time").expect("write");
    let last = all.last().expect("a snapshot");
    (path.display().to_string(), last.total().count, all.len())
}

#[test]
fn a_recording_is_played_and_stepped_through() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, gaps, snapshots) = recording(folder.path());
    let counted = format!("\n{gaps} gaps, ");
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
