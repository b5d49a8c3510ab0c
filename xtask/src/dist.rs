//! `cargo xtask dist`: one archive with the binary and what a user should read.

use std::{env, fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{ebpf, sh};

const TEXTS: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "smi-ebpf/LICENSE-GPL2",
    "docs/ndjson.md",
];

/// Packs the release.
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
    let name = format!("smilat-{}-{}", env!("CARGO_PKG_VERSION"), env::consts::ARCH);
    let dist = sh::root().join("target/dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for file in TEXTS.iter().chain(&["target/dist/smilat"]) {
        let to = folder.join(file.trim_start_matches("target/dist/"));
        fs::create_dir_all(to.parent().unwrap_or(&folder))?;
        fs::copy(sh::root().join(file), &to).with_context(|| format!("cannot pack {file}"))?;
    }
    let archive = dist.join(format!("{name}.tar.gz"));
    sh::run(
        Command::new("tar")
            .args(["--owner=0", "--group=0", "--sort=name", "-czf"])
            .arg(&archive)
            .arg("-C")
            .arg(&dist)
            .arg(&name),
    )?;
    println!("{}", archive.display());
    Ok(())
}
