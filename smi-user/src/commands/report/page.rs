//! Where a page is written, and where none may be.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::recording::{self, Reader, RecordingError};

/// Refuses a page that would destroy a recording: one of `inputs`, or another.
///
/// # Errors
/// When it would.
pub(super) fn check(page: &Path, inputs: &[PathBuf]) -> Result<()> {
    // What is not there, or no file, holds nothing.
    let Some(place) = place(page) else {
        return Ok(());
    };
    for input in inputs {
        let mut files = recording::files(input)?;
        files.push(input.clone());
        if files.iter().any(|file| self::place(file) == Some(place)) {
            bail!(
                "--output {} is a recording that is to be read, and the page would take its place; give the page another \
                 name",
                page.display()
            );
        }
    }
    match Reader::open(page).and_then(|mut reader| reader.next_line()) {
        Ok(_) | Err(RecordingError::Newer { .. } | RecordingError::Iommu(_)) => bail!(
            "--output {} holds a recording, and the page would take its place; give the page another name, or delete the \
             recording first",
            page.display()
        ),
        // Whether it can be written is seen when it is.
        Err(_) => Ok(()),
    }
}

/// Where a file's content is.
fn place(file: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(file).ok()?;
    found.is_file().then(|| (found.dev(), found.ino()))
}

/// Writes the whole page or leaves what `file` held: a page is replaced only by one that is complete.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(file: &Path, page: &str) -> Result<()> {
    replace(file, page).with_context(|| format!("cannot write {}", file.display()))
}

fn replace(file: &Path, page: &str) -> io::Result<()> {
    // A device or a pipe is written to; only files can be replaced.
    if file.exists() && !file.is_file() {
        return fs::write(file, page);
    }
    // Where a link leads to is replaced, and not the link.
    let file = match fs::read_link(file) {
        Ok(to) => fs::canonicalize(file).unwrap_or_else(|_| folder(file).join(to)),
        Err(_) => file.to_owned(),
    };
    let mut new = tempfile::Builder::new()
        .prefix(".smilat-page-")
        // As every new file, less what the umask takes away.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder(&file))?;
    if let Ok(found) = fs::metadata(&file) {
        new.as_file().set_permissions(found.permissions())?;
    }
    new.write_all(page.as_bytes())?;
    new.persist(&file)?;
    Ok(())
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A page where one can be: `write` after `check`, as the command has it.
    fn page(file: &Path, inputs: &[PathBuf]) -> Result<()> {
        check(file, inputs)?;
        write(file, "<!doctype html>")
    }

    #[test]
    fn recordings_are_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let (input, part, other) = (path("a"), path("a.1.gz"), path("b"));
        for file in [&input, &part] {
            fs::write(file, "whatever").expect("written");
        }
        fs::write(&other, "{\"schema_version\":99}\n").expect("written");
        symlink(&input, path("link")).expect("a link");
        for name in ["a", "a.1.gz", "b", "link"] {
            let error = page(&path(name), std::slice::from_ref(&input)).expect_err("refused");
            assert!(
                error.to_string().contains("give the page another name"),
                "{error:#}"
            );
        }
        assert_eq!(fs::read(&input).expect("there"), b"whatever");
    }

    #[test]
    fn pages_are_written_where_links_lead_and_keep_their_permissions() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("page"), "an older page").expect("written");
        fs::set_permissions(path("page"), Permissions::from_mode(0o640)).expect("set");
        symlink("page", path("link")).expect("a link");
        symlink("new", path("nowhere")).expect("a link");
        for (name, to) in [("link", "page"), ("nowhere", "new"), ("plain", "plain")] {
            page(&path(name), &[]).expect("written");
            assert_eq!(fs::read(path(to)).expect("there"), b"<!doctype html>");
        }
        assert!(path("link").is_symlink() && path("nowhere").is_symlink());
        let mode = |name| path(name).metadata().expect("there").mode() & 0o777;
        assert_eq!(mode("page"), 0o640);
        // As any other new file, whatever the umask.
        fs::write(path("any"), "").expect("written");
        assert_eq!(mode("plain"), mode("any"));
        let left: Vec<_> = fs::read_dir(folder.path()).expect("read").collect();
        assert_eq!(left.len(), 6);
    }
}
