//! Debian's packages, downloaded and unpacked into the cache. Nothing is installed.

use std::{
    fs, iter,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::sh;

/// Makes `dir` by `make`, unless it is there. `make` works in a folder beside it, so that what was begun and not
/// finished is never taken for the whole.
pub(crate) fn once(dir: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let begun = dir.with_added_extension(format!("begun-{}", process::id()));
    fs::create_dir_all(&begun).with_context(|| format!("cannot make {}", begun.display()))?;
    let made = make(&begun);
    if made.is_err() {
        // What went wrong is worth more than that the rest could not be removed.
        let _removed = fs::remove_dir_all(&begun);
    }
    made?;
    match fs::rename(&begun, dir) {
        // Another checkout, which shares the cache, was faster.
        Err(_) if dir.is_dir() => {
            fs::remove_dir_all(&begun).with_context(|| format!("cannot remove {}", begun.display()))
        }
        renamed => renamed.with_context(|| format!("cannot make {}", dir.display())),
    }
}

/// The newest package whose name matches `pattern`. Versions come and go on the mirrors, so none is fixed here.
pub(crate) fn newest(pattern: &str) -> Result<String> {
    need_apt()?;
    let search = || -> Result<Option<String>> {
        let found = sh::read(Command::new("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(found
            .lines()
            .filter_map(|line| line.split(' ').next())
            .max_by_key(|name| numbers(name))
            .map(str::to_owned))
    };
    if let Some(package) = search()? {
        return Ok(package);
    }
    update()?;
    search()?.with_context(|| format!("no Debian package matches {pattern}"))
}

/// The version of a package that would be downloaded.
pub(crate) fn version(package: &str) -> Result<String> {
    need_apt()?;
    let show = || sh::read(Command::new("apt-cache").args(["show", "--no-all-versions", package]));
    let shown = if let Ok(shown) = show() {
        shown
    } else {
        update()?;
        show()?
    };
    shown
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .map(str::to_owned)
        .with_context(|| format!("apt-cache names no version of {package}:\n{shown}"))
}

/// The numbers in a package's name, by which versions compare.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// What apt would install for `package` and is not there yet.
pub(crate) fn to_install(package: &str) -> Result<Vec<String>> {
    need_apt()?;
    let simulate = || {
        sh::read(Command::new("apt-get").args([
            "--simulate",
            "install",
            "--no-install-recommends",
            package,
        ]))
    };
    let plan = if let Ok(plan) = simulate() {
        plan
    } else {
        update()?;
        simulate()?
    };
    let packages: Vec<String> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    // It may be installed, but too old for `PATH` to have been enough.
    ensure!(
        packages.iter().any(|planned| planned == package),
        "{package} is installed, yet what it brings is not usable from PATH"
    );
    Ok(packages)
}

/// A package, and all packages of libraries that it needs, directly or not.
pub(crate) fn with_libraries(package: &str) -> Result<Vec<String>> {
    need_apt()?;
    let depends = || {
        sh::read(Command::new("apt-cache").args([
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-enhances",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            package,
        ]))
    };
    let tree = if let Ok(tree) = depends() {
        tree
    } else {
        update()?;
        depends()?
    };
    let mut packages: Vec<String> = libraries(&tree).map(str::to_owned).collect();
    packages.push(package.to_owned());
    packages.sort_unstable();
    packages.dedup();
    Ok(packages)
}

/// The libraries among what `apt-cache depends` lists: names of packages at the beginning of a line, below each what it needs.
/// Parts of Python that are named as libraries are not linked with.
fn libraries(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter(|line| {
        let linked = line.starts_with("lib") || *line == "zlib1g";
        linked && !line.ends_with("-minimal") && !line.ends_with("-stdlib")
    })
}

/// Unpacks packages into `root`.
pub(crate) fn unpack(packages: &[String], root: &Path) -> Result<()> {
    for deb in download(packages, root)? {
        sh::run(Command::new("dpkg").arg("-x").arg(&deb).arg(root))?;
        fs::remove_file(deb)?;
    }
    Ok(())
}

/// Downloads packages into `dir`; returns the files.
pub(crate) fn download(packages: &[String], dir: &Path) -> Result<Vec<PathBuf>> {
    eprintln!("setup: downloading {}", packages.join(" "));
    let fetch = || {
        sh::run(
            Command::new("apt-get")
                .current_dir(dir)
                // Root's home is closed to the user that apt downloads as.
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                .args(packages)
                .stdout(Stdio::null()),
        )
    };
    if fetch().is_err() {
        // Lists that are out of date name files which the mirror no longer has.
        update()?;
        fetch()?;
    }
    let mut debs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            debs.push(path);
        }
    }
    ensure!(
        debs.len() == packages.len(),
        "{} packages were asked for, {} came",
        packages.len(),
        debs.len()
    );
    Ok(debs)
}

