//! `smilat run --record`: what is in a recording, who may read and write it, and what kills leave of it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use smi_user::{
    model::Snapshot,
    recording::{Line, Reader},
};
use tests::{
    killed::Killed,
    output,
    recording::{OFTEN, Recorded, Run, UNHURRIED, files, lines_by_jq},
    refused, smilat, stderr, wait_until,
};

#[test]
fn a_recording_holds_what_the_reports_of_the_same_run_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let run = output(
        smilat()
            .args([
                "run",
                "--format=ndjson",
                "--duration=10s",
                UNHURRIED,
                "--rotate-size=64KiB",
            ])
            .args(OFTEN)
            .args(["--rotate-keep=1000", "--hardlimit=1h", "--record"])
            .arg(&path),
    );
    assert!(run.status.success(), "{}", stderr(&run));
    let said = stderr(&run);
    // But for what is about the machine: that 1 us is little where it is busy before the start, that it has no SMI counter.
    let of_recording = |line: &str| {
        line.starts_with("smilat: ")
            && !line.contains("this machine's noise floor")
            && !line.contains("no counter of SMIs can be had")
    };
    assert!(!said.lines().any(of_recording), "{said}");
    let reported: Vec<Snapshot> = run
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a snapshot"))
        .collect();
    let recorded = Recorded::read(&path);
    assert_eq!((recorded.torn, &recorded.remarks[..]), (0, &[][..]));
    let snapshots: Vec<Snapshot> = recorded.snapshots.into_iter().map(|(_, one)| one).collect();
    assert!(snapshots == reported, "they differ");
    assert!(snapshots.last().is_some_and(|last| last.last));
    assert!(snapshots.iter().any(|snapshot| !snapshot.gaps.is_empty()));
    let files = files(&path);
    assert_eq!(recorded.headers, files.len());
    assert!(files.len() > 2, "it was not rotated: {files:?}");
    assert!(!folder.path().join(".gaps.ndjson.smilat-lock").exists());
    let lines: usize = files.iter().map(|file| lines_by_jq(file)).sum();
    assert_eq!(lines, reported.len() + files.len());
    for file in &files {
        let mut begin = Reader::open(file).expect("it opens");
        let Some(Line::Header(header)) = begin.next_line().expect("a line") else {
            panic!("{} begins otherwise", file.display());
        };
        assert_eq!(header.interval_ns, 100_000_000);
        assert_eq!(header.hardlimit_ns, Some(3_600_000_000_000));
        assert!(header.machine.kernel.is_some() && header.machine.cpus.is_some());
    }
}

#[test]
fn beside_text_the_recording_is_the_same_and_the_next_run_is_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    for runs in 1..=2 {
        let run = output(
            smilat()
                .args([
                    "run",
                    "--quiet",
                    "--duration=300ms",
                    "--interval=100ms",
                    "--record",
                ])
                .arg(&path),
        );
        assert!(run.status.success(), "{}", stderr(&run));
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(text.contains("Summary of"), "{text}");
        let recorded = Recorded::read(&path);
        assert_eq!(recorded.headers, runs);
        assert_eq!(recorded.remarks, []);
        let ended = recorded
            .snapshots
            .iter()
            .filter(|(_, snapshot)| snapshot.last);
        assert_eq!(ended.count(), runs);
    }
}

