//! The options of reports that `smilat irqsoff` and `smilat iommu` share.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::{
    Format,
    run::{duration, interval},
};
use crate::serve::parse_address;

/// What becomes of what is found.
#[derive(Args, Debug)]
pub struct Reports {
    /// Time between snapshots of all counts (--format ndjson, --listen, and the tables of smilat iommu)
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = interval, help_heading = "Reports")]
    pub interval: Duration,

    /// Stop after this time [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Reports")]
    pub duration: Option<Duration>,

    /// How to report
    #[arg(short, long, value_enum, default_value_t, help_heading = "Reports")]
    pub format: Format,

    /// Answer Prometheus on this address: /metrics, and /healthz; a bare PORT is one of loopback
    ///
    /// What was counted at the end of the last --interval. Whoever reaches the address can read it.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address, help_heading = "Reports")]
    pub listen: Option<SocketAddr>,

    /// Write the reports to this file instead of standard output; replaces it
    #[arg(short, long, value_name = "FILE", help_heading = "Reports")]
    pub output: Option<PathBuf>,

    /// Say nothing on standard error but errors
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Reports")]
    pub quiet: bool,

    /// Log what is done, and the diagnostics of the BPF programs, to standard error
    #[arg(short, long, help_heading = "Reports")]
    pub verbose: bool,
}
