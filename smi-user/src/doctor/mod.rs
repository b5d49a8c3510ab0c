//! What this machine offers smilat and what is missing: one file for each group of checks.
//!
//! In each file, what is read from the kernel and what is concluded from it are kept apart, so that conclusions can be
//! tested without the machine. A check claims nothing that was not seen: what could not be seen is [`State::Unknown`].

mod bpf;
mod config;
mod counters;
mod detectors;
mod kernel;
mod machine;
mod options;
mod privileges;
mod time;
mod tracing;

use serde::{Deserialize, Serialize};

use crate::kernel::{
    cpuinfo::CpuInfo,
    kconfig::{Config, NoConfig},
    process::Capabilities,
    release,
};

/// Version of the fields of [`Examination`]; grows when one changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There, and as it should be; or of no consequence.
    Ok,
    /// Not there.
    Missing,
    /// There, but to be known when results are read.
    Warning,
    /// Could not be seen; the remedy says what it would take.
    Unknown,
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The detectors' own word on whether they can run.
    Detectors,
    /// Release and configuration.
    Kernel,
    /// What this process may do.
    Privileges,
    /// What the kernel does with the BPF programs when asked to.
    Bpf,
    /// Options the kernel was built with.
    Config,
    /// Tracers and tracepoints.
    Tracing,
    /// Counts of SMIs, and what fires some.
    Counters,
    /// Clocks, idle states, frequencies.
    Time,
    /// Hypervisor, layout of the CPUs, devices.
    Machine,
}

/// One line of the examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it is about.
    pub group: Group,
    /// What was checked.
    pub name: String,
    /// The outcome.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What cannot be done, or not be relied on, because of it; empty where nothing.
    pub blocks: String,
    /// What would help; empty where nothing has to.
    pub remedy: String,
}

impl Check {
    fn ok(group: Group, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            group,
            name: name.into(),
            state: State::Ok,
            found: found.into(),
            blocks: String::new(),
            remedy: String::new(),
        }
    }

    /// The same check with a worse outcome.
    fn but(mut self, state: State, blocks: impl Into<String>, remedy: impl Into<String>) -> Self {
        self.state = state;
        self.blocks = blocks.into();
        self.remedy = remedy.into();
        self
    }
}

/// All that was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// Version of these fields.
    pub schema_version: u32,
    /// Version of smilat.
    pub smilat_version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Whether `smilat run` can run here, by this user, with some detector.
    pub can_run: bool,
    /// The detectors that can, the one it would take first.
    pub detectors: Vec<String>,
    /// The checks, by group.
    pub checks: Vec<Check>,
}

/// What several groups need to know.
struct Facts {
    release: String,
    config: Result<Config, NoConfig>,
    cpu: CpuInfo,
    capabilities: Capabilities,
}

impl Facts {
    fn gather() -> Self {
        let release = release::release();
        Self {
            config: Config::of_running(&release),
            release,
            cpu: CpuInfo::read().unwrap_or_default(),
            capabilities: Capabilities::own(),
        }
    }

    /// The configuration, where it is known.
    fn config(&self) -> Option<&Config> {
        self.config.as_ref().ok()
    }

    fn is_virtual(&self) -> bool {
        self.cpu.has("hypervisor")
    }
}

/// Examines this machine. Changes nothing on it.
pub fn examine() -> Examination {
    let facts = Facts::gather();
    let probed = bpf::probe(facts.capabilities);
    let (mut checks, able) = detectors::checks(&facts, &probed);
    checks.extend(kernel::checks(&facts));
    checks.extend(privileges::checks(&facts));
    checks.extend(probed.checks());
    checks.extend(facts.config().map(config::judge).unwrap_or_default());
    checks.extend(tracing::checks());
    checks.extend(counters::checks(&facts));
    checks.extend(time::checks(&facts));
    checks.extend(machine::checks(&facts));
    Examination {
        schema_version: SCHEMA_VERSION,
        smilat_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: facts.release,
        can_run: !able.is_empty(),
        detectors: able,
        checks,
    }
}
