//! The command line: definitions and help texts only.

mod detection;
mod iommu;
mod irqsoff;
mod push;
mod report;
mod reports;
mod run;
mod top;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use detection::Detection;
pub use iommu::{
    BootArgs, IommuArgs, IommuCommand, LiveArgs, Look, Part, Sizes, TreeArgs, WatchArgs,
};
pub use irqsoff::{Disposition, IrqsoffArgs};
pub use push::PushArgs;
pub use report::ReportArgs;
pub use reports::Reports;
pub use run::{Format, RunArgs};
pub use top::TopArgs;

use crate::{
    counter,
    detector::Choice,
    units::{Bare, parse_time},
};

/// Finds the time that firmware and hardware steal from Linux.
///
/// System Management Interrupts, NMIs, buses and hypervisors stop a CPU without the kernel knowing. What is left is a
/// gap between two readings of the clock by a CPU that did nothing else, with interrupts off. smilat finds such gaps,
/// counts them in the kernel and reports them.
#[derive(Debug, Parser)]
#[command(name = "smilat", version, max_term_width = 100)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Detect gaps, count them, report every interval until the duration is over or Ctrl-C
    ///
    /// For a part of each window (its width) a watched CPU does nothing but read the clock. Meanwhile interrupts stay
    /// off for one stretch at a time and are served in between: a stretch is the longest that anything on that CPU has
    /// to wait because of smilat, while width/window decides how many gaps are caught.
    ///
    /// Times take a unit (10us, 1.5ms, 2h). A bare number is microseconds for gap times and seconds for --interval and
    /// --duration, as in hwlatdetect.
    ///
    /// Exit status: 0 it ran and no gap exceeded --hardlimit; 1 a gap did; 2 it could not run.
    Run(Box<RunArgs>),

    /// Watch gaps live in the terminal, or replay a recording there
    ///
    /// Detects and counts as `smilat run` does and shows a table of the CPUs, how gaps come over time, how long they are
    /// and the newest ones with what is proven of their cause. Keys sort, pause, reset and change the threshold while it
    /// runs; ? explains them, and says what watching costs. A slow or stopped terminal does not hold up the counting.
    ///
    /// At the end the summary that `smilat run` would print goes to standard output. `smilat top FILE` replays a
    /// recording: space plays and stops, the arrows step.
    ///
    /// Colours are left out where `NO_COLOR` is set. Exit status: 0 it ran; 2 it could not run.
    Top(Box<TopArgs>),

    /// Say what recordings show: totals, causes, a time line, fixed intervals; and how several differ
    ///
    /// Several recordings stand side by side, and each after the first is compared with the first: rates and durations,
    /// all gaps and those of each cause, with the probability that chance alone makes them differ as much. Gaps come in
    /// bursts; that is allowed for. Where the data are too few to tell, it says so.
    ///
    /// Exit status: 0 it reported, and no gap exceeded the hardlimit, if there is one; 1 a gap did; 2 it could not
    /// report.
    Report(ReportArgs),

    /// Find the kernel's own share: interrupts or preemption off for too long
    ///
    /// A timer ticks on each CPU. A tick that comes late tells that interrupts were off, and the stack under it begins where
    /// they came back on; ticks that come in time, one after the other, under code that cannot be preempted tell of a section
    /// with preemption or bottom halves off. Each such stretch is counted, and an entry written with its length, the task, the
    /// stack, the handler that ran and what the CPU did before. What a hypervisor, an SMI, an NMI or a CPU that woke up late
    /// made of a tick is told apart and counted by itself.
    ///
    /// Lengths are measured in ticks, as AIX does: "TICKS 51 (3)" is a section that lasted for 51 of them, of which 3 came.
    ///
    /// Exit status: 0 it ran; 1 a self-test failed; 2 it could not run.
    Irqsoff(Box<IrqsoffArgs>),

    /// Watch the IOMMU: what is mapped and unmapped for which devices, faults, groups and their changes
    ///
    /// An IOMMU translates the addresses that devices use. Each map and unmap is counted in the kernel, with its size, for the
    /// domain it is made in, and so for the devices of the groups that use it. An alarm names domains with more unmaps than
    /// maps (things unmapped page by page), those whose mappings grow and grow, faults, mappings of what is no main memory, and
    /// threads that map or unmap on while the scheduler wants their CPU.
    ///
    /// Exit status: 0 it ran; 1 --ratio-limit was exceeded; 2 it could not run.
    Iommu(Box<IommuArgs>),

    /// Say what this machine offers smilat, what is missing, and what would help
    ///
    /// Looks at the kernel and its configuration, at privileges, tracers and counters of SMIs, at what makes gaps
    /// doubtful (hypervisor, clock, idle states, frequencies), and has the kernel take the BPF programs as a run would.
    /// Changes nothing. Without root it says what it could not see.
    ///
    /// Each line says: ok; missing, with what that blocks; warning, something to know when results are read; unknown,
    /// it could not be seen. After -> stands what would help.
    ///
    /// Exit status: 0 `smilat run` can run here with some detector; 2 it cannot.
    Doctor(DoctorArgs),

    /// Fire SMIs through I/O port 0xb2 and see whether a counter moves: asks for --yes, for it can upset a machine
    ///
    /// A byte written to that port makes most chipsets of x86 machines raise a System Management Interrupt: firmware
    /// takes the CPU away from the kernel, which is what the detectors look for. A hardware counter of SMIs, where there
    /// is one, is read on all CPUs before the first write and after the last: only that proves that SMIs came. Used are
    /// Intel's count (MSR 0x34, by the kernel's msr PMU, or else by the module msr) and AMD's event 0x2B (from Zen 2
    /// on, not exact). In a virtual machine the count is its own, without the SMIs of the host.
    ///
    /// Without --yes it says what it would do and whether it could, and does nothing. It refuses to run in containers, on
    /// kernels that are locked down or have no /dev/port, and where the firmware's table names another port.
    ///
    /// Exit status: 0 the counter of the CPU that wrote moved by the number of writes, or there is no counter (which is
    /// said: then nothing is proven); 1 it moved by another number; 2 it could not run, or --yes is missing.
    Fire(FireArgs),

    /// Prove the whole set-up: fire SMIs while a detector watches, and see that each part saw them
    ///
    /// One CPU writes to I/O port 0xb2, as `smilat fire` does, and can upset a machine as that can: hence --yes. Another
    /// CPU is watched meanwhile. Then each step is judged: SMIs can be fired; a counter counts them; they reach the CPU
    /// that is watched, as on most machines they do; the BPF programs read the counter; the detector sees the SMIs that
    /// came within sampled time as gaps at the times of the writes; those gaps, and no others, are called SMIs.
    ///
    /// Where no SMI can be fired, or nothing counts them, it says which steps cannot be proven here and why.
    ///
    /// Exit status: 0 every step is proven; 1 one is refuted; 2 none is refuted, but not all can be proven here, or --yes is
    /// missing.
    Verify(VerifyArgs),

    /// Put back the kernel's settings that a killed run left changed
    ///
    /// The detectors hwlat and osnoise change settings of the kernel's tracers, and --smi-cost one of the CPUs' counters;
    /// they put them back when they end. What a SIGKILL kept them from putting back is noted in /run/smilat; the next
    /// `smilat run` does it too.
    Restore,

    /// Print what has a shell complete smilat's commands and options
    ///
    /// For a smilat built from source; Debian's package brings it along. For bash:
    /// smilat completions bash > ~/.local/share/bash-completion/completions/smilat
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },

    /// Write what a package ships beside the program into a folder: manual pages, completions, the configuration
    #[command(hide = true)]
    Documents {
        /// Must exist
        folder: PathBuf,
    },
}

