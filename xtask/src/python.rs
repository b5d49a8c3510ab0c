//! A Python with what the tests hold smilat's words against: OpenTelemetry's own messages, for the receiver that is pushed to
//! and shares no code with smilat, and Kubernetes's schemas.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{packages::once, setup, sh};

/// Packages of the Python Package Index; those that they need too where others than these would be read otherwise.
const PACKAGES: [&str; 3] = [
    "kubernetes-validate==1.37.0",
    "opentelemetry-proto==1.45.2",
    "protobuf==7.36.2",
];

/// That Python, installed into the cache (150 MB) when it is not there yet.
pub(crate) fn for_tests() -> Result<PathBuf> {
    let python = sh::read(Command::new("python3").arg("--version"))?;
    let home = sh::cache()?.join(folder(&python, &PACKAGES));
    once(&home, install)?;
    Ok(home.join("bin/python"))
}

/// The name of the folder for these versions: with others, another folder, since another checkout may use the old one now.
/// What Debian's Python becomes is another version, too: its packages are not looked for by the next.
fn folder(python: &str, packages: &[&str]) -> String {
    [&[python.trim()], packages]
        .concat()
        .join("-")
        .to_lowercase()
        .replace("==", "-")
        .replace(char::is_whitespace, "-")
}

/// Makes it in `home`, which may be moved as a whole: Python finds its packages from where its program lies.
fn install(home: &Path) -> Result<()> {
    eprintln!("setup: installing {}", PACKAGES.join(", "));
    let make = || {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(home);
        sh::read(&mut venv)
    };
    // Debian's Python comes without the module.
    if make().is_err() {
        setup::install_packages(&["python3-venv"])?;
        make()?;
    }
    sh::run(
        Command::new(home.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet"])
            .arg("--disable-pip-version-check")
            .args(PACKAGES),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_have_a_folder_of_their_own() {
        let name = folder("Python 3.11.2\n", &["protobuf==7.36.2", "a==1"]);
        assert_eq!(name, "python-3.11.2-protobuf-7.36.2-a-1");
        assert_ne!(
            name,
            folder("Python 3.13.5\n", &["protobuf==7.36.2", "a==1"])
        );
        assert_ne!(
            name,
            folder("Python 3.11.2\n", &["protobuf==7.36.3", "a==1"])
        );
    }
}
