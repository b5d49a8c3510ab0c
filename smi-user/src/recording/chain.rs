//! The files of one recording, oldest first.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{lines::RecordingError, parts};

/// How often the list is made anew because files were put aside meanwhile.
const TRIES: usize = 20;

/// A file of a recording, opened.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) content: Box<dyn Read + Send>,
}

/// `path` and what was put aside from it, oldest first; standard input for `-`.
///
/// All are opened at once, and again if that was not done at one moment: smilat may be recording, and put files aside.
///
/// # Errors
/// When there is nothing, or one cannot be opened.
pub(super) fn open(path: &Path) -> Result<Vec<Part>, RecordingError> {
    if path == Path::new("-") {
        return Ok(vec![Part {
            path: "standard input".into(),
            content: Box::new(io::stdin()),
        }]);
    }
    open_listed(path, names)
}

/// [`open`] with the names that `list` gives, which it is asked for anew when files were put aside meanwhile.
fn open_listed(
    path: &Path,
    mut list: impl FnMut(&Path) -> io::Result<Vec<PathBuf>>,
) -> Result<Vec<Part>, RecordingError> {
    let failed = |path: &Path, why| RecordingError::Io {
        path: path.to_owned(),
        why,
    };
    let mut moved = None;
    for _ in 0..TRIES {
        let names = list(path).map_err(|why| failed(path, why))?;
        let opened: Result<Vec<(PathBuf, Opened)>, RecordingError> = names
            .iter()
            .map(|name| match File::open(name) {
                Ok(file) => Ok((name.clone(), Opened::File(file))),
                // The others can be read nevertheless.
                Err(why) if name != path && why.kind() != io::ErrorKind::NotFound => {
                    Ok((name.clone(), Opened::Refused(why)))
                }
                Err(why) => Err(failed(name, why)),
            })
            .collect();
        match opened {
            Ok(files) if unmoved(&files) && list(path).is_ok_and(|now| now == names) => {
                return Ok(files
                    .into_iter()
                    .map(|(path, content)| Part {
                        path,
                        content: Box::new(content),
                    })
                    .collect());
            }
            Ok(_) => {}
            // It may have been put aside since it was listed, even if it is the only one.
            Err(RecordingError::Io { path, why }) if why.kind() == io::ErrorKind::NotFound => {
                moved = Some(RecordingError::Io { path, why });
            }
            Err(error) => return Err(error),
        }
    }
    Err(moved.unwrap_or_else(|| {
        failed(
            path,
            io::Error::other("it is rotated faster than it can be opened; try again"),
        )
    }))
}

/// The files that [`super::Reader::open`] reads when it is given `path`, oldest first.
///
/// # Errors
/// When it cannot be told what there is.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    if path == Path::new("-") {
        return Ok(Vec::new());
    }
    names(path).map_err(|why| RecordingError::Io {
        path: path.to_owned(),
        why,
    })
}

/// What may lie beside the recording `path` and is not to be read: what another of its files holds too, and locks.
pub fn beside(path: &Path) -> Vec<PathBuf> {
    let mut beside = vec![parts::unfinished(path)];
    let lock = parts::lock(path);
    // Nothing but a number is in it.
    if lock.metadata().is_ok_and(|found| found.len() < 64) {
        beside.push(lock);
    }
    beside
}

/// The names, oldest first.
fn names(path: &Path) -> io::Result<Vec<PathBuf>> {
    let there = path.try_exists()?;
    let numbers = match parts::numbers(path) {
        Ok(numbers) => numbers,
        // A folder that cannot be listed: the file itself can still be read.
        Err(_) if there => return Ok(vec![path.to_owned()]),
        Err(error) => return Err(error),
    };
    let mut names: Vec<PathBuf> = numbers
        .iter()
        .rev()
        .map(|number| parts::compressed(path, *number))
        .collect();
    // Its compressed form is there only once it is whole.
    let plain = parts::plain(path);
    if !numbers.contains(&1) && plain.is_file() {
        names.push(plain);
    }
    if there || names.is_empty() {
        names.push(path.to_owned());
    }
    Ok(names)
}

/// A file, opened or not.
enum Opened {
    File(File),
    /// Why it could not be; told when it is its turn.
    Refused(io::Error),
}

impl Read for Opened {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(to),
            Self::Refused(why) => Err(io::Error::new(why.kind(), why.to_string())),
        }
    }
}

/// Whether each file still has the name that it was opened by.
fn unmoved(files: &[(PathBuf, Opened)]) -> bool {
    files.iter().all(|(path, opened)| {
        let Opened::File(file) = opened else {
            return true;
        };
        match (path.metadata(), file.metadata()) {
            (Ok(named), Ok(opened)) => (named.dev(), named.ino()) == (opened.dev(), opened.ino()),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_only_file_may_be_put_aside_between_listing_and_opening() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gaps.ndjson");
        fs::write(&path, "older").expect("written");
        let mut listings = 0;
        let parts = open_listed(&path, |path| {
            let listed = names(path);
            listings += 1;
            if listings == 1 {
                fs::rename(path, parts::plain(path)).expect("put aside");
            } else if listings == 2 {
                fs::write(path, "newer").expect("written");
            }
            listed
        });
        let contents: Vec<String> = parts
            .expect("it opens")
            .into_iter()
            .map(|mut part| {
                let mut content = String::new();
                part.content.read_to_string(&mut content).expect("read");
                content
            })
            .collect();
        assert_eq!(contents, ["older", "newer"]);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none.ndjson");
        let Err(RecordingError::Io { path: told, why }) = open(&path) else {
            panic!("it opened");
        };
        assert_eq!((told, why.kind()), (path, io::ErrorKind::NotFound));
    }
}
