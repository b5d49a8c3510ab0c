//! `cargo xtask bench`: smilat beside its peers, in one run on one machine.

mod document;
mod exposure;
mod gap;
mod gap_readers;
mod growth;
mod iommu;
mod irqsoff;
mod lateness;
mod load;
mod peers;
mod recall;
mod resolution;
mod start;
mod steps;
mod table;
mod usage;
mod watching;
mod workload;

use std::path::Path;

use anyhow::{Result, ensure};
use clap::ValueEnum;

pub(crate) use self::peers::install as install_peers;
use self::{document::Document, table::Section};
use crate::{dist, sh};

/// The benchmarks, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Length of one step of the detectors' loops, beside oslat, on average and at the 99.99th percentile
    Resolution,
    /// SMIs of known number that each detector sees, at 1 to 1,000 of them in a second, beside rtla hwnoise and hwlatdetect
    Recall,
    /// Nanoseconds to record a gap within the kernel, and instructions of a gap beside those who read events as text and by perf
    Gap,
    /// CPU time, wake-ups and memory of a smilat that runs, beside rtla hwnoise, hwlatdetect and turbostat
    Watching,
    /// Lateness of a timer while smilat runs, by length of the stretches, as cyclictest sees it
    Lateness,
    /// Windows kept and exposure, idle and busy
    Exposure,
    /// Time from exec to the first window, and what a snapshot costs at 2, 64 and 255 CPUs
    Start,
    /// What a year costs, and 10,000 nodes
    Growth,
    /// CPU time that `smilat irqsoff` takes, idle and busy
    Irqsoff,
    /// Instructions of a map or unmap under `smilat iommu`, beside the trace buffer's readers
    Iommu,
    /// Requests served and computing done by a busy machine, by how much is sampled, beside rtla hwnoise and hwlatdetect
    Workload,
}

/// Rounds of a comparison; its members take turns, so that a slow spell of the machine hits all.
const ROUNDS: usize = 9;

impl Name {
    fn run(self, smilat: &Path) -> Result<Section> {
        match self {
            Self::Resolution => resolution::resolution(smilat),
            Self::Recall => recall::recall(),
            Self::Gap => gap::gap(),
            Self::Watching => watching::watching(smilat),
            Self::Lateness => lateness::lateness(smilat),
            Self::Exposure => exposure::exposure(smilat),
            Self::Start => start::start(smilat),
            Self::Growth => growth::growth(smilat),
            Self::Irqsoff => irqsoff::irqsoff(smilat),
            Self::Iommu => iommu::iommu(),
            Self::Workload => workload::workload(smilat),
        }
    }

    /// As it is given on the command line.
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(|| format!("{self:?}"), |value| value.get_name().to_owned())
    }
}

/// Runs these benchmarks, or all, and writes what they found to `docs/bench.json` and `docs/bench.md`, each when it is done.
pub(crate) fn bench(names: &[Name]) -> Result<()> {
    ensure!(
        sh::is_root(),
        "benchmarks set priorities and load BPF; run `cargo xtask bench` as root"
    );
    peers::install()?;
    let smilat = dist::build()?;
    let all = Name::value_variants();
    let order: Vec<String> = all.iter().map(|name| name.name()).collect();
    for name in if names.is_empty() { all } else { names } {
        let section = name.run(&smilat)?;
        print!("{section}");
        // Another may have been written meanwhile.
        let mut document = Document::read()?;
        document.put(&name.name(), section)?;
        document.write(&order)?;
    }
    Ok(())
}
