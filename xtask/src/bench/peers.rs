//! Whom smilat is compared with on this machine: Debian's packages.

use std::process::Command;

use anyhow::Result;

use crate::{packages, setup, sh};

/// Programs, and the packages they come in.
const PEERS: [(&str, &str); 4] = [
    ("oslat", "rt-tests"),
    ("cyclictest", "rt-tests"),
    ("stress-ng", "stress-ng"),
    // The server is in it too (`tests/src/busy.rs`), and no service.
    ("redis-benchmark", "redis-tools"),
];

/// Installs those that are missing.
pub(crate) fn install() -> Result<()> {
    let mut missing: Vec<&str> = PEERS
        .iter()
        .filter(|(program, _)| sh::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    setup::install_packages(&missing)
}

/// What the rtla of virtual machines is made of, and its version.
pub(super) fn rtla() -> Result<String> {
    const SOURCE: &str = "linux-source-6.12";
    Ok(format!("rtla of {SOURCE} {}", packages::version(SOURCE)?))
}

/// The package and its version, as installed.
pub(super) fn installed(package: &str) -> Result<String> {
    let query = ["--show", "--showformat=${Package} ${Version}", package];
    sh::read(Command::new("dpkg-query").args(query))
}
