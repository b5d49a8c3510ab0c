//! `smilat report`: what recordings say.

mod page;
mod recordings;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::messages;
use crate::{
    analysis::compare,
    cli::ReportArgs,
    model::{
        Comparison, SCHEMA_VERSION, Summary, iommu::IOMMU_SCHEMA_VERSION,
        iommu_recording::IommuRecording,
    },
    recording::IommuReader,
    report,
    units::ns,
};
use recordings::{Named, Recordings};

/// Exit status when a gap exceeded the hardlimit, or unmaps for each map their limit.
const EXCEEDED: u8 = 1;

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    schema_version: u32,
    summaries: &'a [Summary],
    comparisons: &'a [Comparison],
}

/// What `--json` prints of recordings of `smilat iommu`.
#[derive(Serialize)]
struct IommuJson<'a> {
    schema_version: u32,
    iommu: &'a [IommuRecording],
}

/// Runs the command.
///
/// # Errors
/// When a recording cannot be read or holds nothing, or the report cannot be written, or would replace a recording.
pub fn run(args: &ReportArgs) -> Result<ExitCode> {
    messages::init(log::LevelFilter::Warn);
    if let Some(page) = &args.output {
        page::check(page, &args.files)?;
    }
    match recordings::open(&args.files)? {
        Recordings::Gaps(recordings) => gaps(args, recordings),
        Recordings::Iommu(files) => iommu(args, files),
    }
}

/// Reports recordings of gaps.
fn gaps(args: &ReportArgs, recordings: Vec<Vec<Named>>) -> Result<ExitCode> {
    let hardlimit_ns = args.hardlimit.map(ns);
    let summaries = recordings
        .into_iter()
        .map(|files| recordings::summarise(files, hardlimit_ns))
        .collect::<Result<Vec<Summary>>>()?;
    let comparisons: Vec<Comparison> = match summaries.split_first() {
        Some((first, others)) => others.iter().map(|other| compare(first, other)).collect(),
        None => Vec::new(),
    };
    if let Some(page) = &args.output {
        page::write(page, &report::html(&summaries, &comparisons))?;
    }
    if args.json {
        print(&json(&Json {
            schema_version: SCHEMA_VERSION,
            summaries: &summaries,
            comparisons: &comparisons,
        })?)?;
    } else if args.text || args.output.is_none() {
        print(&report::summaries(
            &summaries,
            &comparisons,
            colour(),
            &TimeZone::system(),
        ))?;
    }
    let exceeded = summaries
        .iter()
        .filter_map(|summary| summary.verdict.as_ref())
        .any(|verdict| verdict.exceeded);
    Ok(status(exceeded))
}

/// Reports recordings of `smilat iommu`.
fn iommu(args: &ReportArgs, files: Vec<(String, IommuReader)>) -> Result<ExitCode> {
    ensure!(
        args.hardlimit.is_none(),
        "--hardlimit is one of gaps, and a recording of smilat iommu has none; leave it out"
    );
    let recordings = files
        .into_iter()
        .map(|(name, reader)| recordings::summarise_iommu(name, reader))
        .collect::<Result<Vec<IommuRecording>>>()?;
    if let Some(page) = &args.output {
        page::write(page, &report::iommu_html(&recordings))?;
    }
    if args.json {
        print(&json(&IommuJson {
            schema_version: IOMMU_SCHEMA_VERSION,
            iommu: &recordings,
        })?)?;
    } else if args.text || args.output.is_none() {
        print(&report::iommu::recorded(&recordings, &TimeZone::system()))?;
    }
    Ok(status(recordings.iter().any(|of| of.ratio_alarms > 0)))
}

fn status(exceeded: bool) -> ExitCode {
    if exceeded {
        ExitCode::from(EXCEEDED)
    } else {
        ExitCode::SUCCESS
    }
}

fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn json(object: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(object).context("the report cannot be written as JSON")?;
    Ok(text + "\n")
}

/// A reader that went away has seen enough.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
