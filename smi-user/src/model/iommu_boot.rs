//! What happened to the IOMMU at boot, as plain data.

use serde::{Deserialize, Serialize};

/// Version of the JSON; raised when a field changes its meaning or goes.
pub const BOOT_SCHEMA_VERSION: u32 = 1;

/// Who told of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootSource {
    /// The kernel's trace buffer.
    Trace,
    /// The kernel log.
    KernelLog,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum BootWhat {
    /// A device came into a group.
    Added {
        /// The device as sysfs names it.
        device: String,
        /// Number of the group.
        group: u32,
    },
    /// A device left its group.
    Removed {
        /// The device.
        device: String,
        /// Number of the group, where that was told.
        group: Option<u32>,
    },
    /// A device was attached to a domain.
    Attached {
        /// The device.
        device: String,
    },
    /// A device was detached from its domain (kernels up to 6.1).
    Detached {
        /// The device.
        device: String,
    },
    /// The kernel or the IOMMU's driver said something.
    Said {
        /// Its words.
        text: String,
    },
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEvent {
    /// Time since boot in ns.
    pub since_boot_ns: u64,
    /// Who told.
    pub source: BootSource,
    /// What.
    #[serde(flatten)]
    pub what: BootWhat,
}

/// What became of one of the two sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SourceState {
    /// It was read.
    Read {
        /// How many events or lines it no longer holds, because newer ones were written over them.
        lost: u64,
    },
    /// It could not be.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// All that is known of boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// See [`BOOT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What the kernel's command line says of IOMMUs and of events to trace.
    pub command_line: Vec<String>,
    /// Which of the events wanted it had traced from boot on.
    pub traced: Vec<String>,
    /// What became of the trace buffer.
    pub trace: SourceState,
    /// What became of the kernel log.
    pub log: SourceState,
    /// What happened, in its order.
    pub events: Vec<BootEvent>,
    /// Lines about faults in the kernel log, which are left out.
    pub fault_lines: u64,
    /// Why nothing is mapped here, and what would help; `None` where nothing stands in the way.
    pub readiness: Option<String>,
    /// What to add to the kernel's command line to know all the next time; `None` where it has it.
    pub add: Option<String>,
}
