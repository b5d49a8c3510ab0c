//! What stands in a recording before its snapshots.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The first line of every file of a recording: `{"recording": {...}}`. The snapshots follow, a line each, as
/// `--format ndjson` writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`super::SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Version of smilat that wrote it.
    pub smilat: String,
    /// When the run began. Files of one run have it in common.
    pub started: Timestamp,
    /// Number of this file in its run, from 1.
    pub part: u64,
    /// Time between snapshots.
    pub interval_ns: u64,
    /// The limit that gaps were held against, if one was given.
    pub hardlimit_ns: Option<u64>,
    /// Where it ran.
    pub machine: Machine,
}

/// What [`Machine::hypervisor`] is where the CPU says that there is none, which is not the same as not knowing.
pub const NO_HYPERVISOR: &str = "none";

/// The machine that was watched. `None` where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name in the network.
    pub hostname: Option<String>,
    /// Release of its kernel.
    pub kernel: Option<String>,
    /// Name of its CPUs.
    pub cpu: Option<String>,
    /// CPUs online.
    pub cpus: Option<String>,
    /// Revision of the CPUs' microcode.
    pub microcode: Option<String>,
    /// What the hypervisor calls itself, or [`NO_HYPERVISOR`].
    pub hypervisor: Option<String>,
    /// Who made the machine, and what they call it (DMI).
    pub product: Option<String>,
    /// Vendor, version and date of the firmware (DMI).
    pub firmware: Option<String>,
    /// Clock source of the kernel.
    pub clock_source: Option<String>,
}
