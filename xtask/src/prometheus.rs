//! A real Prometheus for tests and benchmarks, and its promtool: those on `PATH`, or Debian's, in the cache.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    packages::{download, extract, once},
    sh,
};

/// What the tests use of it.
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Tells `tests` where they are: `SMILAT_PROMETHEUS` and `SMILAT_PROMTOOL`.
///
/// Debian's package is not installed because it would begin to scrape as a service of the system.
pub(crate) fn tell(tests: &mut Command) -> Result<()> {
    for (program, path) in PROGRAMS.iter().zip(find()?) {
        tests.env(format!("SMILAT_{}", program.to_uppercase()), path);
    }
    Ok(())
}

/// Prometheus and promtool.
pub(crate) fn find() -> Result<[PathBuf; 2]> {
    if let [Some(prometheus), Some(promtool)] = PROGRAMS.map(sh::find) {
        return Ok([prometheus, promtool]);
    }
    let dir = sh::cache()?.join("prometheus");
    once(&dir, unpack)?;
    Ok(PROGRAMS.map(|program| dir.join("usr/bin").join(program)))
}

/// The two programs alone: they need a C library and nothing else of what the package asks for.
fn unpack(dir: &Path) -> Result<()> {
    for deb in download(&["prometheus".to_owned()], dir)? {
        let wanted = PROGRAMS.map(|program| format!("./usr/bin/{program}"));
        extract(&deb, dir, &wanted)?;
        std::fs::remove_file(deb)?;
    }
    for program in PROGRAMS {
        sh::read(Command::new(dir.join("usr/bin").join(program)).arg("--version"))?;
    }
    Ok(())
}
