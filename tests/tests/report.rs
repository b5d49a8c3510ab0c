//! `smilat report` on recordings: one that `smilat run` made, and made-up ones, whole, torn, several and foreign.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    process::{Output, Stdio},
    thread,
};

use serde_json::Value;
use smi_user::model::Snapshot;
use tests::{
    made_up::{header, later, lines, recording, write},
    output, refused, smilat, snapshots, stderr,
};

/// Makes up a recording of 40 seconds.
fn record(path: &Path) -> Snapshot {
    let all = recording(40);
    write(path, None, &all);
    all[39].clone()
}

fn json(path: &[&Path], status: i32) -> Value {
    let output = output(smilat().arg("report").arg("--json").args(path));
    assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The report says of `path` what its last line does.
#[track_caller]
fn has_numbers(path: &Path, last: &Snapshot) -> Value {
    let total = last.total();
    let whole = json(&[path], 0);
    let summary = &whole["summaries"][0];
    assert_eq!(summary["total"]["count"], total.count);
    assert_eq!(summary["total"]["sum_ns"], total.sum_ns);
    assert_eq!(summary["total"]["max_ns"].as_u64(), total.max_ns);
    assert_eq!(summary["total"]["exposure_ns"], total.exposure_ns);
    let slots: u64 = summary["timeline"]
        .as_array()
        .expect("slots")
        .iter()
        .map(|slot| slot["counts"]["count"].as_u64().expect("a count"))
        .sum();
    assert_eq!(slots, total.count);
    whole
}

#[test]
fn a_report_has_the_numbers_of_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.ndjson");
    let all = snapshots(&[
        "--preset=idle",
        "--interval=100ms",
        "--duration=1500ms",
        "--quiet",
    ]);
    write(&path, None, &all);
    // Whether this machine has gaps is its own affair; that it was sampled is not.
    let last = all.last().expect("a snapshot");
    assert!(last.total().exposure_ns > 0);
    has_numbers(&path, last);
}

#[test]
fn a_report_has_the_numbers_of_the_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.ndjson");
    let last = record(&path);
    let total = last.total();
    assert_eq!(total.count, 100);
    let whole = has_numbers(&path, &last);
    assert_eq!(whole["comparisons"], Value::Array(Vec::new()));

    let text = output(smilat().arg("report").arg(&path));
    assert_eq!(text.status.code(), Some(0), "{}", stderr(&text));
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    for told in [
        format!("Recording {}", path.display()),
        "spin, threshold 10.0 us, 50.0 ms of every 100 ms".to_owned(),
        "Gaps by cause".to_owned(),
        "Over time, ".to_owned(),
        "Gaps by duration".to_owned(),
        format!("{:>9}", total.count),
    ] {
        assert!(text.contains(&told), "no \"{told}\" in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours in a file");
}

#[test]
fn the_exit_status_is_that_of_the_hardlimit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.ndjson");
    let max_ns = record(&path).max_ns().expect("a gap");
    for (limit, status) in [(max_ns, 0), (max_ns - 1, 1)] {
        let output = output(
            smilat()
                .arg("report")
                .arg(&path)
                .arg(format!("--hardlimit={limit}ns")),
        );
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(["kept", "exceeded"][status as usize]),
            "{text}"
        );
    }
    refused(
        smilat().arg("report").arg(&path).arg("--hardlimit=1us"),
        &["--hardlimit 1.00 us is below the threshold 10.0 us"],
    );
}

#[test]
fn a_torn_recording_is_reported_up_to_the_tear() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.ndjson");
    record(&path);
    let mut text = fs::read(&path).expect("the file");
    text.truncate(text.len() - 20);
    fs::write(&path, text).expect("a file");
    let remarks = json(&[&path], 0)["summaries"][0]["remarks"].to_string();
    assert!(remarks.contains("is torn after"), "{remarks}");
    assert!(remarks.contains("no last snapshot"), "{remarks}");
}

#[test]
fn a_recording_does_not_differ_from_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (
        folder.path().join("a.ndjson"),
        folder.path().join("b.ndjson"),
    );
    record(&a);
    fs::copy(&a, &b).expect("a copy");
    let both = json(&[&a, &b], 0);
    let row = &both["comparisons"][0]["rows"][0];
    assert_eq!(row["ratio"], 1.0, "{row}");
    assert_eq!(row["rate_differs"], false, "{row}");
    assert_eq!(row["durations_differ"], false, "{row}");
    let text = output(smilat().arg("report").args([&a, &b]));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for told in [
        "Side by side",
        "all gaps: rates differ by no more than chance (p = 1.000)",
    ] {
        assert!(text.contains(told), "no \"{told}\" in:\n{text}");
    }
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("foreign");
    for (text, told) in [
        ("PK\x03\x04 whatever\n", "is no recording of smilat"),
        ("{\"schema_version\":99}\n", "has schema_version 99"),
        ("", "is empty: nothing has been recorded"),
    ] {
        fs::write(&path, text).expect("a file");
        refused(smilat().arg("report").arg(&path), &["foreign", told]);
    }
    refused(
        smilat().args(["report", "/no/such/file"]),
        &["cannot read /no/such/file"],
    );
    refused(smilat().arg("report"), &["<FILE>..."]);
    refused(
        smilat().args(["report", "--text", "--json", "x"]),
        &["cannot be used with"],
    );
}

