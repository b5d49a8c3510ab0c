//! The command line: definitions and help texts only.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    counter,
    detector::Choice,
    kernel::{cpus::CpuList, dma_latency},
    settings::{Mode, Preset},
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
}

/// How reports are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people
    #[default]
    Text,
    /// One JSON object a line for each snapshot; docs/ndjson.md explains the fields
    Ndjson,
}

/// Options of `smilat run`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  smilat run                                  watch all CPUs at 1 % of one CPU until Ctrl-C
  smilat run --duration 1h --hardlimit 50us   exit status 1 if any gap exceeds 50 us
  smilat run --cpus 2-3 --preset idle         watch two CPUs closely
  smilat run --width 100ms --window 500ms --mode per-cpu --irqs-off-max 100us
  smilat run --format ndjson --duration 10s | jq '.cpus[].gaps.max_ns'")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub struct RunArgs {
    /// Drop gaps shorter than this in the kernel
    #[arg(short, long, value_name = "TIME", default_value = "10us", value_parser = gap_time, help_heading = "Detection")]
    pub threshold: Duration,

    /// Settings of width, window, irqs-off-max and mode that fit a kind of machine; each option overrules them
    #[arg(long, value_enum, default_value_t, help_heading = "Detection")]
    pub preset: Preset,

    /// Time spent sampling in each window; below --window
    #[arg(long, value_name = "TIME", value_parser = gap_time, help_heading = "Detection")]
    pub width: Option<Duration>,

    /// Time from one window to the next, on average: pauses vary at random, so that gaps which come at a fixed
    /// interval are neither always seen nor always missed
    #[arg(long, value_name = "TIME", value_parser = gap_time, help_heading = "Detection")]
    pub window: Option<Duration>,

    /// Longest stretch with interrupts off: what anything on the CPU may have to wait because of smilat
    ///
    /// 10us to 100ms. Shorter stretches are kinder to the workload and lose a little of each width to the interrupts
    /// served between them.
    #[arg(long, value_name = "TIME", value_parser = gap_time, help_heading = "Detection")]
    pub irqs_off_max: Option<Duration>,

    /// Which CPUs are sampled at a time
    #[arg(long, value_enum, help_heading = "Detection")]
    pub mode: Option<Mode>,

    /// CPUs to watch, in the kernel's notation (0-3,8) [default: all online]
    #[arg(short, long, value_name = "LIST", help_heading = "Detection")]
    pub cpus: Option<CpuList>,

    /// What finds the gaps
    #[arg(long, value_enum, default_value_t, help_heading = "Detection")]
    pub detector: Choice,

    /// What counts SMIs, so that gaps can be proven to be some
    ///
    /// A gap is put down to an SMI only if the counter of its CPU moved across it. NMIs and steal are told by the kernel
    /// and the hypervisor whatever is chosen here.
    #[arg(long, value_enum, default_value_t, help_heading = "Detection")]
    pub counter: counter::Choice,

    /// Real-time priority (FIFO policy) of the sampling threads, 0 for none
    ///
    /// Without it, busy CPUs take time from the windows. 1 is the lowest: every real-time thread of the workload with
    /// a higher priority goes first.
    #[arg(long, value_name = "0-99", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=99), help_heading = "Detection")]
    pub rt_priority: u8,

    /// Pass on at most this many single gaps per CPU and second; all are counted
    ///
    /// One that is longer than all before it in its interval is passed on beyond this number, unless this is 0.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=100_000), help_heading = "Detection")]
    pub max_gap_records: u64,

    /// Keep all CPUs out of idle states that take longer than this to wake up from, in whole us, while it runs
    ///
    /// 0 keeps them from sleeping at all. Deep idle states have windows begin late and CPUs begin slowly; hwlatdetect,
    /// rtla and cyclictest do the same. It costs power and heat. Held by `/dev/cpu_dma_latency`: the kernel lifts it when
    /// smilat ends, however it ends.
    #[arg(long, value_name = "TIME", value_parser = dma_latency, help_heading = "Detection")]
    pub dma_latency: Option<Duration>,

    /// Measure the share of cycles that SMIs take on each watched CPU, as `perf stat --smi-cost` does
    ///
    /// Of the cycles a CPU was awake (the register APERF), those that its own counter of cycles did not see because it
    /// stands still in SMIs: `freeze_on_smi` is 1 while smilat runs, for all users of perf on the machine, and put back
    /// afterwards. Takes an Intel CPU with one kind of cores, on bare metal.
    #[arg(long, help_heading = "Detection")]
    pub smi_cost: bool,

    /// Accept settings that leave a watched CPU little time for anything else
    #[arg(long, help_heading = "Detection")]
    pub force: bool,

    /// Time between reports
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = interval, help_heading = "Reports")]
    pub interval: Duration,

    /// Stop after this time [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Reports")]
    pub duration: Option<Duration>,

    /// Exit with status 1 if a gap was longer than this
    #[arg(long, value_name = "TIME", value_parser = gap_time, help_heading = "Reports")]
    pub hardlimit: Option<Duration>,

    /// How to report
    #[arg(short, long, value_enum, default_value_t, help_heading = "Reports")]
    pub format: Format,

    /// Write the reports to this file instead of standard output; replaces it
    #[arg(short, long, value_name = "FILE", help_heading = "Reports")]
    pub output: Option<PathBuf>,

    /// Say nothing on standard error but errors; in text, report only the final summary
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Reports")]
    pub quiet: bool,

    /// Log what is done, and the diagnostics of the BPF programs, to standard error
    #[arg(short, long, help_heading = "Reports")]
    pub verbose: bool,
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

