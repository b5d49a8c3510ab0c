//! The names of a recording's files: `FILE` is being written; `FILE.1.gz` was before it, `FILE.2.gz` before that, and so on.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// The highest number of a part: no more can be kept. What has a higher one, such as a date, is not smilat's.
const MOST: u64 = 9999;

/// The part `number`, put aside and compressed; 1 is the newest.
pub(super) fn compressed(path: &Path, number: u64) -> PathBuf {
    with(path, &format!(".{number}.gz"))
}

/// The newest part, put aside but not compressed yet.
pub(super) fn plain(path: &Path) -> PathBuf {
    with(path, ".1")
}

/// What [`compressed`] 1 is until it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    with(path, ".1.gz.tmp")
}

/// Held by the process that records. A name that nobody else gives: `FILE.lock` may be some other program's.
pub(super) fn lock(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".smilat-lock");
    folder(path).join(name)
}

/// All names of `path`'s recording that there are or may be, but those of compressed parts.
pub(super) fn all_but_compressed(path: &Path) -> [PathBuf; 4] {
    [path.to_owned(), plain(path), unfinished(path), lock(path)]
}

/// The folder that all of them are in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The numbers of the compressed parts that are there.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn numbers(path: &Path) -> io::Result<BTreeSet<u64>> {
    let Some(name) = path.file_name() else {
        return Ok(BTreeSet::new());
    };
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(folder(path))? {
        numbers.extend(number(name, &entry?.file_name()));
    }
    Ok(numbers)
}

/// The number of the compressed part `found` of a recording called `name`, if it is one by its name.
pub(super) fn number(name: &OsStr, found: &OsStr) -> Option<u64> {
    let rest = found.as_bytes().strip_prefix(name.as_bytes())?;
    let digits = str::from_utf8(rest)
        .ok()?
        .strip_prefix('.')?
        .strip_suffix(".gz")?;
    let number: u64 = digits.parse().ok()?;
    // "01" and "+1" are not names that this module gives.
    ((1..=MOST).contains(&number) && number.to_string() == digits).then_some(number)
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_given_here_are_parts() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("gaps.ndjson");
        for name in [
            "gaps.ndjson",
            "gaps.ndjson.1",
            "gaps.ndjson.2.gz",
            "gaps.ndjson.10.gz",
            "gaps.ndjson.03.gz",
            "gaps.ndjson.0.gz",
            "gaps.ndjson.old.gz",
            "gaps.ndjson.20261122.gz",
            "gaps.ndjson.1.gz.tmp",
            "other.ndjson.4.gz",
        ] {
            fs::write(folder.path().join(name), "").expect("written");
        }
        let numbers: Vec<u64> = numbers(&path).expect("read").into_iter().collect();
        assert_eq!(numbers, [2, 10]);
    }
}