#[test]
fn kills_at_any_moment_cost_no_line_that_was_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let args = [UNHURRIED, "--rotate-size=64KiB", "--rotate-keep=9999"];
    let mut kept: Vec<(String, u64)> = Vec::new();
    let mut torn = 0;
    for kill in 0..12u64 {
        let mut run = Run::start(folder.path(), &args, &path);
        run.wait_for_intervals(1);
        wait_until("a line", || {
            Recorded::read(&path).snapshots.len() > kept.len()
        });
        // Any moment: between lines, within one, while a file is put aside or compressed.
        let moment = u64::from(std::process::id()).wrapping_add(kill * 7919) % 2_000;
        thread::sleep(Duration::from_millis(moment));
        run.end(libc::SIGKILL);
        assert!(!run.said().contains("cannot"), "{}", run.said());
        let recorded = Recorded::read(&path);
        let now = recorded.intervals();
        assert!(
            now.starts_with(&kept),
            "kill {kill} lost what was there before"
        );
        assert!(now.len() > kept.len(), "kill {kill}: nothing was recorded");
        assert_eq!(recorded.remarks, [], "kill {kill}");
        kept = now;
        // Older ones are told by the header after them.
        assert!(
            recorded.torn >= torn && recorded.torn <= torn + 1,
            "kill {kill}"
        );
        torn = recorded.torn;
    }
    let mut run = Run::start(folder.path(), &args, &path);
    run.wait_for_intervals(10);
    assert_eq!(run.end(libc::SIGINT).code(), Some(0), "{}", run.said());
    let recorded = Recorded::read(&path);
    assert!(recorded.intervals().starts_with(&kept));
    assert!(recorded.snapshots.last().is_some_and(|(_, last)| last.last));
    assert_eq!((recorded.torn, &recorded.remarks[..]), (torn, &[][..]));
    let files = files(&path);
    let lines: usize = files.iter().map(|file| lines_by_jq(file)).sum();
    assert_eq!(lines, recorded.snapshots.len() + recorded.headers);
    for file in &files {
        assert!(
            *file == path || file.extension().is_some_and(|ending| ending == "gz"),
            "{file:?}"
        );
    }
}

#[test]
fn what_is_being_recorded_can_be_read_while_files_are_put_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let args = [UNHURRIED, "--rotate-size=64KiB", "--rotate-keep=9999"];
    let mut run = Run::start(folder.path(), &args, &path);
    run.wait_for_intervals(1);
    let mut before = Vec::new();
    wait_until("several rotations", || {
        let recorded = Recorded::read(&path);
        assert_eq!(recorded.remarks, []);
        // The line being written at this moment.
        assert!(recorded.torn <= 1);
        let now = recorded.intervals();
        assert!(now.starts_with(&before), "it lost something");
        before = now;
        files(&path).len() > 4
    });
    assert_eq!(run.end(libc::SIGINT).code(), Some(0), "{}", run.said());
}

#[test]
fn a_torn_last_line_is_told_and_the_next_run_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let mut run = Run::start(folder.path(), &[UNHURRIED], &path);
    run.wait_for_intervals(3);
    run.end(libc::SIGKILL);
    let whole = fs::metadata(&path).expect("it is there").len();
    File::options()
        .write(true)
        .open(&path)
        .expect("it opens")
        .set_len(whole - 100)
        .expect("cut");
    let before = Recorded::read(&path);
    assert_eq!(before.torn, 1, "{} bytes", whole - 100);

    let mut run = Run::start(folder.path(), &[UNHURRIED], &path);
    run.wait_for_intervals(3);
    assert_eq!(run.end(libc::SIGTERM).code(), Some(0));
    assert!(
        run.said().contains("the last line was torn"),
        "{}",
        run.said()
    );
    let after = Recorded::read(&path);
    assert_eq!(after.torn, 1);
    assert!(after.intervals().starts_with(&before.intervals()));
    assert_eq!(lines_by_jq(&path), after.snapshots.len() + after.headers);
}

#[test]
fn a_reader_of_the_reports_that_takes_nothing_costs_the_recording_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let mut child = Killed::start(
        smilat()
            .args(["run", "--format=ndjson", "--duration=5s", UNHURRIED])
            .args(OFTEN)
            .arg("--record")
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    // It has far more to say than a pipe of a page holds.
    shorten(child.stdout.as_ref().expect("piped"));
    let is_whole = || {
        fs::metadata(&path).is_ok_and(|file| file.len() > 0) && {
            let recorded = Recorded::read(&path);
            recorded.snapshots.last().is_some_and(|(_, last)| last.last)
        }
    };
    wait_until("the last snapshot", is_whole);
    assert!(
        child.try_wait().expect("a child").is_none(),
        "it did not wait"
    );
    child.signal(libc::SIGINT);
    assert_eq!(child.wait().expect("it ends").code(), Some(2));
    let recorded = Recorded::read(&path);
    assert_eq!((recorded.torn, &recorded.remarks[..]), (0, &[][..]));
    let (_, last) = recorded.snapshots.last().expect("a snapshot");
    // All single gaps are in the recording, so none was given up.
    let single: usize = recorded
        .snapshots
        .iter()
        .map(|(_, one)| one.gaps.len())
        .sum();
    assert_eq!(last.gaps_dropped, 0);
    assert_eq!(single as u64, last.cpus[0].records.sent);
}

