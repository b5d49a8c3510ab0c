//! Changes to the kernel's settings that are put back: each is written down before it is made, and undone at exit, on
//! panic, or by the next start after a SIGKILL.
//!
//! Each [`Area`] of settings has a journal and a lock of its own, so that one process may hold several of them. They lie
//! in `/run/smilat`, which no reboot survives, just as the settings themselves do not. The lock keeps two smilats from
//! changing the same settings; the kernel lets go of it when its holder dies.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::tracefs::{self, TracefsError};

/// Where the journals and the locks lie.
pub const FOLDER: &str = "/run/smilat";

/// Settings that belong together: one process at a time changes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Of the kernel's tracers.
    Tracing,
    /// Of the CPUs' own counters.
    Counters,
}

impl Area {
    /// All of them.
    const ALL: [Self; 2] = [Self::Tracing, Self::Counters];

    /// What they are called.
    fn name(self) -> &'static str {
        match self {
            Self::Tracing => "the kernel's tracing settings",
            Self::Counters => "the settings of the CPUs' counters",
        }
    }

    /// The file of the journal. That of tracing has the name it had when it was the only one, so that what an older
    /// smilat left is found.
    fn journal(self) -> &'static str {
        match self {
            Self::Tracing => "changes.json",
            Self::Counters => "counters.json",
        }
    }

    /// The file of the lock.
    fn lock(self) -> &'static str {
        match self {
            Self::Tracing => "lock",
            Self::Counters => "counters.lock",
        }
    }
}

/// Why settings could not be changed, or not be put back.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// Another smilat has them.
    #[error(
        "{} are in use by {holder}; wait until it ends, or end it, and start again",
        .area.name()
    )]
    Held {
        /// Which.
        area: Area,
        /// By whom, in words.
        holder: String,
    },
    /// A setting could not be read or written.
    #[error(transparent)]
    Setting(#[from] TracefsError),
    /// The journal could not be kept.
    #[error("cannot keep the journal of changes at {path}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder could not be made or removed.
    #[error("cannot {what} {path}")]
    Folder {
        /// What was to be done with it.
        what: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One change, with what undoes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// A value was written to a file.
    Wrote {
        path: PathBuf,
        /// What to write to have the old setting back; not always what the file showed.
        undo: String,
    },
    /// A folder was made.
    Made { path: PathBuf },
}

/// What the journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    /// Who made the changes, in words.
    holder: String,
    changes: Vec<Change>,
}

/// The changes of this process. Dropping it puts everything back.
#[derive(Debug)]
pub struct Changes {
    area: Area,
    journal: Journal,
    folder: PathBuf,
    /// Held for as long as anything is changed.
    lock: File,
}

impl Changes {
    /// Takes the lock of `area` and first puts back what a killed process left of it.
    ///
    /// `purpose` tells others what this process is doing. Also returns what was put back.
    ///
    /// # Errors
    /// When another process holds the settings, or what was left cannot be put back.
    pub fn begin(area: Area, purpose: &str) -> Result<(Self, Vec<String>), ChangeError> {
        Self::begin_in(Path::new(FOLDER), area, purpose)
    }

