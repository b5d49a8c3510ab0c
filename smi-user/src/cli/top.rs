//! The options of `smilat top`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{detection::Detection, run};

/// Options of `smilat top`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  smilat top                               all CPUs, at 1 % of one CPU
  smilat top --preset idle --cpus 2-3      two CPUs, closely
  smilat top --interval 10s --threshold 5us
  smilat top night.ndjson                  a recording, played again")]
pub struct TopArgs {
    /// Replay this recording instead of watching the machine: a file that `smilat run --record` or `--format ndjson` wrote
    #[arg(value_name = "FILE", conflicts_with_all = ["Detection", "interval"])]
    pub file: Option<PathBuf>,

    /// What is watched and how.
    #[command(flatten)]
    pub detection: Detection,

    /// Time between two looks at the numbers
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = run::interval, help_heading = "Display")]
    pub interval: Duration,

    /// Print no summary at the end, and nothing on standard error but errors
    #[arg(short, long, help_heading = "Display")]
    pub quiet: bool,
}