#[test]
fn a_second_writer_is_refused_and_a_kill_frees_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let mut first = Run::start(folder.path(), &[UNHURRIED], &path);
    first.wait_for_intervals(1);
    // The same file by another name.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    for name in [&path, &link] {
        let holder = format!("process {} is recording to it", first.child.id());
        refused(
            smilat().args(["run", "--record"]).arg(name),
            &[&holder, "another file"],
        );
    }
    first.end(libc::SIGKILL);
    let mut second = Run::start(folder.path(), &[UNHURRIED], &path);
    second.wait_for_intervals(1);
    assert_eq!(second.end(libc::SIGINT).code(), Some(0));
    assert_eq!(files(&path), [path].into());
}

#[test]
fn a_recording_that_others_compressed_reads_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let mut run = Run::start(folder.path(), &[UNHURRIED], &path);
    run.wait_for_intervals(5);
    run.end(libc::SIGINT);
    let mut gzip = Command::new("gzip")
        .arg("--stdout")
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut packed = Vec::new();
    gzip.stdout
        .take()
        .expect("piped")
        .read_to_end(&mut packed)
        .expect("read");
    assert!(gzip.wait().expect("it ends").success());
    let copy = folder.path().join("copy");
    fs::write(&copy, packed).expect("written");
    assert_eq!(
        Recorded::read(&copy).intervals(),
        Recorded::read(&path).intervals()
    );
}

#[test]
fn a_reader_of_the_reports_that_leaves_does_not_end_the_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let messages = folder.path().join("messages");
    let mut child = Killed::start(
        smilat()
            .args(["run", "--format=ndjson", UNHURRIED])
            .args(OFTEN)
            .arg("--record")
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(File::create(&messages).expect("a file")),
    );
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    reader.read_line(&mut String::new()).expect("a line");
    drop(reader);
    let said = || fs::read_to_string(&messages).expect("messages");
    wait_until("the message", || {
        said().contains("the reader of standard output went away; the run goes on for --record")
    });
    let before = Recorded::read(&path).snapshots.len();
    wait_until("further snapshots", || {
        Recorded::read(&path).snapshots.len() > before + 3
    });
    child.signal(libc::SIGINT);
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{}", said());
    assert_eq!(said().matches("went away").count(), 1, "{}", said());
    let recorded = Recorded::read(&path);
    let (_, last) = recorded.snapshots.last().expect("a snapshot");
    assert!(last.last);
    assert_eq!((last.gaps_dropped, last.recording_lost), (0, Some(0)));
}

#[test]
fn reports_into_the_recording_itself_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gaps.ndjson");
    let mut run = Run::start(folder.path(), &[UNHURRIED], &path);
    run.wait_for_intervals(2);
    assert_eq!(run.end(libc::SIGINT).code(), Some(0), "{}", run.said());
    let before = fs::read(&path).expect("read");
    let run = |to: &str| {
        let script = format!("exec \"$0\" run --format=ndjson --record \"$1\" {to}");
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .arg(tests::smilat_path())
            .arg(&path);
        refused(&mut command, &["would destroy the recording"]);
        assert!(fs::read(&path).expect("read") == before, "{to}");
    };
    run("--output \"$1\"");
    run("--output \"$1.2.gz\"");
    run(">> \"$1\"");
}

/// Has a pipe hold a page and no more.
fn shorten(pipe: &impl std::os::fd::AsRawFd) {
    // SAFETY: the descriptor is open, and no memory is passed.
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    assert!(size > 0);
}
