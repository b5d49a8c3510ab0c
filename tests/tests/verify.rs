//! `smilat verify` on a machine where no SMI can be fired.

use tests::{output, refused, smilat, stderr};

#[test]
fn it_says_which_steps_cannot_be_proven_here() {
    let told = output(smilat().arg("verify"));
    let report = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(2), "{report}{}", stderr(&told));
    assert_eq!(report.matches("not proven  ").count(), 6, "{report}");
    assert!(
        report.contains("Not verified: 6 of 6 steps cannot be proven here"),
        "{report}"
    );
    // The reason is the one that `smilat fire` has.
    let fire = stderr(&output(smilat().args(["fire", "--yes"])));
    let reason = fire
        .trim()
        .strip_prefix("smilat: no SMI can be fired here: ")
        .unwrap_or_else(|| panic!("{fire}"));
    assert!(report.contains(reason), "no \"{reason}\" in {report}");
}

#[test]
fn its_steps_are_objects_for_programs() {
    let told = output(smilat().args(["verify", "--json"]));
    let steps: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let steps = steps.as_array().expect("an array");
    assert_eq!(steps.len(), 6);
    for step in steps {
        assert_eq!(step["state"], "unproven");
        assert!(step["claim"].is_string() && step["evidence"].is_string());
    }
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_is_fired() {
    for (args, told) in [
        (
            &["--cpu=0", "--watch=0"][..],
            "--watch 0 is the CPU that writes",
        ),
        (&["--cpu=0", "--watch=4095"], "CPU 4095 is not online"),
        (&["--detector=all"], "--detector all lists detectors"),
        (
            &["--threshold=0"],
            "--threshold 0 would count every reading",
        ),
        (&["--value=3"], "--value 0x03 is refused"),
    ] {
        refused(smilat().args(["verify", "--yes"]).args(args), &[told]);
    }
}
