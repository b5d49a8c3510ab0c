//! The files that were named, put together to recordings.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use jiff::Timestamp;

use crate::{
    analysis::{IommuSummariser, Summariser},
    model::{Summary, iommu_recording::IommuRecording},
    recording::{self, IommuReader, Line, Reader, RecordingError, Remark},
};

/// What tells one run from all others: when it began, and where.
type Run = (Timestamp, Option<String>);

/// A file that was named.
pub(super) struct Named {
    /// As it was named.
    name: String,
    /// What is opened.
    path: PathBuf,
    /// Opened, with its first line, if it can be read but once, as a pipe.
    opened: Option<(Reader, Option<Line>)>,
    /// The run that its first line is of, and which part of it; `None` without a header.
    first: Option<(Run, u64)>,
    /// All runs in it, as far as they matter.
    runs: Vec<Run>,
}

/// All recordings, of one kind.
pub(super) enum Recordings {
    /// Gaps: the files of each recording.
    Gaps(Vec<Vec<Named>>),
    /// What `smilat iommu` wrote: each file and its name.
    Iommu(Vec<(String, IommuReader)>),
}

/// A file that was opened.
enum Opened {
    Gaps(Named),
    Iommu(String, IommuReader),
}

/// The files, each recognised by its first line.
///
/// # Errors
/// When a file cannot be read, or is no recording, or they are of different kinds.
pub(super) fn open(files: &[PathBuf]) -> Result<Recordings> {
    let (mut gaps, mut iommu) = (Vec::new(), Vec::new());
    for (name, path) in once(files)? {
        match Named::open(name, path)? {
            Opened::Gaps(named) => gaps.push(named),
            Opened::Iommu(name, reader) => iommu.push((name, reader)),
        }
    }
    match (gaps.first(), iommu.first()) {
        (Some(gaps), Some((iommu, _))) => bail!(
            "{} is a recording of smilat run and {iommu} one of smilat iommu: they have nothing to be compared by; report them one \
             after the other",
            gaps.name
        ),
        (None, Some(_)) => Ok(Recordings::Iommu(iommu)),
        _ => Ok(Recordings::Gaps(recordings(gaps)?)),
    }
}

/// The files put together to recordings, each where its first file is named: what shares a run is one recording.
fn recordings(mut all: Vec<Named>) -> Result<Vec<Vec<Named>>> {
    find_beginnings(&mut all)?;
    let mut recordings: Vec<Vec<Named>> = Vec::new();
    for file in all {
        let shares = |recording: &Vec<Named>| {
            recording
                .iter()
                .flat_map(|other| &other.runs)
                .any(|run| file.runs.contains(run))
        };
        let Some(at) = recordings.iter().position(shares) else {
            recordings.push(vec![file]);
            continue;
        };
        // It may be what two recordings have in common.
        let others: Vec<Vec<Named>> = recordings
            .extract_if(at + 1.., |recording| shares(recording))
            .collect();
        recordings[at].extend(others.into_iter().flatten());
        recordings[at].push(file);
    }
    for recording in &mut recordings {
        recording.sort_by(|a, b| a.first.cmp(&b.first));
    }
    Ok(recordings)
}

/// The names and files to be read: each once, and what is read together with another only with that.
fn once(files: &[PathBuf]) -> Result<Vec<(String, PathBuf)>> {
    // What was put aside from a recording is read with it: named beside it, as a shell's FILE* does, it must not count twice.
    let mut read_with: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files {
        let path = resolved(file);
        let others = recording::files(&path)?
            .into_iter()
            .filter(|part| *part != path);
        read_with.extend(others.map(|part| identity(&part)));
        if path.is_file() {
            let beside = recording::beside(&path);
            read_with.extend(beside.iter().map(|other| identity(other)));
        }
    }
    let mut known = BTreeSet::new();
    let mut all = Vec::new();
    for file in files {
        let path = resolved(file);
        let identity = identity(&path);
        if read_with.contains(&identity) {
            continue;
        }
        if known.insert(identity) {
            all.push((file.display().to_string(), path));
        } else {
            log::warn!("{} is named twice: it is read once", file.display());
        }
    }
    Ok(all)
}

/// The file that a link leads to, unless parts lie beside the link: those beside the file belong to it.
fn resolved(file: &Path) -> PathBuf {
    let link = file.is_symlink() && file.is_file();
    if link && recording::files(file).is_ok_and(|parts| parts.len() == 1) {
        identity(file)
    } else {
        file.to_owned()
    }
}

/// The same for all names of a file.
fn identity(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}

