//! How many entries each stack gets in the log, for as long as the machine runs: kept beside the locks, where a reboot
//! removes it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::irqsoff::{Event, kind_name};

/// Stacks that are told apart: a machine that has more of them has its file written at each for months.
const STACKS: usize = 1000;

/// What the log was could not be read or kept.
#[derive(Debug, Error)]
#[error(
    "cannot {step} {path}, where it is kept how often each stack was logged since the machine started; run it as root, or let it \
     write to that folder"
)]
pub struct LimitError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// As it is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Which start of the machine it is of.
    boot: String,
    /// Entries by stack.
    logged: BTreeMap<String, u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Limit {
    path: PathBuf,
    most: u64,
    kept: Kept,
}

impl Limit {
    /// At most `most` entries for each stack, kept at `path`; `boot` tells one start of the machine from another.
    ///
    /// # Errors
    /// When there is a file that cannot be read.
    pub fn load(path: &Path, boot: &str, most: u64) -> Result<Self, LimitError> {
        let failed = |source| LimitError {
            step: "read",
            path: path.to_owned(),
            source,
        };
        let kept = match fs::read(path) {
            // Another version's, perhaps: it is begun anew.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                log::warn!(
                    "{} cannot be understood ({error}): how often each stack was logged is counted from 0",
                    path.display()
                );
                Kept::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(failed(error)),
        };
        let kept = if kept.boot == boot {
            kept
        } else {
            Kept {
                boot: boot.to_owned(),
                logged: BTreeMap::new(),
            }
        };
        Ok(Self {
            path: path.to_owned(),
            most,
            kept,
        })
    }

    /// Whether `event` may be logged: not if its stack was logged as often as that, and not if it is another one than the
    /// first 1,000.
    pub fn admits(&self, event: &Event) -> bool {
        match self.kept.logged.get(&stack(event)) {
            Some(times) => *times < self.most,
            None => self.most > 0 && self.kept.logged.len() < STACKS,
        }
    }

    /// Notes that `event` is logged.
    ///
    /// # Errors
    /// When that cannot be kept for who comes after; this one knows.
    pub fn add(&mut self, event: &Event) -> Result<(), LimitError> {
        *self.kept.logged.entry(stack(event)).or_default() += 1;
        self.keep().map_err(|source| LimitError {
            step: "write",
            path: self.path.clone(),
            source,
        })
    }

    fn keep(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, &self.kept)?;
        file.flush()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// What makes two events the same: the functions on their stacks, not how far each had come, and what ran.
fn stack(event: &Event) -> String {
    let function = |place: &str| place.split('+').next().unwrap_or(place).to_owned();
    let mut parts = vec![kind_name(event.kind).to_owned()];
    for handler in [&event.handler, &event.callback].into_iter().flatten() {
        parts.push(format!(
            "{} {} {}",
            handler.kind,
            handler.of.as_deref().unwrap_or_default(),
            handler
                .function
                .as_deref()
                .map(function)
                .unwrap_or_default()
        ));
    }
    if event.stack.is_empty() {
        // In user mode, or idle: the thread tells more than nothing.
        parts.push(event.comm.clone());
    }
    parts.extend(event.stack.iter().map(|place| function(place)));
    parts.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::irqsoff::made_up::event;

    #[test]
    fn each_stack_is_admitted_so_often_until_the_machine_is_started_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper/irqsoff.json");
        let load = |boot, most| Limit::load(&path, boot, most).expect("kept");
        let mut elsewhere = event();
        elsewhere.stack[1] = "ksoftirqd+0x10".to_owned();
        let mut later = event();
        later.stack[0] = "__do_softirq+0xff".to_owned();
        later.cpu = 0;
        let mut limit = load("one", 1);
        assert!(limit.admits(&event()));
        limit.add(&event()).expect("kept");
        assert!(!limit.admits(&later), "the same functions");
        assert!(limit.admits(&elsewhere));
        // Another smilat goes on from there.
        let mut limit = load("one", 2);
        assert!(limit.admits(&later));
        limit.add(&later).expect("kept");
        assert!(!limit.admits(&event()));
        assert!(load("two", 1).admits(&event()));
        assert!(!load("two", 0).admits(&elsewhere));
    }

    #[test]
    fn there_is_an_end_to_the_stacks_that_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut limit = Limit::load(&folder.path().join("irqsoff.json"), "one", 2).expect("begun");
        let known = event();
        limit.add(&known).expect("kept");
        limit
            .kept
            .logged
            .extend((1..STACKS).map(|stack| (stack.to_string(), 1)));
        let mut other = event();
        other.stack.clear();
        assert!(limit.admits(&known));
        assert!(!limit.admits(&other));
    }

    #[test]
    fn what_cannot_be_kept_is_told_and_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("irqsoff.json");
        let mut limit = Limit::load(&path, "one", 1).expect("begun");
        fs::create_dir(&path).expect("in its way");
        let error = limit.add(&event()).expect_err("in the way").to_string();
        assert!(
            error.contains(&format!("cannot write {}", path.display())),
            "{error}"
        );
        assert!(!limit.admits(&event()));
    }

    #[test]
    fn what_cannot_be_understood_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("irqsoff.json");
        fs::write(&path, "no JSON").expect("written");
        let limit = Limit::load(&path, "one", 1).expect("begun anew");
        assert!(limit.admits(&event()));
    }
}
