//! What `smilat irqsoff` finds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smi_common::irqsoff::Kind;

use super::Histogram;

/// Version of the NDJSON; raised when a field changes its meaning or goes.
pub const IRQSOFF_SCHEMA_VERSION: u32 = 1;

/// How a [`Kind`] is called in reports and labels.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Disabled => "disabled",
        Kind::PreemptOff => "preempt_off",
        Kind::BottomHalvesOff => "bh_off",
        Kind::Softirq => "softirq",
        Kind::Steal => "steal",
        Kind::Smi => "smi",
        Kind::Nmi => "nmi",
        Kind::Idle => "idle",
        Kind::Stopped => "stopped",
    }
}

/// A stretch for which software kept a CPU from being interrupted or preempted, or a late tick that something else made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was noticed: interrupts came back on right before, or the section had reached the threshold.
    pub time: Timestamp,
    /// On which CPU.
    pub cpu: u32,
    /// What it was.
    #[serde(with = "by_name")]
    pub kind: Kind,
    /// For how long it lasted, at least, in ns; a section that can be interrupted may go on.
    pub least_ns: u64,
    /// At most.
    pub most_ns: u64,
    /// Ticks that were due in it.
    pub ticks: u64,
    /// Ticks that came; 1 when interrupts were off.
    pub arrived: u64,
    /// The process on the CPU.
    pub process: u32,
    /// The thread.
    pub thread: u32,
    /// The thread's name.
    pub comm: String,
    /// Whether the tick found the CPU in user mode.
    pub user_mode: bool,
    /// What ran besides the thread, if anything did that matters.
    pub handler: Option<Handler>,
    /// Of a softirq that runs timers: the callback.
    pub callback: Option<Handler>,
    /// The kernel's stack under the tick, innermost first: where interrupts came back on, or within the section.
    pub stack: Vec<String>,
    /// Why there is no stack.
    pub no_stack: Option<String>,
    /// By how much the counter of SMIs moved meanwhile.
    pub smis: u64,
    /// How long handlers of NMIs ran meanwhile, in ns.
    pub nmi_ns: u64,
    /// How long the hypervisor had something else run meanwhile, in ns.
    pub steal_ns: u64,
    /// The exempt function that its stack leads through.
    pub exempt: Option<String>,
    /// What the CPU did before, oldest first.
    pub trace: Vec<TraceLine>,
}

/// A handler that ran where a stretch was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// What kind: `irq`, `softirq`, `timer`, `hrtimer`, `call` or `irq_work`.
    pub kind: String,
    /// Number of the interrupt, or name of the softirq.
    pub of: Option<String>,
    /// Its function, where it has one of its own.
    pub function: Option<String>,
    /// How long it ran, in ns; `None`: it ran still.
    pub ran_ns: Option<u64>,
}

/// An entry of a CPU's trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// How long before the event was noticed, in ns.
    pub before_ns: u64,
    /// What happened.
    pub what: String,
}

/// Events of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// The kind.
    #[serde(with = "by_name")]
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// Sum of their lengths, at least, in ns.
    pub sum_ns: u64,
    /// The longest, in ns.
    pub max_ns: u64,
    /// Those whose stack led through an exempt function; in none of the above.
    pub exempt: u64,
    /// Sum of their lengths in ns.
    pub exempt_ns: u64,
    /// By length.
    pub histogram: Histogram,
}

impl KindCounts {
    /// None of this kind.
    pub fn none(kind: Kind) -> Self {
        Self {
            kind,
            count: 0,
            sum_ns: 0,
            max_ns: 0,
            exempt: 0,
            exempt_ns: 0,
            histogram: Histogram::default(),
        }
    }
}

/// Everything counted for one CPU since start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuCounts {
    /// Its number.
    pub cpu: u32,
    /// Ticks that came.
    pub ticks: u64,
    /// Ticks that could not come because one before them was late.
    pub missed: u64,
    /// Ticks at which the counter of SMIs could not be read: one that an SMI made late is none of `smi` there.
    pub smis_unread: u64,
    /// Time watched, in ns.
    pub watched_ns: u64,
    /// The longest lateness of a tick, in ns, whatever made it.
    pub late_max_ns: u64,
    /// By kind; those without events are left out.
    pub kinds: Vec<KindCounts>,
    /// Events passed on.
    pub records_sent: u64,
    /// Events that could not be passed on because too many waited; they are counted.
    pub records_lost: u64,
}

/// All that was counted since start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IrqsoffSnapshot {
    /// See [`IRQSOFF_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When.
    pub time: Timestamp,
    /// Number of the interval that it ends, from 1.
    pub interval: u64,
    /// Time since start in ns.
    pub elapsed_ns: u64,
    /// Whether it is the last.
    pub last: bool,
    /// Time between two ticks in ns.
    pub tick_ns: u64,
    /// A stretch at least this long is an event; `None`: nothing is.
    pub threshold_ns: Option<u64>,
    /// Entries written to the log.
    pub logged: u64,
    /// Events that `--max-log` kept out of it.
    pub suppressed: u64,
    /// The CPUs.
    pub cpus: Vec<CpuCounts>,
}

mod by_name {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use smi_common::irqsoff::Kind;

    use super::kind_name;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind_name(*kind))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Kind, D::Error> {
        let name = String::deserialize(deserializer)?;
        Kind::ALL
            .into_iter()
            .find(|kind| kind_name(*kind) == name)
            .ok_or_else(|| D::Error::custom(format!("there is no kind \"{name}\"")))
    }
}