impl Named {
    fn open(name: String, path: PathBuf) -> Result<Opened> {
        let mut reader = Reader::open(&path)?;
        let line = match reader.next_line() {
            Err(RecordingError::Iommu(_)) => {
                return Ok(Opened::Iommu(name, IommuReader::new(reader)));
            }
            line => line?,
        };
        let first = match &line {
            Some(Line::Header(header)) => Some((
                (header.started, header.machine.hostname.clone()),
                header.part,
            )),
            _ => None,
        };
        Ok(Opened::Gaps(Self {
            name,
            // Standard input is called so, even where a file is, too.
            opened: (path == Path::new("-") || !path.is_file()).then_some((reader, line)),
            path,
            runs: first.iter().map(|(run, _)| run.clone()).collect(),
            first,
        }))
    }
}

/// Where a file goes on with a run that none begins with, the run may have begun in a file that begins with an earlier one:
/// those are read for it.
fn find_beginnings(all: &mut [Named]) -> Result<()> {
    let begins = |run: &Run, part| {
        all.iter().any(|file| {
            file.first
                .as_ref()
                .is_some_and(|first| (&first.0, first.1) == (run, part))
        })
    };
    let sought: BTreeSet<Run> = all
        .iter()
        .filter_map(|file| file.first.as_ref())
        .filter(|(run, part)| *part > 1 && !begins(run, 1))
        .map(|(run, _)| run.clone())
        .collect();
    for file in all.iter_mut().filter(|file| file.opened.is_none()) {
        let Some((first, _)) = &file.first else {
            continue;
        };
        if !sought.iter().any(|run| run != first && run.1 == first.1) {
            continue;
        }
        let mut reader = Reader::open(&file.path)?;
        while let Some(line) = reader.next_line()? {
            if let Line::Header(header) = line {
                let run = (header.started, header.machine.hostname);
                if !file.runs.contains(&run) {
                    file.runs.push(run);
                }
            }
        }
    }
    Ok(())
}

/// What a recording says.
///
/// # Errors
/// When a file cannot be read, nothing is in it, or the hardlimit cannot be judged.
pub(super) fn summarise(files: Vec<Named>, hardlimit_ns: Option<u64>) -> Result<Summary> {
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let mut summariser = Summariser::new(names.join(", "), hardlimit_ns);
    let mut parts = BTreeSet::new();
    let mut remarks = Vec::new();
    for file in files {
        let (mut reader, mut first) = match file.opened {
            Some(opened) => opened,
            None => (Reader::open(&file.path)?, None),
        };
        while let Some(line) = match first.take() {
            Some(line) => Some(line),
            None => reader.next_line()?,
        } {
            if let Line::Header(header) = &line {
                parts.insert((header.started, header.part));
            }
            if reader.path() == file.path {
                summariser.add(&file.name, line);
            } else {
                summariser.add(&reader.path().display().to_string(), line);
            }
        }
        remarks.extend(reader.remarks());
    }
    for remark in remarks {
        // A reader sees one file, and the parts of a run may be in several.
        let there = match &remark {
            Remark::PartsMissing {
                started,
                first,
                last,
            } => (*first..=*last).all(|part| parts.contains(&(*started, part))),
            _ => false,
        };
        if !there {
            summariser.remark(&remark);
        }
    }
    Ok(summariser.finish()?)
}

/// What a recording of `smilat iommu` says.
///
/// # Errors
/// When it cannot be read, or nothing is in it.
pub(super) fn summarise_iommu(name: String, mut reader: IommuReader) -> Result<IommuRecording> {
    let mut summariser = IommuSummariser::new(name);
    while let Some(line) = reader.next_line()? {
        summariser.add(line);
    }
    Ok(summariser.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        iommu::made_up::{ratio, snapshot},
        made_up,
        report::{Ndjson, iommu},
    };

    fn write(folder: &Path, name: &str, lines: &[bytes::Bytes]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, lines.concat()).expect("written");
        path
    }

    #[test]
    fn recordings_of_two_kinds_are_not_reported_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let of_iommu = write(
            folder.path(),
            "iommu",
            &[
                Ndjson::line(&iommu::Line::Event(&ratio())),
                Ndjson::line(&iommu::Line::Snapshot(&snapshot())),
            ],
        );
        let machine = made_up::Machine::new(1).interval(&[]);
        let of_gaps = write(folder.path(), "gaps", &[Ndjson::line(&*machine)]);
        let both = [of_gaps.clone(), of_iommu.clone()];
        let Err(error) = open(&both) else {
            panic!("not refused");
        };
        let error = error.to_string();
        assert!(
            error.contains("gaps is a recording of smilat run and ") && error.contains("iommu one"),
            "{error}"
        );
        assert!(matches!(open(&[of_gaps]), Ok(Recordings::Gaps(_))));
        let Ok(Recordings::Iommu(files)) = open(&[of_iommu]) else {
            panic!("not recognised");
        };
        for (name, reader) in files {
            let of = summarise_iommu(name, reader).expect("a summary");
            assert_eq!((of.snapshots, of.events), (1, vec![ratio()]));
        }
    }
}
