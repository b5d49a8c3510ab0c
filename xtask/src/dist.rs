//! `cargo xtask dist`: what is released. An archive for any distribution, and a Debian package.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{ebpf, setup, sh};

/// What lies beside the binary in the archive, and where it is in the repository.
const FILES: [&str; 8] = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "smi-ebpf/LICENSE-GPL2",
    "docs/ndjson.md",
    "packaging/smilat.toml",
    "packaging/smilat.service",
];

/// Packs the release; prints what was made.
pub(crate) fn dist() -> Result<()> {
    ebpf::build()?;
    sh::run(sh::cargo().args([
        "build",
        "--quiet",
        "--profile",
        "dist",
        "--package",
        "smi-user",
    ]))?;
    let dist = sh::root().join("target/dist");
    let binary = dist.join("smilat");
    let documents = documents(&binary)?;
    println!("{}", archive(&dist, &binary, &documents)?.display());
    println!("{}", deb("dist", &dist, &[])?.display());
    Ok(())
}

/// Has `smilat` write its manual pages and completions; returns the folder.
pub(crate) fn documents(smilat: &Path) -> Result<PathBuf> {
    let folder = sh::root().join("target/documents");
    // What an older smilat wrote and this one does not must not be packed.
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    sh::run(Command::new(smilat).arg("documents").arg(&folder))?;
    Ok(folder)
}

fn archive(dist: &Path, binary: &Path, documents: &Path) -> Result<PathBuf> {
    let name = format!("smilat-{}-{}", env!("CARGO_PKG_VERSION"), env::consts::ARCH);
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for file in FILES {
        let to = folder.join(file);
        fs::create_dir_all(to.parent().unwrap_or(&folder))?;
        fs::copy(sh::root().join(file), &to).with_context(|| format!("cannot pack {file}"))?;
    }
    fs::copy(binary, folder.join("smilat")).context("cannot pack the binary")?;
    sh::run(
        Command::new("cp")
            .arg("-r")
            .args([documents.join("man"), documents.join("completions")])
            .arg(&folder),
    )?;
    let archive = dist.join(format!("{name}.tar.gz"));
    sh::run(
        Command::new("tar")
            .args(["--owner=0", "--group=0", "--sort=name", "-czf"])
            .arg(&archive)
            .arg("-C")
            .arg(dist)
            .arg(&name),
    )?;
    Ok(archive)
}

/// Makes the Debian package in `folder` of the binary built with `profile`; [`documents`] must have been written.
pub(crate) fn deb(profile: &str, folder: &Path, how: &[&str]) -> Result<PathBuf> {
    let made = sh::read(
        sh::cargo()
            .arg("deb")
            .args(["--no-build", "--quiet"])
            .args(how)
            .args(["--package", "smi-user", "--profile", profile])
            .arg("--output")
            .arg(folder)
            .env("PATH", setup::with_cargo_deb()?),
    )?;
    made.lines()
        .last()
        .map(PathBuf::from)
        .context("cargo-deb does not say what it made")
}
