//! The options of `smilat run`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{detection::Detection, gap_time, push::PushArgs};
use crate::{
    serve::parse_address,
    units::{Bare, parse_size, parse_time},
};

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
  smilat run --record gaps.ndjson             keep everything, beside the report on the terminal
  smilat run --listen 9793 --quiet            metrics for Prometheus on loopback
  smilat run --format ndjson --duration 10s | jq '.cpus[].gaps.max_ns'
  smilat run --quiet --otlp http://localhost:4318 --otlp-header @/etc/smilat/token")]
pub struct RunArgs {
    /// What is watched and how.
    #[command(flatten)]
    pub detection: Detection,

    /// Time between reports
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = interval, help_heading = "Reports")]
    pub interval: Duration,

    /// Stop after this time [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Reports")]
    pub duration: Option<Duration>,

    /// Exit with status 1 if a gap was longer than this
    #[arg(long, value_name = "TIME", value_parser = gap_time, help_heading = "Reports")]
    pub hardlimit: Option<Duration>,

    /// Where snapshots are pushed to.
    #[command(flatten)]
    pub push: PushArgs,

    /// How to report
    #[arg(short, long, value_enum, default_value_t, help_heading = "Reports")]
    pub format: Format,

    /// Write the reports to this file instead of standard output; replaces it
    #[arg(short, long, value_name = "FILE", help_heading = "Reports")]
    pub output: Option<PathBuf>,

    /// Answer Prometheus on this address: /metrics, and /healthz; a bare PORT is one of loopback
    ///
    /// The newest interval's counts, as native histograms where the server asks for them; docs/metrics.md explains every
    /// metric. An --interval no longer than the scrape interval keeps them fresh. Whoever reaches the address can read them:
    /// there is no password and no encryption.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address, help_heading = "Reports")]
    pub listen: Option<SocketAddr>,

    /// Give Prometheus a histogram for each CPU instead of one for the machine
    ///
    /// Costs 1 series for each CPU as native histograms, 28 as classic ones.
    #[arg(long, requires = "listen", help_heading = "Reports")]
    pub per_cpu_histograms: bool,

    /// Add every snapshot and its single gaps to this file, whatever --format says; what it holds is kept
    ///
    /// One JSON object a line, after a header that tells the machine (docs/ndjson.md). A file that holds a recording
    /// already is added to, one that holds anything else is refused. When it reaches --rotate-size it is put aside as
    /// FILE.1.gz, the one before as FILE.2.gz, and so on; programs that are given FILE read these first. A kill or a
    /// crash costs the interval under way, the line being written and those that wait for a slow disk, a power failure
    /// the last half minute. What cannot be written (full disk) is counted and told, the collection goes on, and the exit
    /// status is 2 at the end. A reader of the reports that goes away does not end a run that records.
    #[arg(long, value_name = "FILE", help_heading = "Recording")]
    pub record: Option<PathBuf>,

    /// Begin a new file of the recording at this size: KiB, MiB or GiB; at least 64KiB
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = rotate_size, requires = "record", help_heading = "Recording")]
    pub rotate_size: u64,

    /// Keep this many older files of the recording, compressed; still older ones are deleted, with 0 all of them
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=9999), requires = "record", help_heading = "Recording")]
    pub rotate_keep: u64,

    /// Say nothing on standard error but errors; in text, report only the final summary
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Reports")]
    pub quiet: bool,

    /// Log what is done, and the diagnostics of the BPF programs, to standard error
    #[arg(short, long, help_heading = "Reports")]
    pub verbose: bool,

    /// Take options from this file too (TOML): `threshold = "10us"`, `cpus = "2-3"`, `force = true`
    ///
    /// Each key is the long name of an option. What is given on the command line overrules the file; only a switch that is
    /// true in the file cannot be switched off there. On SIGHUP the file is read again, and what has changed takes effect
    /// without losing counts: what is watched and how, --interval, --otlp-interval and --otlp-header. If the file is wrong
    /// then, or anything of that cannot be had, all goes on as before. SIGHUP because the terminal was closed ends the run.
    /// /etc/smilat.toml
    /// of the Debian package lists every option.
    #[arg(long, value_name = "FILE", help_heading = "Service")]
    pub config: Option<PathBuf>,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match parse_time(text, Bare::Seconds) {
        Ok(time) if time.is_zero() => {
            Err("0 leaves no time to detect anything; leave it out to run until Ctrl-C".into())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

fn rotate_size(text: &str) -> Result<u64, String> {
    const MIN: u64 = 64 << 10;
    match parse_size(text) {
        Ok(size) if size < MIN => Err(format!(
            "{text} is below 64KiB: some machines' snapshots would not fit a file, and the files would be many"
        )),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
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
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

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
        assert_eq!(args.detection.threshold, Duration::from_micros(20));
        assert_eq!(args.duration, Some(Duration::from_mins(1)));
        assert_eq!(args.detection.width, Some(Duration::from_millis(1)));
    }

    #[test]
    fn times_that_make_no_sense_are_refused() {
        for (option, told) in [
            ("--duration=0", "no time to detect"),
            ("--interval=9ms", "below 10ms"),
            ("--rotate-size=63KiB", "below 64KiB"),
            ("--rotate-size=64parsecs", "unknown unit"),
            ("--rotate-keep=10000", "9999"),
            ("--rotate-keep=1", "--record <FILE>"),
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
