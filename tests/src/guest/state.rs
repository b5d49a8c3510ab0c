//! The tracing settings of the whole machine, which detectors share: what they are, what changed, and putting it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use smi_user::kernel::tracefs;

pub(super) const TRACING: &str = "/sys/kernel/tracing";

/// State of the top instance, apart from the folders of the tracers.
const FILES: [&str; 5] = [
    "current_tracer",
    "trace_options",
    "tracing_cpumask",
    "tracing_on",
    "tracing_thresh",
];

/// Contents of the settings, to the byte, and an empty text for each instance; by path.
///
/// Two things are not among them that the first use of a tracer changes for good:
/// - The threshold that hwlat takes when `tracing_thresh` is 0, which no file shows. It is the one that hwlat's last user
///   left it with (`last_tracing_thresh` in `kernel/trace/trace_hwlat.c`).
/// - `buffer_size_kb`, at first `7 (expanded: 1408)`. A tracer in the top instance lets the buffer grow to 1410 kB. In
///   6.1 a tracer in any instance does away with the growing, and leaves the top one with 7 kB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State(BTreeMap<String, String>);

/// What became of one setting; `None` where there is no such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// From the tracing file system's root.
    pub(super) path: String,
    /// To the byte.
    pub(super) before: Option<String>,
    /// To the byte.
    pub(super) after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            before,
            after,
        } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "{path} {before:?} -> {after:?}"),
            (None, _) => write!(f, "{path} is new"),
            (_, None) => write!(f, "{path} is gone"),
        }
    }
}

impl State {
    /// Reads them.
    ///
    /// # Panics
    /// When one cannot be read.
    pub(super) fn read() -> Self {
        // Stock kernels have fewer of them.
        let is_there = |file: &&&str| path_of(file).exists();
        let mut files: Vec<String> = FILES
            .iter()
            .filter(is_there)
            .map(|file| (*file).to_owned())
            .collect();
        for folder in ["hwlat_detector", "osnoise"].iter().filter(is_there) {
            let entries = fs::read_dir(path_of(folder)).expect(folder);
            files.extend(entries.filter_map(|entry| {
                let entry = entry.expect("an entry");
                // 6.12 keeps its per-CPU files of timerlat in a folder there; they are no settings.
                let is_setting = entry.file_type().expect("a type").is_file();
                is_setting.then(|| format!("{folder}/{}", entry.file_name().to_string_lossy()))
            }));
        }
        let mut all: BTreeMap<String, String> = files
            .into_iter()
            .map(|file| {
                let text = tracefs::read(&path_of(&file)).expect(&file);
                (file, text)
            })
            .collect();
        let instances = fs::read_dir(path_of("instances")).expect("instances");
        for instance in instances {
            let name = instance.expect("an entry").file_name();
            all.insert(
                format!("instances/{}", name.to_string_lossy()),
                String::new(),
            );
        }
        Self(all)
    }

    /// How `after` differs from these.
    pub(super) fn changes(&self, after: &Self) -> Vec<Change> {
        let paths: BTreeSet<&String> = self.0.keys().chain(after.0.keys()).collect();
        paths
            .into_iter()
            .filter(|path| self.0.get(*path) != after.0.get(*path))
            .map(|path| Change {
                path: path.clone(),
                before: self.0.get(path).cloned(),
                after: after.0.get(path).cloned(),
            })
            .collect()
    }

    /// Has the machine be as it was when these were read; returns what could not be put back.
    pub(super) fn put_back(&self) -> Vec<Change> {
        let changes = || self.changes(&Self::read());
        // Tracers first: they hold on to their instances, and change thresholds and options as they end.
        for change in changes() {
            if change.path == "current_tracer" || change.before.is_none() {
                change.undo();
            }
        }
        // A width is refused as long as the window is shorter: what was refused is tried again.
        changes().iter().for_each(Change::undo);
        changes().iter().for_each(Change::undo);
        changes()
    }
}

impl Change {
    /// Undoes it; where that fails, it shows by the setting.
    fn undo(&self) {
        let path = path_of(&self.path);
        let write = |value: &str| {
            let _written = tracefs::write(&path, value);
        };
        match &self.before {
            None => {
                let _stopped = tracefs::write(&path.join("current_tracer"), "nop");
                let _removed = fs::remove_dir(&path);
            }
            // One word at a time.
            Some(words) if self.path.ends_with("options") => {
                words.split_whitespace().for_each(write);
            }
            Some(text) => write(tracefs::chosen(text).unwrap_or(text.trim())),
        }
    }
}

fn path_of(file: &str) -> PathBuf {
    Path::new(TRACING).join(file)
}
