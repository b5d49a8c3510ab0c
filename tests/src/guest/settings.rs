//! The tracing settings of the whole machine, which detectors share: what they are, what changed, and putting it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use smi_user::kernel::tracefs;

pub(super) const TRACING: &str = "/sys/kernel/tracing";

/// Settings of the top instance, apart from the folders of the tracers.
const FILES: [&str; 7] = [
    "buffer_size_kb",
    "current_tracer",
    "trace_options",
    "tracing_cpumask",
    "tracing_max_latency",
    "tracing_on",
    "tracing_thresh",
];

/// Contents of the settings, to the byte, and an empty text for each instance; by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, String>);

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

impl Settings {
    /// Reads them.
    ///
    /// # Panics
    /// When one cannot be read.
    pub(super) fn read() -> Self {
        let mut files: Vec<String> = FILES.map(str::to_owned).into();
        for folder in ["hwlat_detector", "osnoise"] {
            let entries = fs::read_dir(Path::new(TRACING).join(folder)).expect(folder);
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

    /// Has the machine be as it was when these were read, as far as it can be: a buffer that has grown stays so.
    ///
    /// # Panics
    /// When a setting cannot be put back.
    pub(super) fn put_back(&self) {
        // A tracer and its instance come first: they may hold the others.
        for change in self.changes(&Self::read()) {
            if change.before.is_none() {
                let tracer = path_of(&change.path).join("current_tracer");
                tracefs::write(&tracer, "nop").expect("the tracer of an instance");
                fs::remove_dir(path_of(&change.path)).expect("an instance");
            }
        }
        let tracer = self.0["current_tracer"].trim();
        tracefs::write(&path_of("current_tracer"), tracer).expect("current_tracer");
        // A width is refused while the window is shorter: what was refused is tried again after the others.
        for is_last in [false, true] {
            for change in self.changes(&Self::read()) {
                let Some(before) = &change.before else {
                    continue;
                };
                if change.path == "buffer_size_kb" {
                    continue;
                }
                let written = put_back(&change.path, before);
                assert!(!is_last || written.is_ok(), "{change}: {written:?}");
            }
        }
    }
}

fn path_of(file: &str) -> PathBuf {
    Path::new(TRACING).join(file)
}

fn put_back(file: &str, text: &str) -> Result<(), tracefs::TracefsError> {
    let write = |value| tracefs::write(&path_of(file), value);
    if file.ends_with("options") {
        // One word at a time.
        text.split_whitespace().try_for_each(write)
    } else {
        write(tracefs::chosen(text).unwrap_or(text.trim()))
    }
}
