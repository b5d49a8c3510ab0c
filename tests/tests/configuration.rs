//! The file of `--config`: what it sets, and what is said where it is wrong.

use std::fs;

use tempfile::TempDir;
use tests::{refused, smilat, snapshots};

fn with_file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("smilat.toml");
    fs::write(&file, text).expect("written");
    let option = format!("--config={}", file.display());
    (folder, option)
}

#[test]
fn the_file_sets_options_and_the_command_line_overrules_it() {
    let (_folder, config) = with_file(
        "threshold = '20us'\nwidth = '5ms'\ncpus = '0'\nmode = 'per-cpu'\nquiet = true\nduration = '300ms'\n",
    );
    let all = snapshots(&[&config]);
    let detector = &all.last().expect("a snapshot").detector;
    assert_eq!(
        (detector.threshold_ns, detector.width_ns),
        (20_000, 5_000_000)
    );
    assert_eq!(detector.cpus, "0");
    let all = snapshots(&[&config, "--threshold=7us"]);
    let detector = &all.last().expect("a snapshot").detector;
    assert_eq!(
        (detector.threshold_ns, detector.width_ns),
        (7_000, 5_000_000)
    );
}

#[test]
fn a_wrong_file_is_refused_with_place_and_remedy() {
    for (text, told) in [
        (
            "\nthreshhold = '1us'",
            &[
                "smilat.toml:2: ",
                "no option \"threshhold\"; did you mean threshold?",
            ][..],
        ),
        (
            "width = '10parsecs'",
            &["smilat.toml:1: width: ", "unknown unit \"parsecs\""],
        ),
        ("width = 5ms", &["smilat.toml:1: this is not TOML"]),
        (
            "width = '200ms'\nwindow = '100ms'",
            &["--width 200 ms must be below --window 100 ms"],
        ),
    ] {
        let (_folder, config) = with_file(text);
        refused(smilat().args(["run", &config]), told);
    }
    refused(
        smilat().args(["run", "--config=/no/such/file"]),
        &["cannot read the configuration /no/such/file: No such file"],
    );
}