/// Extracts the files of a package that match `wanted` into `dir`.
pub(crate) fn extract(deb: &Path, dir: &Path, wanted: &[String]) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut dpkg = Command::new("dpkg")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg")?;
    let tarfile = dpkg.stdout.take().context("dpkg has no output")?;
    let unpacked = sh::run(
        Command::new("tar")
            .args(["-x", "--wildcards", "-C"])
            .arg(dir)
            .args(wanted)
            .stdin(tarfile),
    );
    let status = dpkg.wait()?;
    unpacked?;
    ensure!(status.success(), "dpkg --fsys-tarfile failed: {status}");
    Ok(())
}

/// Adds all files under `dir` to `found`.
pub(crate) fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.extend(iter::once(entry.path()));
        }
    }
    Ok(())
}

fn update() -> Result<()> {
    eprintln!("setup: apt-get update");
    sh::run(sh::as_root("apt-get")?.args(["-qq", "update"]))
}

fn need_apt() -> Result<()> {
    if sh::find("apt-get").is_none() {
        bail!(
            "this takes Debian packages, unpacked without being installed, and there is no apt-get here"
        );
    }
    Ok(())
}

/// The file below `dir` whose name begins with `start`.
pub(crate) fn find(dir: &Path, start: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    walk(dir, &mut found)?;
    found
        .into_iter()
        .find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(start))
        })
        .with_context(|| format!("{} holds no {start}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let newest =
            |names: &[&'static str]| names.iter().copied().max_by_key(|name| numbers(name));
        assert_eq!(
            newest(&[
                "linux-image-6.1.0-9-rt-amd64",
                "linux-image-6.1.0-56-rt-amd64"
            ]),
            Some("linux-image-6.1.0-56-rt-amd64")
        );
        assert_eq!(
            newest(&[
                "linux-image-6.12.9+deb12-rt-amd64",
                "linux-image-6.12.117+deb12-rt-amd64"
            ]),
            Some("linux-image-6.12.117+deb12-rt-amd64")
        );
    }

    #[test]
    fn libraries_are_told_from_other_packages() {
        let tree = "linux-perf\n  Depends: libc6\n  Depends: perl\nlibc6\n  Depends: libgcc-s1\nlibgcc-s1\nperl\n\
                    libpython3.11-stdlib\nzlib1g\n<python3:any>\n";
        let found: Vec<&str> = libraries(tree).collect();
        assert_eq!(found, ["libc6", "libgcc-s1", "zlib1g"]);
    }

    #[test]
    fn what_was_not_finished_is_not_kept() {
        let dir = std::env::temp_dir().join(format!("smilat-once-{}", process::id()));
        let begun = once(&dir, |begun| {
            fs::write(begun.join("half"), "")?;
            bail!("stopped")
        });
        assert!(begun.is_err());
        assert!(!dir.exists());
        once(&dir, |begun| Ok(fs::write(begun.join("whole"), "")?)).expect("made");
        once(&dir, |_| bail!("made twice")).expect("made once");
        assert!(dir.join("whole").is_file());
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn what_others_made_meanwhile_is_taken() {
        let dir = std::env::temp_dir().join(format!("smilat-twice-{}", process::id()));
        once(&dir, |begun| {
            fs::write(begun.join("slow"), "")?;
            fs::create_dir(&dir)?;
            Ok(fs::write(dir.join("fast"), "")?)
        })
        .expect("made twice");
        assert!(dir.join("fast").is_file());
        assert!(
            !dir.with_added_extension(format!("begun-{}", process::id()))
                .exists()
        );
        fs::remove_dir_all(&dir).expect("removed");
    }
}