/// Options of `smilat doctor`.
#[derive(Args, Clone, Copy, Debug)]
#[command(after_help = "Examples:
  sudo smilat doctor                          the screen for people
  sudo smilat doctor --all                    every check, and the purpose of every kernel option
  sudo smilat doctor --json | jq '.checks[] | select(.state == \"missing\") | .remedy'
  smilat doctor --json | jq .can_run          whether this user can run it")]
pub struct DoctorArgs {
    /// Show kernel options that are as they should be one by one, too
    #[arg(short, long, conflicts_with = "json")]
    pub all: bool,

    /// Print one JSON object with every check instead: group, name, state, found, blocks, remedy
    #[arg(long)]
    pub json: bool,
}

/// Options of `smilat fire`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  smilat fire                                   say what would be done, and whether it can be
  smilat fire --yes                             fire one SMI at the first CPU
  smilat fire --yes --count 100 --interval 10ms --cpu 1
  smilat run --preset idle & smilat fire --yes --count 50; kill -INT %1
                                                see whether a detector finds them")]
pub struct FireArgs {
    /// How many SMIs
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub count: u64,

    /// How they are fired.
    #[command(flatten)]
    pub shot: Shot,
}

/// How SMIs are fired: the options that `smilat fire` and `smilat verify` share.
#[derive(Args, Clone, Copy, Debug)]
pub struct Shot {
    /// Time from one to the next, a bare number being seconds; 0 for none
    ///
    /// Where each SMI takes long, the machine has nothing but this time for its work.
    #[arg(short, long, value_name = "TIME", default_value = "100ms", value_parser = pause)]
    pub interval: Duration,

