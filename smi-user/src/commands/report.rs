//! `smilat report`: what recordings say.

use std::{
    collections::BTreeSet,
    fs,
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
    recording::{self, Line, Reader},
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
    if let Some(page) = &args.output {
        write(page, &report::html(&summaries, &comparisons))?;
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

/// Writes the whole page or leaves what `file` held: a page is replaced only by one that is complete.
fn write(file: &Path, page: &str) -> Result<()> {
    let told = || format!("cannot write {}", file.display());
    // A device or a pipe is written to; only files can be replaced.
    if file.exists() && !file.is_file() {
        return fs::write(file, page).with_context(told);
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".tmp");
    let new = PathBuf::from(name);
    let written = fs::write(&new, page).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // What could be written of it is of no use to anybody.
        let _gone = fs::remove_file(&new);
    }
    written.with_context(told)
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
    // What was put aside from a recording is read with it: named beside it, as a shell's FILE* does, it must not count twice.
    let mut read_with: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files {
        read_with.extend(
            recording::files(file)?
                .into_iter()
                .filter(|part| part != file),
        );
    }
    for file in files.iter().filter(|file| !read_with.contains(*file)) {
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
        for remark in reader.remarks() {
            summariser.remark(&remark);
        }
    }
    Ok(summariser.finish()?)
}

fn name(file: &Path) -> String {
    file.display().to_string()
}
