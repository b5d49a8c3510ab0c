//! `smilat report`: what recordings say.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::messages;
use crate::{
    analysis::{Summariser, compare},
    cli::ReportArgs,
    model::{Comparison, SCHEMA_VERSION, Summary},
    recording::{Line, Reader},
    report,
    units::ns,
};

/// Exit status when a gap exceeded the hardlimit.
const EXCEEDED: u8 = 1;

/// How the report is written.
enum Form {
    /// Tables for a terminal.
    Text,
    /// One object.
    Json,
}

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
/// When a recording cannot be read or holds nothing, or the report cannot be written.
pub fn run(args: &ReportArgs) -> Result<ExitCode> {
    messages::init(log::LevelFilter::Warn);
    let hardlimit_ns = args.hardlimit.map(ns);
    let summaries = recordings(&args.files)?
        .iter()
        .map(|files| summarise(files, hardlimit_ns))
        .collect::<Result<Vec<Summary>>>()?;
    let comparisons: Vec<Comparison> = match summaries.split_first() {
        Some((first, others)) => others.iter().map(|other| compare(first, other)).collect(),
        None => Vec::new(),
    };
    // CALL SITE of the HTML page: `-o FILE` makes one more form, whose arm writes `report::html(&summaries, &comparisons)`
    // to the file.
    let form = if args.json { Form::Json } else { Form::Text };
    match form {
        Form::Json => print(&json(&summaries, &comparisons)?)?,
        Form::Text => print(&report::summaries(
            &summaries,
            &comparisons,
            colour(),
            &TimeZone::system(),
        ))?,
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

/// The files of one recording, in their order.
struct Recording {
    /// The run they are parts of: when it began and where. `None` where the file does not say.
    run: Option<(Timestamp, Option<String>)>,
    parts: Vec<(u64, PathBuf)>,
}

/// The files put together to recordings, each where its first file is named.
fn recordings(files: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>> {
    let mut all: Vec<Recording> = Vec::new();
    for file in files {
        let (run, part) = match Reader::open(file)?.next_line()? {
            Some(Line::Header(header)) => {
                (Some((header.started, header.machine.hostname)), header.part)
            }
            _ => (None, 1),
        };
        let same = all
            .iter_mut()
            .find(|other| run.is_some() && other.run == run)
            .filter(|other| other.parts.iter().all(|(number, _)| *number != part));
        match same {
            Some(recording) => recording.parts.push((part, file.clone())),
            None => all.push(Recording {
                run,
                parts: vec![(part, file.clone())],
            }),
        }
    }
    Ok(all
        .into_iter()
        .map(|mut recording| {
            recording.parts.sort();
            recording.parts.into_iter().map(|(_, file)| file).collect()
        })
        .collect())
}

fn summarise(files: &[PathBuf], hardlimit_ns: Option<u64>) -> Result<Summary> {
    let names: Vec<String> = files.iter().map(|file| name(file)).collect();
    let mut summariser = Summariser::new(names.join(", "), hardlimit_ns);
    for (file, name) in files.iter().zip(&names) {
        let mut reader = Reader::open(file)?;
        while let Some(line) = reader.next_line()? {
            summariser.add(name, line);
        }
    }
    Ok(summariser.finish()?)
}

fn name(file: &Path) -> String {
    file.display().to_string()
}