    /// Byte to write, decimal or hexadecimal (0x4f): what firmware makes of it is up to the firmware
    ///
    /// Values it is known to take for requests are refused: 2 and 3, which many take for turning ACPI on and off, and
    /// those that this machine's ACPI table FADT names.
    #[arg(long, value_name = "BYTE", default_value = "0", value_parser = byte)]
    pub value: u8,

    /// CPU that writes; it gets the SMI, on most machines together with all others [default: the first allowed]
    ///
    /// Some firmware, QEMU's for one, is ready for SMIs on CPU 0 only: on another they hang the machine.
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<u32>,

    /// Really do it
    #[arg(long)]
    pub yes: bool,

    /// Accept a --value that firmware takes for a request, and a firmware that names another port or none
    #[arg(long)]
    pub force: bool,
}

/// Options of `smilat verify`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  smilat verify                                 say what would be done, or what cannot be proven here
  smilat verify --yes                           20 SMIs at the first CPU, the next one watched
  smilat verify --yes --cpu 0 --watch 5 --threshold 2us
  smilat verify --yes --json | jq '.[] | select(.state != \"proven\")'")]
pub struct VerifyArgs {
    /// How many SMIs
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub count: u64,

    /// How they are fired; the time from one to the next varies at random around --interval.
    #[command(flatten)]
    pub shot: Shot,

    /// CPU that is watched, another than the one that writes [default: the next allowed]
    #[arg(long, value_name = "CPU")]
    pub watch: Option<u32>,

    /// Gaps at least this long must be seen
    #[arg(short, long, value_name = "TIME", default_value = "10us", value_parser = gap_time)]
    pub threshold: Duration,

    /// What finds the gaps
    #[arg(long, value_enum, default_value_t)]
    pub detector: Choice,

    /// What counts SMIs for the gaps' causes
    #[arg(long, value_enum, default_value_t)]
    pub counter: counter::Choice,

    /// Print the steps as a JSON array: claim, state, evidence
    #[arg(long)]
    pub json: bool,
}

fn byte(text: &str) -> Result<u8, String> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    (!digits.starts_with('+'))
        .then(|| u8::from_str_radix(digits, radix).ok())
        .flatten()
        .ok_or_else(|| "the port takes one byte; write 0 to 255 or 0x00 to 0xff".to_owned())
}

fn gap_time(text: &str) -> Result<Duration, String> {
    parse_time(text, Bare::Microseconds).map_err(|error| error.to_string())
}

fn pause(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_hours(1);
    match parse_time(text, Bare::Seconds) {
        Ok(time) if time > MAX => Err("above 1h, the longest that makes sense here".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_byte_is_decimal_or_hexadecimal() {
        for (text, value) in [("0", 0), ("255", 255), ("0x4f", 0x4f), ("0XFF", 255)] {
            assert_eq!(byte(text), Ok(value), "{text}");
        }
        for text in ["", "0x", "256", "0x100", "-1", "+1", "0x+1", "4f", "two"] {
            assert!(byte(text).is_err(), "{text}");
        }
    }
}