/// The only summary there is.
#[track_caller]
fn only(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let mut whole: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let summaries = whole["summaries"].as_array_mut().expect("summaries");
    assert_eq!(summaries.len(), 1, "{summaries:?}");
    summaries.remove(0)
}

#[test]
fn what_a_shell_makes_of_a_name_is_one_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let all = recording(40);
    write(&path("a.2.gz"), Some(&header(0, 1)), &all[..10]);
    write(&path("a.1.gz"), Some(&header(0, 2)), &all[10..20]);
    write(&path("a"), Some(&header(0, 3)), &all[20..]);
    // Compressed already, but a kill left it and what was begun anew.
    write(&path("a.1"), Some(&header(0, 2)), &all[10..20]);
    fs::write(path("a.1.gz.tmp"), "").expect("written");
    fs::write(path(".a.smilat-lock"), "4711").expect("written");
    symlink("a", path("link")).expect("a link");
    for names in [
        &["a", "a.1", "a.1.gz", "a.1.gz.tmp", "a.2.gz"][..],
        &[".a.smilat-lock", "a", "a.1", "a.1.gz", "a.2.gz"],
        &["a", "./a", "a.2.gz"],
        &["link"],
        &["link", "a"],
    ] {
        let summary = only(&output(
            smilat()
                .current_dir(folder.path())
                .args(["report", "--json"])
                .args(names),
        ));
        assert_eq!(summary["snapshots"], 40, "{names:?}");
        assert_eq!(summary["total"]["count"], 100, "{names:?}");
        let remarks = summary["remarks"].to_string();
        assert!(!remarks.contains("not there"), "{names:?}: {remarks}");
    }
}

#[test]
fn files_that_share_a_run_are_one_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let first = recording(20);
    let second = later(&recording(30), 100);
    // The second run begins in the file that the first one ends in.
    let begun =
        lines(Some(&header(0, 2)), &first[10..]) + &lines(Some(&header(100, 1)), &second[..5]);
    write(&path("a"), Some(&header(0, 1)), &first[..10]);
    fs::write(path("b"), begun).expect("written");
    write(&path("c"), Some(&header(100, 2)), &second[5..]);
    fs::copy(path("c"), path("copy")).expect("a copy");
    let count = first[19].total().count + second[29].total().count;
    for (names, twice) in [
        (&["a", "b", "c"][..], false),
        (&["c", "b", "a"], false),
        (&["copy", "c", "a", "b"], true),
    ] {
        let summary = only(&output(
            smilat()
                .current_dir(folder.path())
                .args(["report", "--json"])
                .args(names),
        ));
        assert_eq!(summary["runs"], 2, "{names:?}");
        assert_eq!(summary["snapshots"], 50, "{names:?}");
        assert_eq!(summary["total"]["count"], count, "{names:?}");
        let remarks = summary["remarks"].to_string();
        assert_eq!(
            remarks.contains("25 snapshots were given twice"),
            twice,
            "{remarks}"
        );
        assert!(!remarks.contains("not there"), "{names:?}: {remarks}");
    }
}

#[test]
fn a_pipe_is_read_from_its_beginning() {
    for header in [None, Some(&header(0, 1))] {
        for name in ["-", "/dev/stdin"] {
            let mut child = smilat()
                .args(["report", "--json", name])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("started");
            let text = lines(header, &recording(40));
            let mut to = child.stdin.take().expect("a pipe");
            let writer = thread::spawn(move || to.write_all(text.as_bytes()));
            let summary = only(&child.wait_with_output().expect("ended"));
            writer.join().expect("no panic").expect("written");
            assert_eq!(summary["snapshots"], 40, "{name}");
            assert_eq!(summary["total"]["count"], 100, "{name}");
            assert_eq!(summary["remarks"], Value::Array(Vec::new()), "{name}");
        }
    }
}

#[test]
fn a_page_does_not_take_a_recordings_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    record(&a);
    record(&b);
    for page in [&a, &b] {
        refused(
            smilat().arg("report").arg(&a).arg("-o").arg(page),
            &["give the page another name"],
        );
    }
    assert_eq!(
        fs::read_to_string(&b).expect("there"),
        lines(None, &recording(40))
    );
}
