//! What months and many nodes cost.

mod nodes;
mod paper;
mod recordings;
mod server;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::table::Section;
use crate::sh;

/// How long is recorded of this machine, at the default interval of 5 s: all else is made of it.
const RECORDED: &str = "60s";

/// A short recording of this machine.
struct Recorded(PathBuf);

impl Recorded {
    /// Records one with the defaults of `smilat run`.
    fn now(smilat: &Path) -> Result<Self> {
        let file = sh::root().join("target/growth.ndjson");
        // What is there already would be added to.
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
        sh::run(
            Command::new(smilat)
                .args(["run", "--quiet", "--duration", RECORDED, "--record"])
                .arg(&file)
                .stdout(std::process::Stdio::null()),
        )?;
        Ok(Self(file))
    }

    /// What makes a long recording of it, and `what` of that (see `tests/src/bin/grown.rs`).
    fn grown(&self, what: &str, snapshots: u64, seconds: u64) -> Command {
        let mut command = Command::new(sh::root().join("target/release/grown"));
        command
            .arg(what)
            .arg(&self.0)
            .args([snapshots, seconds].map(|number| number.to_string()));
        command
    }
}

/// What `command` prints as JSON.
fn told<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let text = sh::read(command)?;
    serde_json::from_str(&text).with_context(|| format!("{command:?} printed: {text}"))
}

/// The section.
pub(super) fn growth(smilat: &Path) -> Result<Section> {
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests"]))?;
    let recorded = Recorded::now(smilat)?;
    let (mut tables, aims) = recordings::recordings(smilat, &recorded)?;
    let nodes = nodes::nodes(&recorded)?;
    let prometheus = server::measure(&recorded)?;
    tables.extend(nodes::tables(&nodes));
    tables.extend(paper::tables(&nodes, &prometheus));
    Ok(Section {
        title: "A year, and 10,000 nodes".to_owned(),
        about: format!(
            "All of it is made of {RECORDED} of this machine, recorded with the defaults of `smilat run`: what its intervals of \
             5 s added is added over and over, so that counters and single gaps go on as they would.\n\n\
             Reports: `smilat report --json -` reads such a recording from a pipe; CPU time and peak of memory are the kernel's \
             account of that process alone. Each snapshot holds the single gaps of 5 s of this machine.\n\n\
             Pages: those that `--listen` answers with, as servers fetch them, compressed. Of more CPUs, the CPUs of this machine \
             over and over. Samples are one for each series and scrape.\n\n\
             Prometheus: bytes a sample on disk are those of the blocks that promtool makes of a day of one node's pages \
             (blocks of 2 h, with their index; a server merges them later, which leaves less index). Memory is the heap in use of \
             a server after garbage collection with {} nodes of {} CPUs and classic histograms, less that of the same server \
             before, by its series; it keeps the newest two to three hours of samples there as well, of which these few minutes \
             had none yet: they are added as bytes a sample. Queries, and what Go's collector leaves lying, take more: twice as \
             much is a common rule. Both are on paper: no server with 10,000 nodes was run.",
            server::NODES,
            server::CPUS,
        ),
        tables,
        aims,
        versions: vec![prometheus.version],
    })
}