fn pause(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_hours(1);
    match parse_time(text, Bare::Seconds) {
        Ok(time) if time > MAX => Err("above 1h, the longest that makes sense here".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

fn gap_time(text: &str) -> Result<Duration, String> {
    parse_time(text, Bare::Microseconds).map_err(|error| error.to_string())
}

fn dma_latency(text: &str) -> Result<Duration, String> {
    let limit = parse_time(text, Bare::Microseconds).map_err(|error| error.to_string())?;
    if limit > dma_latency::MAX {
        return Err(format!(
            "{text} is above 1s: no idle state takes as long to wake up from, so nothing would be limited; write 0 to 1s"
        ));
    }
    if limit.subsec_nanos() % 1_000 != 0 {
        return Err(format!(
            "{text} is not a whole number of microseconds, the only ones that /dev/cpu_dma_latency takes; round it"
        ));
    }
    Ok(limit)
}

fn duration(text: &str) -> Result<Duration, String> {
    match parse_time(text, Bare::Seconds) {
        Ok(time) if time.is_zero() => {
            Err("0 leaves no time to detect anything; leave it out to run until Ctrl-C".into())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_millis(10);
    match parse_time(text, Bare::Seconds) {
        Ok(time) if time < MIN => Err(format!(
            "{text} is below 10ms: reporting would cost more than detecting"
        )),
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
    fn bare_numbers_are_as_in_hwlatdetect() {
        let cli = Cli::parse_from([
            "smilat",
            "run",
            "--threshold",
            "20",
            "--duration",
            "60",
            "--width",
            "1000",
        ]);
        let Command::Run(args) = cli.command else {
            panic!("another command");
        };
        assert_eq!(args.threshold, Duration::from_micros(20));
        assert_eq!(args.duration, Some(Duration::from_mins(1)));
        assert_eq!(args.width, Some(Duration::from_millis(1)));
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

    #[test]
    fn times_that_make_no_sense_are_refused() {
        for (option, told) in [
            ("--duration=0", "no time to detect"),
            ("--interval=9ms", "below 10ms"),
            ("--dma-latency=1500ns", "whole number of microseconds"),
            ("--dma-latency=1001ms", "above 1s"),
        ] {
            let error = Cli::try_parse_from(["smilat", "run", option])
                .expect_err(option)
                .to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
