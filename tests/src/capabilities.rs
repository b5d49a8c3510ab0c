//! Runs of smilat that have some capabilities and no others.

use std::process::Output;

use smi_user::{kernel::perf::paranoid, model::Snapshot};

use crate::stderr;

/// These capabilities, as `setpriv` wants them.
pub fn set(names: &[String]) -> String {
    names
        .iter()
        .fold("-all".to_owned(), |set, name| format!("{set},+{name}"))
}

/// Checks that a run `with` these capabilities finds gaps, and that none of them is there without need. It must report by
/// NDJSON what is longer than 1 us.
///
/// # Panics
/// When that is not so.
#[track_caller]
pub fn are_enough_and_needed(names: &[String], with: impl Fn(&[String]) -> Output) {
    let run = with(names);
    let told = stderr(&run);
    assert!(run.status.success(), "{told}");
    for lacking in ["CAP_", "priority ("] {
        assert!(!told.contains(lacking), "{told}");
    }
    let last = run.stdout.trim_ascii_end();
    let last = last.rsplit(|byte| *byte == b'\n').next().expect("a line");
    let last: Snapshot = serde_json::from_slice(last).expect("a snapshot");
    assert!(last.total().count > 0, "no gaps of 1 us");
    // CAP_SYS_ADMIN, which stands in for others, is of use on some kernels only.
    let (admin, names): (Vec<String>, Vec<String>) =
        names.iter().cloned().partition(|name| name == "sys_admin");
    assert_eq!(admin.len(), 1);
    let without_admin = with(&names);
    let told = stderr(&without_admin);
    if let Some(level) = paranoid::takes_sys_admin() {
        assert!(told.contains(&format!("paranoid is {level}")), "{told}");
        return;
    }
    assert!(without_admin.status.success(), "{told}");
    for left_out in &names {
        let mut fewer = names.clone();
        fewer.retain(|name| name != left_out);
        let told = stderr(&with(&fewer));
        assert!(
            told.contains(&format!("CAP_{}", left_out.to_uppercase())),
            "without {left_out}: {told}"
        );
    }
}