    pub(crate) fn begin_in(
        folder: &Path,
        area: Area,
        purpose: &str,
    ) -> Result<(Self, Vec<String>), ChangeError> {
        let failed = |source| ChangeError::Journal {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join(area.lock())).map_err(failed)?;
        let left = read_journal(folder, area)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = left.map_or_else(|| "another smilat".to_owned(), |j| j.holder);
                return Err(ChangeError::Held { area, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut changes = Self {
            area,
            journal: left.unwrap_or_else(|| Journal {
                holder: String::new(),
                changes: Vec::new(),
            }),
            folder: folder.to_owned(),
            lock,
        };
        let put_back = changes.undo_all()?;
        changes.journal.holder = format!("process {} ({purpose})", std::process::id());
        changes.save()?;
        Ok((changes, put_back))
    }

    /// Writes `value` to the setting at `path`, whose file shows the value itself.
    ///
    /// # Errors
    /// When the kernel refuses, or reads back something else.
    pub fn set(&mut self, path: PathBuf, value: &str) -> Result<(), ChangeError> {
        let was = tracefs::read(&path)?;
        let undo = tracefs::chosen(&was).unwrap_or_else(|| was.trim_end());
        if undo == value {
            return Ok(());
        }
        self.write(&path, value, undo.to_owned())?;
        let now = tracefs::read(&path)?;
        let found = tracefs::chosen(&now).unwrap_or_else(|| now.trim_end());
        if found == value {
            Ok(())
        } else {
            Err(TracefsError::NotTaken {
                wanted: value.to_owned(),
                found: found.to_owned(),
                path,
            }
            .into())
        }
    }

    /// Writes `value` to `path`; `undo` is what to write to have the old setting back.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn write(&mut self, path: &Path, value: &str, undo: String) -> Result<(), ChangeError> {
        self.note(Change::Wrote {
            path: path.to_owned(),
            undo,
        })?;
        Ok(tracefs::write(path, value)?)
    }

    /// Makes the folder `path`.
    ///
    /// # Errors
    /// When it cannot be made, or is there already.
    pub fn make(&mut self, path: PathBuf) -> Result<(), ChangeError> {
        self.note(Change::Made { path: path.clone() })?;
        let made = fs::create_dir(&path);
        if made.is_err() {
            // Somebody else's, if it is there.
            self.journal.changes.pop();
            self.save()?;
        }
        made.map_err(|source| ChangeError::Folder {
            what: "make the folder",
            path,
            source,
        })
    }

    /// Puts everything back, the newest change first; says what was put back. What fails stays in the journal with all
    /// that came before it: settings depend on each other, and older ones may only be put back after newer ones.
    ///
    /// # Errors
    /// The failure at which it stopped.
    pub fn undo_all(&mut self) -> Result<Vec<String>, ChangeError> {
        let mut put_back = Vec::new();
        while let Some(change) = self.journal.changes.last() {
            put_back.extend(change.undo()?);
            self.journal.changes.pop();
            self.save()?;
        }
        Ok(put_back)
    }

    fn note(&mut self, change: Change) -> Result<(), ChangeError> {
        self.journal.changes.push(change);
        self.save()
    }

    /// Writes the journal so that a kill at any moment leaves the old one or the new one.
    fn save(&self) -> Result<(), ChangeError> {
        let path = self.folder.join(self.area.journal());
        let save = || {
            let new = path.with_extension("new");
            let text = serde_json::to_vec(&self.journal).map_err(io::Error::other)?;
            fs::write(&new, text)?;
            fs::rename(&new, &path)
        };
        save().map_err(|source| ChangeError::Journal {
            path: path.clone(),
            source,
        })
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        match self.undo_all() {
            Ok(_) => {
                // Nothing is changed any more. A journal that stays all the same is empty and harms nobody, and the
                // lock ends with this process at the latest.
                let _removed = fs::remove_file(self.folder.join(self.area.journal()));
                let _unlocked = self.lock.unlock();
            }
            Err(error) => log::error!(
                "{error}; `smilat restore` tries again to put back what is left to put back"
            ),
        }
    }
}

impl Change {
    /// Undoes this change; says what was put back, if anything had to be.
    fn undo(&self) -> Result<Option<String>, ChangeError> {
        match self {
            Self::Wrote { path, undo } => {
                if !path.exists() {
                    // Went away with its folder or its mount.
                    return Ok(None);
                }
                tracefs::write(path, undo)?;
                Ok(Some(format!("{} is \"{undo}\" again", path.display())))
            }
            Self::Made { path } => match fs::remove_dir(path) {
                Ok(()) => Ok(Some(format!("{} is gone again", path.display()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(ChangeError::Folder {
                    what: "remove the folder",
                    path: path.clone(),
                    source,
                }),
            },
        }
    }
}

/// Puts back what killed processes left, in every area; says what was put back, and what failed beside it. `purpose` tells
/// others what this process is doing meanwhile.
pub fn restore(purpose: &str) -> (Vec<String>, Vec<ChangeError>) {
    restore_in(Path::new(FOLDER), purpose)
}

fn restore_in(folder: &Path, purpose: &str) -> (Vec<String>, Vec<ChangeError>) {
    let mut all = Vec::new();
    let mut failures = Vec::new();
    for area in Area::ALL {
        match Changes::begin_in(folder, area, purpose) {
            Ok((_changes, put_back)) => all.extend(put_back),
            Err(error) => failures.push(error),
        }
    }
    (all, failures)
}

/// The same at the start of a run: only where something was left, and nobody is at work on it.
pub fn restore_left() -> (Vec<String>, Vec<ChangeError>) {
    restore_left_in(Path::new(FOLDER))
}

fn restore_left_in(folder: &Path) -> (Vec<String>, Vec<ChangeError>) {
    let mut all = Vec::new();
    let mut failures = Vec::new();
    for area in Area::ALL {
        let left = match read_journal(folder, area) {
            Ok(journal) => journal.is_some_and(|journal| !journal.changes.is_empty()),
            Err(error) => {
                failures.push(error);
                false
            }
        };
        if !left {
            continue;
        }
        match Changes::begin_in(folder, area, "putting back what was left") {
            Ok((_changes, put_back)) => all.extend(put_back),
            // It is at work, and puts back what it changed itself.
            Err(ChangeError::Held { .. }) => {}
            Err(error) => failures.push(error),
        }
    }
    (all, failures)
}

fn read_journal(folder: &Path, area: Area) -> Result<Option<Journal>, ChangeError> {
    let path = folder.join(area.journal());
    let failed = |source| ChangeError::Journal {
        path: path.clone(),
        source,
    };
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        folder: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            fs::write(folder.path().join("thresh"), "0\n").expect("write");
            fs::write(folder.path().join("mode"), "none [round-robin] per-cpu\n").expect("write");
            Self { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn begin(&self) -> Result<(Changes, Vec<String>), ChangeError> {
            self.begin_area(Area::Tracing)
        }

        fn begin_area(&self, area: Area) -> Result<(Changes, Vec<String>), ChangeError> {
            Changes::begin_in(&self.path("run"), area, "a test")
        }

        fn thresh(&self) -> String {
            fs::read_to_string(self.path("thresh")).expect("read")
        }
    }

    /// A kill runs no destructor; the kernel closes the lock.
    fn kill(changes: Changes) {
        let killed = std::mem::ManuallyDrop::new(changes);
        // SAFETY: the value is not used again.
        drop(unsafe { std::ptr::read(&raw const killed.lock) });
    }

    #[test]
    fn one_process_may_hold_several_areas() {
        let machine = Machine::new();
        let (mut tracing, _) = machine.begin().expect("begin");
        let (mut counters, _) = machine.begin_area(Area::Counters).expect("both");
        tracing.set(machine.path("thresh"), "10").expect("set");
        counters.set(machine.path("mode"), "none").expect("set");
        let error = machine.begin_area(Area::Counters).expect_err("held");
        assert!(error.to_string().contains("the CPUs' counters"), "{error}");
        drop(counters);
        let mode = fs::read_to_string(machine.path("mode")).expect("read");
        assert_eq!(
            (mode.as_str(), machine.thresh().as_str()),
            ("round-robin", "10")
        );
    }

    #[test]
    fn what_was_left_in_any_area_is_put_back_unless_its_holder_lives() {
        let machine = Machine::new();
        let run = machine.path("run");
        assert!(restore_left_in(&run).0.is_empty() && !run.exists());
        let (mut left, _) = machine.begin_area(Area::Counters).expect("begin");
        left.set(machine.path("mode"), "none").expect("set");
        kill(left);
        let (mut alive, _) = machine.begin().expect("begin");
        alive.set(machine.path("thresh"), "10").expect("set");
        let (put_back, failures) = restore_left_in(&run);
        assert!(
            put_back.len() == 1 && failures.is_empty(),
            "{put_back:?} {failures:?}"
        );
        assert!(
            put_back[0].contains("mode is \"round-robin\" again"),
            "{put_back:?}"
        );
        assert_eq!(machine.thresh(), "10");
        // To who asks for it by hand, it is told.
        let (put_back, failures) = restore_in(&run, "smilat restore");
        assert!(put_back.is_empty(), "{put_back:?}");
        assert!(
            matches!(
                failures[..],
                [ChangeError::Held {
                    area: Area::Tracing,
                    ..
                }]
            ),
            "{failures:?}"
        );
        drop(alive);
        assert_eq!(machine.thresh(), "0");
    }

    #[test]
    fn a_journal_from_before_there_were_areas_is_put_back() {
        let machine = Machine::new();
        fs::create_dir(machine.path("run")).expect("folder");
        let journal = serde_json::json!({
            "holder": "process 1 (hwlat detector)",
            "changes": [{"wrote": {"path": machine.path("thresh"), "undo": "7"}}],
        });
        fs::write(machine.path("run/changes.json"), journal.to_string()).expect("write");
        let (put_back, failures) = restore_in(&machine.path("run"), "smilat restore");
        assert!(
            put_back.len() == 1 && failures.is_empty(),
            "{put_back:?} {failures:?}"
        );
        assert_eq!(machine.thresh(), "7");
    }

    #[test]
    fn what_was_changed_is_put_back_newest_first() {
        let machine = Machine::new();
        let (mut changes, left) = machine.begin().expect("begin");
        assert_eq!(left, [""; 0]);
        changes.make(machine.path("instance")).expect("made");
        changes.set(machine.path("thresh"), "10").expect("set");
        changes.set(machine.path("thresh"), "20").expect("set");
        assert!(machine.path("instance").is_dir());
        let put_back = changes.undo_all().expect("undone");
        assert_eq!(put_back.len(), 3);
        assert!(put_back[0].ends_with("is \"10\" again"), "{put_back:?}");
        assert!(put_back[1].ends_with("is \"0\" again"), "{put_back:?}");
        assert!(!machine.path("instance").exists());
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_settings() {
        let machine = Machine::new();
        let (first, _) = machine.begin().expect("begin");
        let error = machine.begin().expect_err("held").to_string();
        let holder = format!("process {} (a test)", std::process::id());
        assert!(error.contains(&holder), "{error}");
        drop(first);
        machine.begin().expect("free again");
    }

    #[test]
    fn what_a_killed_process_left_is_put_back_by_the_next() {
        let machine = Machine::new();
        let (mut changes, _) = machine.begin().expect("begin");
        changes.set(machine.path("thresh"), "10").expect("set");
        kill(changes);
        let (_next, put_back) = machine.begin().expect("begin");
        assert_eq!(put_back.len(), 1, "{put_back:?}");
        let thresh = fs::read_to_string(machine.path("thresh")).expect("read");
        assert_eq!(thresh, "0");
    }

    #[test]
    fn a_value_that_is_there_already_is_not_written() {
        let machine = Machine::new();
        let (mut changes, _) = machine.begin().expect("begin");
        changes
            .set(machine.path("mode"), "round-robin")
            .expect("set");
        assert_eq!(changes.journal.changes, []);
    }

    #[test]
    fn a_value_the_kernel_did_not_take_is_told() {
        let machine = Machine::new();
        let (mut changes, _) = machine.begin().expect("begin");
        // Always reads empty, whatever is written.
        let error = changes
            .set("/dev/null".into(), "10")
            .expect_err("not taken");
        assert!(
            error.to_string().contains("reads \"\" after \"10\""),
            "{error}"
        );
    }
}
