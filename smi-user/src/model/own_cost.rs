//! What smilat itself costs the machine.

use serde::{Deserialize, Serialize};

/// What smilat itself costs the machine, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCost {
    /// CPU time of the process, user and system (`getrusage(2)`). The spin detector's sampling, done in interrupts, is part of
    /// it unless the kernel accounts for those apart (`CONFIG_IRQ_TIME_ACCOUNTING`: `kernel/sched/cputime.c`); that of the
    /// kernel's tracers is done by threads of the kernel's.
    pub cpu_ns: u64,
    /// Memory it holds now (`VmRSS`).
    pub resident_bytes: u64,
    /// The runs of its BPF programs; `None` while the kernel does not measure them (`--bpf-stats`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf: Option<BpfCost>,
}

/// What the kernel measured of BPF programs (`bpf_prog_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BpfCost {
    /// Runs.
    pub runs: u64,
    /// Time they took; those of the spin detector include the time spent sampling.
    pub run_ns: u64,
}
