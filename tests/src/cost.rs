//! What tests of `--smi-cost` share.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Leaves the machine as a run does that was killed: the journal names `setting`, a file of the test's, and what it was, 0.
/// Returns the journal.
///
/// # Panics
/// When it cannot be written.
pub fn killed_run(setting: &Path) -> PathBuf {
    let journal = PathBuf::from("/run/smilat/counters.json");
    fs::create_dir_all("/run/smilat").expect("folder");
    fs::write(setting, "1\n").expect("write");
    let left = serde_json::json!({
        "holder": "process 1 (measuring what SMIs cost)",
        "changes": [{"wrote": {"path": setting, "undo": "0"}}],
    });
    fs::write(&journal, left.to_string()).expect("write");
    journal
}
