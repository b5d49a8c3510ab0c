//! `smilat report`: what recordings say.

mod page;
mod recordings;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::messages;
use crate::{
    analysis::compare,
    cli::ReportArgs,
    model::{Comparison, SCHEMA_VERSION, Summary},
    report,
    units::ns,
};

/// Exit status when a gap exceeded the hardlimit.
const EXCEEDED: u8 = 1;

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    schema_version: u32,
    summaries: &'a [Summary],
    comparisons: &'a [Comparison],
}

/// Runs the command.
///
/// # Errors
/// When a recording cannot be read or holds nothing, or the report cannot be written, or would replace a recording.
pub fn run(args: &ReportArgs) -> Result<ExitCode> {
    messages::init(log::LevelFilter::Warn);
    let hardlimit_ns = args.hardlimit.map(ns);
    if let Some(page) = &args.output {
        page::check(page, &args.files)?;
    }
    let summaries = recordings::recordings(&args.files)?
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
        print(&json(&summaries, &comparisons)?)?;
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
    Ok(if exceeded {
        ExitCode::from(EXCEEDED)
    } else {
        ExitCode::SUCCESS
    })
}

fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn json(summaries: &[Summary], comparisons: &[Comparison]) -> Result<String> {
    let text = serde_json::to_string(&Json {
        schema_version: SCHEMA_VERSION,
        summaries,
        comparisons,
    })
    .context("the report cannot be written as JSON")?;
    Ok(text + "\n")
}

/// A reader that went away has seen enough.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
