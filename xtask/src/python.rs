//! A Python with what the tests hold smilat's words against: OpenTelemetry's own messages, for the receiver that is pushed to
//! and shares no code with smilat, and Kubernetes's schemas.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{setup, sh};

/// Packages of the Python Package Index.
const PACKAGES: [&str; 2] = ["opentelemetry-proto==1.45.2", "kubernetes-validate==1.37.0"];

/// That Python, installed into the cache (150 MB) when it is not there yet.
pub(crate) fn for_tests() -> Result<PathBuf> {
    let home = sh::cache()?.join("python");
    let python = home.join("bin/python");
    // Names what is installed, so that other versions are installed anew.
    let done = home.join("installed");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == PACKAGES.join(" ")) {
        return Ok(python);
    }
    eprintln!(
        "setup: installing {} into {}",
        PACKAGES.join(", "),
        home.display()
    );
    let make = || {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&home);
        sh::read(&mut venv)
    };
    // Debian's Python comes without the module.
    if make().is_err() {
        setup::install_packages(&["python3-venv"])?;
        make()?;
    }
    sh::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .arg("--disable-pip-version-check")
            .args(PACKAGES),
    )?;
    fs::write(&done, PACKAGES.join(" "))
        .with_context(|| format!("cannot write {}", done.display()))?;
    Ok(python)
}
