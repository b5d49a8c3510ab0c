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
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "packaging/smilat.toml",
    "packaging/smilat.service",
    "smi-ebpf/LICENSE-GPL2",
];
/// Folders that are packed whole.
const FOLDERS: [&str; 2] = ["docs", "deploy"];

/// Builds smilat as it is released; returns where it is.
pub(crate) fn build() -> Result<PathBuf> {
    ebpf::build()?;
    sh::run(sh::cargo().args([
        "build",
        "--quiet",
        "--profile",
        "dist",
        "--package",
        "smi-user",
    ]))?;
    Ok(sh::root().join("target/dist/smilat"))
}

/// Packs the release; prints what was made.
pub(crate) fn dist() -> Result<()> {
    let binary = build()?;
    let dist = sh::root().join("target/dist");
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
    for name in FOLDERS {
        sh::run(
            Command::new("cp")
                .arg("-r")
                .arg(sh::root().join(name))
                .arg(&folder),
        )?;
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

/// The files of the repository that a text in it refers to by links.
pub(crate) fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(to, _)| to.split_once('#').map_or(to, |(file, _)| file))
        .filter(|to| !to.is_empty() && !to.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_readme_links_to_is_in_the_archive() {
        let readme = fs::read_to_string(sh::root().join("README.md")).expect("the README");
        let mut found = 0;
        for file in links(&readme) {
            found += 1;
            assert!(sh::root().join(file).is_file(), "{file} is not there");
            assert!(
                FILES.contains(&file)
                    || FOLDERS.iter().any(|name| Path::new(file).starts_with(name)),
                "{file}"
            );
        }
        assert!(found > 5, "{found}");
    }

    #[test]
    fn links_are_those_to_files() {
        let text = "[a](docs/a.md#part), [b](https://example.com/b.md) and [c](#here), [d](d.md)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md", "d.md"]);
    }
}
