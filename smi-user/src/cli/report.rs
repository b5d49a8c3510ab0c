//! The options of `smilat report`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::gap_time;

/// Options of `smilat report`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  smilat run --record night.ndjson --duration 8h
  smilat report night.ndjson                         what it says, in a terminal
  smilat report night.ndjson -o night.html           the same and more as a page
  smilat report night.ndjson --hardlimit 50us        exit status 1 if any gap exceeded 50 us
  smilat report before.ndjson after.ndjson           side by side, and whether they differ by more than chance
  smilat report night.ndjson --json | jq '.summaries[].periods'
  smilat report iommu.ndjson -o iommu.html           the same of what smilat iommu wrote")]
pub struct ReportArgs {
    /// Recordings: what `smilat run --record` or `--format ndjson` wrote, as it is or compressed by gzip
    ///
    /// What was put aside from FILE (FILE.1.gz and so on) is read with it. Files that share a run are one recording, in
    /// whatever order they are named, and what is given twice counts once. Each other file is a recording of its own; the
    /// first is what the others are compared with. - is standard input. What `smilat iommu --format ndjson` wrote is reported, too,
    /// but not together with others.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Print tables for a terminal: what happens without --output and --json, too
    #[arg(long, conflicts_with = "json")]
    pub text: bool,

    /// Write one HTML page to this file, to be opened, printed or mailed: charts and tables, no scripts, no network
    ///
    /// It takes the place of an older page, but not that of a recording.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Print one JSON object: summaries and comparisons; docs/report.md explains the fields
    #[arg(long)]
    pub json: bool,

    /// Exit with status 1 if a gap was longer than this [default: the --hardlimit of the run]
    ///
    /// Of recordings of `smilat iommu` the status is 1 if the --ratio-limit of the run was exceeded.
    #[arg(long, value_name = "TIME", value_parser = gap_time)]
    pub hardlimit: Option<Duration>,
}
