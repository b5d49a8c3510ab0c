//! `tests/src/guest/snapshots/`, out of what guests say.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use super::TARGET_DIR;
use crate::sh;

/// What precedes each line of a snapshot on the console, before the snapshot's name (`tests/src/guest/doctor.rs`).
const MARK: &str = "SNAPSHOT ";

/// Where they are kept, for tests to compare with.
const FOLDER: &str = "tests/src/guest/snapshots";

/// The snapshots of the machines that were tested, by name.
#[derive(Debug, Default)]
pub(super) struct Snapshots(BTreeMap<String, String>);

impl Snapshots {
    /// Takes in a line of a console.
    pub(super) fn line(&mut self, line: &str) {
        let Some(line) = line.strip_prefix(MARK) else {
            return;
        };
        // The console's lines come without the spaces at their ends.
        let (name, words) = line.split_once(' ').unwrap_or((line, ""));
        let text = self.0.entry(name.trim().to_owned()).or_default();
        text.push_str(words.trim_end());
        text.push('\n');
    }

    /// Writes them below the target folder, and to where tests compare with them if that is asked for.
    pub(super) fn write(&self, to_tests: bool) -> Result<()> {
        let mut folders = vec![sh::root().join(TARGET_DIR).join("snapshots")];
        if to_tests {
            folders.push(sh::root().join(FOLDER));
        }
        for (name, text) in &self.0 {
            for folder in &folders {
                let file = folder.join(format!("{name}.txt"));
                fs::create_dir_all(folder)
                    .and_then(|()| fs::write(&file, text))
                    .with_context(|| format!("cannot write {}", file.display()))?;
                println!("vm: wrote {}", file.display());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_picked_out_of_the_console_by_name() {
        let mut snapshots = Snapshots::default();
        for line in [
            "PLAN a",
            "SNAPSHOT one first",
            "SNAPSHOT one",
            "SNAPSHOT two other\r",
            "SNAPSHOT one   indented",
        ] {
            snapshots.line(line);
        }
        assert_eq!(snapshots.0["one"], "first\n\n  indented\n");
        assert_eq!(snapshots.0["two"], "other\n");
    }
}
