//! `cargo xtask run`.

use std::{os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{ebpf, sh};

/// Builds smilat, optimised; returns where it is.
pub(crate) fn build() -> Result<PathBuf> {
    ebpf::build()?;
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "smi-user"]))?;
    Ok(sh::root().join("target/release/smilat"))
}

/// Builds smilat and becomes `smilat run`, as root.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let smilat = build()?;
    let mut command = sh::as_root(smilat)?;
    command.arg("run");
    if args.is_empty() {
        command.args(["--duration", "10s"]);
    } else {
        command.args(args);
    }
    Err(command.exec()).with_context(|| format!("cannot run {command:?}"))
}
