//! Which of the files beside a recording are smilat's own: others may have names like those that smilat gives, and are left
//! as they are.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use super::{lines::begins_like_ours, parts};

/// How a gzip file begins (RFC 1952).
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// As many links as may lead to a file one after the other (`path_resolution(7)`).
const LINKS: usize = 40;

/// Whether `path` is there and is anything but a file of a recording, compressed or not, or an empty one.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_foreign(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => return Ok(true),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Another smilat may be at work on it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut start = Vec::new();
    file.by_ref()
        .take(GZIP.len() as u64)
        .read_to_end(&mut start)?;
    let packed = start == GZIP;
    let whole = io::Cursor::new(start).chain(file);
    let mut text = Vec::new();
    // As long as the beginning of a line that can be told from others'.
    let read = if packed {
        MultiGzDecoder::new(whole).take(32).read_to_end(&mut text)
    } else {
        whole.take(32).read_to_end(&mut text)
    };
    match read {
        // Of one that ends too early, by a kill, what came before counts.
        Err(error) if text.is_empty() && error.kind() != io::ErrorKind::UnexpectedEof => {
            if packed {
                Ok(true)
            } else {
                Err(error)
            }
        }
        _ => Ok(!begins_like_ours(&text)),
    }
}

/// That `path` is not smilat's, for people.
pub(super) fn foreign(path: &Path) -> io::Error {
    io::Error::other(format!(
        "{} is in the way: it is no file of a recording, and is left as it is; move it away",
        path.display()
    ))
}

/// Whether `other` is a file of the recording at `path`, or would be one if it were made.
pub(super) fn includes(path: &Path, other: &Path) -> bool {
    if other.metadata().is_ok_and(|found| is_one_of(path, &found)) {
        return true;
    }
    let (Some(other), Some(name)) = (resolved(other), path.file_name()) else {
        return false;
    };
    let same_folder = parts::folder(path)
        .canonicalize()
        .is_ok_and(|folder| folder == parts::folder(&other));
    let named = |found| {
        parts::number(name, found).is_some()
            || parts::all_but_compressed(path)
                .iter()
                .any(|one| one.file_name() == Some(found))
    };
    same_folder && other.file_name().is_some_and(named)
}

/// Whether `found` is what is known of a file of the recording at `path`.
pub(super) fn is_one_of(path: &Path, found: &Metadata) -> bool {
    let compressed = parts::numbers(path).unwrap_or_default();
    let compressed = compressed
        .into_iter()
        .map(|number| parts::compressed(path, number));
    parts::all_but_compressed(path)
        .into_iter()
        .chain(compressed)
        .filter_map(|one| one.metadata().ok())
        .any(|one| (one.dev(), one.ino()) == (found.dev(), found.ino()))
}

/// Where `path` leads to, whether there is something or not; `None` where there cannot be.
fn resolved(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(path) = path.canonicalize() {
            return Some(path);
        }
        let Ok(to) = path.read_link() else {
            let folder = parts::folder(&path).canonicalize().ok()?;
            return Some(folder.join(path.file_name()?));
        };
        path = parts::folder(&path).join(to);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::recording::samples;

    #[test]
    fn only_what_begins_like_a_recording_or_is_empty_is_smilats() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("one");
        let pack = |text: &[u8]| {
            let mut packed =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            io::Write::write_all(&mut packed, text).expect("packed");
            packed.finish().expect("packed")
        };
        let ours = [samples::header(1), samples::line(1)].concat();
        let packed = pack(&ours);
        let own: [&[u8]; 6] = [
            b"",
            &ours,
            &samples::line(3),
            &packed,
            &packed[..packed.len() / 2],
            b"\x1f\x8bhalf",
        ];
        for (number, text) in own.into_iter().enumerate() {
            fs::write(&path, text).expect("written");
            assert!(!is_foreign(&path).expect("read"), "{number}");
        }
        for text in [
            &b"precious"[..],
            b"{\"precious\":1}",
            b"\x1f\x8bdamaged, not short",
            b"\0",
        ] {
            for text in [text.to_vec(), pack(text)] {
                fs::write(&path, &text).expect("written");
                assert!(is_foreign(&path).expect("read"), "{text:?}");
            }
        }
        let link = folder.path().join("link");
        fs::write(&path, &ours).expect("written");
        symlink(&path, &link).expect("a link");
        assert!(is_foreign(&link).expect("read"));
        assert!(is_foreign(folder.path()).expect("read"));
        assert!(!is_foreign(&folder.path().join("none")).expect("read"));
    }

    #[test]
    fn a_file_of_the_recording_is_known_by_every_name() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let path = at("r");
        let names = [
            "r",
            "r.1",
            "r.1.gz.tmp",
            "r.1.gz",
            "r.12.gz",
            ".r.smilat-lock",
        ];
        let others = ["s", "r.gz", "r.2", "r.old", "r.lock", "r.99999.gz"];
        symlink("to/r", at("dangling")).expect("a link");
        symlink(folder.path(), at("to")).expect("a link");
        // First none of them is there, then all are.
        for _ in 0..2 {
            for name in names {
                assert!(includes(&path, &at(name)), "{name}");
                assert!(includes(&path, &at("to").join(name)), "to/{name}");
            }
            for name in others {
                assert!(!includes(&path, &at(name)), "{name}");
            }
            assert!(includes(&path, &at("dangling")));
            assert!(!includes(&path, Path::new("/no/such/folder/r")));
            for name in names.iter().chain(&others) {
                fs::write(at(name), "").expect("written");
            }
        }
        fs::hard_link(at("r.12.gz"), at("other")).expect("a link");
        assert!(includes(&path, &at("other")));
    }
}
