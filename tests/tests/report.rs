//! `smilat report` on recordings that `smilat run` made, whole, torn, several and foreign.

use std::{fs, path::Path};

use serde_json::Value;
use tests::{output, refused, smilat, snapshots, stderr};

/// Records for a second and a half, a snapshot every 100 ms.
fn record(path: &Path) -> smi_user::model::Snapshot {
    let all = snapshots(&[
        "--preset=idle",
        "--interval=100ms",
        "--duration=1500ms",
        "--quiet",
    ]);
    let lines: Vec<String> = all
        .iter()
        .map(|snapshot| serde_json::to_string(snapshot).expect("json") + "\n")
        .collect();
    fs::write(path, lines.concat()).expect("a file");
    all.into_iter().next_back().expect("a snapshot")
}

fn json(path: &[&Path], status: i32) -> Value {
    let output = output(smilat().arg("report").arg("--json").args(path));
    assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_report_has_the_numbers_of_the_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.ndjson");
    let last = record(&path);
    let total = last.total();
    assert!(total.count >= 10, "{} gaps are no test", total.count);

    let whole = json(&[&path], 0);
    let summary = &whole["summaries"][0];
    assert_eq!(summary["total"]["count"], total.count);
    assert_eq!(summary["total"]["sum_ns"], total.sum_ns);
    assert_eq!(summary["total"]["max_ns"], total.max_ns.expect("gaps"));
    assert_eq!(summary["total"]["exposure_ns"], total.exposure_ns);
    let slots: u64 = summary["timeline"]
        .as_array()
        .expect("slots")
        .iter()
        .map(|slot| slot["counts"]["count"].as_u64().expect("a count"))
        .sum();
    assert_eq!(slots, total.count);
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
