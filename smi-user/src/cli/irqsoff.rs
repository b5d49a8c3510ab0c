//! The options of `smilat irqsoff`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{gap_time, reports::Reports};
use crate::{
    counter,
    irqsoff::{Level, Threshold},
    kernel::cpus::CpuList,
};

/// What is done about a stretch, besides counting it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Disposition {
    /// Nothing: it is counted
    Ignore,
    /// Write an entry
    #[default]
    Log,
    /// Write an entry, and the state of the whole machine to a file
    Dump,
    /// Write an entry and panic the machine, so that kdump keeps all of its memory
    Panic,
}

/// Options of `smilat irqsoff`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  smilat irqsoff                                   half a second and more, on all CPUs, until Ctrl-C
  smilat irqsoff --level detail                    40 ms and more
  smilat irqsoff --tick 1ms --threshold 5ms        5 ms and more
  smilat irqsoff --self-test 55ticks               see it work: keeps interrupts off for 550 ms
  smilat irqsoff --exempt-file /etc/smilat.exempt --disposition dump
  smilat irqsoff --format ndjson | jq 'select(.event) | .event | [.least_ns, .stack[0]]'")]
pub struct IrqsoffArgs {
    /// How long a stretch must be
    #[arg(long, value_enum, default_value_t, help_heading = "Detection")]
    pub level: Level,

    /// The same as a time, or as a number of ticks from 3 to 62; 0 for none: only how late ticks come is measured then
    ///
    /// Fewer than 3 ticks are refused: how long such a stretch was would be known to no better than a half.
    #[arg(
        short,
        long,
        value_name = "TIME|TICKS",
        conflicts_with = "level",
        help_heading = "Detection"
    )]
    pub threshold: Option<Threshold>,

    /// Time from one tick to the next, 100us to 10ms
    ///
    /// A stretch that is longer than threshold and tick together is seen for sure, one shorter than the threshold never.
    /// Each tick wakes an idle CPU, and what the programs at the kernel's tracepoints take depends on how much goes on:
    /// docs/bench.md has examples.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = gap_time, help_heading = "Detection")]
    pub tick: Duration,

    /// CPUs to watch, in the kernel's notation (0-3,8) [default: all online]
    #[arg(short, long, value_name = "LIST", help_heading = "Detection")]
    pub cpus: Option<CpuList>,

    /// What counts SMIs: a tick that one makes late is not software's
    #[arg(long, value_enum, default_value_t, help_heading = "Detection")]
    pub counter: counter::Choice,

    /// Count stretches whose stack leads through this function of the kernel apart, and log none of them; may be repeated
    #[arg(long, value_name = "FUNCTION", help_heading = "Exemption")]
    pub exempt: Vec<String>,

    /// The same for all functions in this file: a line each, the function and behind it the reason why; # begins a comment
    #[arg(long, value_name = "FILE", help_heading = "Exemption")]
    pub exempt_file: Option<PathBuf>,

    /// What to do about a stretch, besides counting it
    #[arg(long, value_enum, default_value_t, help_heading = "Disposition")]
    pub disposition: Disposition,

    /// Really panic the machine, where --disposition is panic
    #[arg(long, help_heading = "Disposition")]
    pub yes_panic_this_machine: bool,

    /// Where the files of --disposition dump go
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/var/log/smilat",
        help_heading = "Disposition"
    )]
    pub dump_folder: PathBuf,

    /// Write at most this many entries for each stack until the machine is started anew; all are counted
    ///
    /// Stacks are the same when they lead through the same functions. How often each was logged is kept in /run/smilat.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Disposition"
    )]
    pub max_log: u64,

    /// Keep interrupts off for this long on one CPU, once, and see whether that is noticed: a time, or a number of ticks
    ///
    /// Nothing else runs on that CPU meanwhile. Exit status: 0 it was noticed, and its length is right within a tick; 1 it
    /// was not.
    #[arg(long, value_name = "TIME|TICKS", help_heading = "Self-test")]
    pub self_test: Option<Threshold>,

    /// What becomes of it.
    #[command(flatten)]
    pub reports: Reports,
}
