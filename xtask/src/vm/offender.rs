//! The kernel modules that do what smilat is to find, such as to keep interrupts off: built from `tests/offender` with
//! Debian's headers of the kernel they are for, which are unpacked into the cache and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::packages::cache;
use crate::{packages, sh};

/// Where Debian has its headers.
const HEADERS: &str = "usr/src";
const SOURCES: [&str; 3] = ["Kbuild", "smilat_offender.c", "smilat_mapper.c"];

/// The module of that name for the kernel of that release, such as `6.1.0-56-rt-amd64`.
pub(super) fn module(name: &str, release: &str) -> Result<PathBuf> {
    let headers = headers(release)?;
    let dir = sh::root().join("target/vm/offender").join(release);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for source in SOURCES {
        let from = sh::root().join("tests/offender").join(source);
        let to = dir.join(source);
        let new = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        // An unchanged source keeps its time, so that it is not compiled again.
        if fs::read(&to).is_ok_and(|old| old == new) {
            continue;
        }
        fs::write(&to, new).with_context(|| format!("cannot write {}", to.display()))?;
    }
    let mut make = Command::new("make");
    make.args(["-s", "-C"])
        .arg(&headers)
        .arg(format!("M={}", dir.display()))
        // Types of its own are no use to anyone, and take another program to make.
        .args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "PAHOLE=true", "modules"]);
    let built = make.output().context("cannot run make")?;
    ensure!(
        built.status.success(),
        "the modules cannot be built for {release}:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(dir.join(format!("{name}.ko")))
}

/// The folder to build modules for `release` in.
fn headers(release: &str) -> Result<PathBuf> {
    let root = cache()?.join("headers").join(release);
    let package = format!("linux-headers-{release}");
    packages::once(&root, |begun| {
        let mut wanted = packages::to_install(&package)?;
        // The compiler is this machine's.
        wanted.retain(|package| package.starts_with("linux-"));
        packages::unpack(&wanted, begun)?;
        relocate(&begun.join(HEADERS).join(&package).join("Makefile"), &root)
    })?;
    Ok(root.join(HEADERS).join(package))
}

/// Has `makefile` include what lies in `root` instead of what would be installed.
fn relocate(makefile: &Path, root: &Path) -> Result<()> {
    let text = fs::read_to_string(makefile)
        .with_context(|| format!("cannot read {}", makefile.display()))?;
    let there = format!("include {}/{HEADERS}/", root.display());
    let moved = text.replace(&format!("include /{HEADERS}/"), &there);
    ensure!(
        moved != text,
        "{} includes nothing from /{HEADERS}",
        makefile.display()
    );
    fs::write(makefile, moved).with_context(|| format!("cannot write {}", makefile.display()))
}
