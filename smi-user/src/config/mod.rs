//! The command line together with the file that `smilat run --config` names: each key of the file is an option of the
//! command line and becomes its arguments, so both are checked, explained and refused by the same definitions.

mod example;
mod file;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _, error::ErrorKind, parser::ValueSource,
};
use thiserror::Error;

use crate::cli::{Cli, Command, RunArgs};

pub use example::example;
use file::Entry;

/// Id of the option that names the file.
const CONFIG: &str = "config";
/// The command that takes it.
const RUN: &str = "run";

/// Why the command line, or the file it names, could not be understood.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// By clap, with its own way of telling it; help and version come this way, too.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The file could not be read.
    #[error("cannot read the configuration {}", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// A line of the file is wrong.
    #[error("{}:{line}: {message}", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// The file's options do not go together, among themselves or with those of the command line.
    #[error("{}: {message}", .file.display())]
    Together {
        /// The file.
        file: PathBuf,
        /// What clap says of it.
        message: String,
    },
}

/// The values of each option of a command, by its long name, as they were written; defaults too.
pub type Options = BTreeMap<String, Vec<OsString>>;

/// A command line that was understood, the file it names included.
#[derive(Debug)]
pub struct Understood {
    /// What to do.
    pub cli: Cli,
    /// The options of the command.
    pub options: Options,
}

impl Understood {
    /// The options of `smilat run`; `None` for another command.
    pub fn run(&self) -> Option<&RunArgs> {
        match &self.cli.command {
            Command::Run(args) => Some(args),
            _ => None,
        }
    }
}

/// Long names of the options that have other values in one than in the other.
pub fn differences(one: &Options, other: &Options) -> Vec<String> {
    let mut differing: Vec<String> = one
        .keys()
        .chain(other.keys())
        .filter(|name| one.get(*name) != other.get(*name))
        .cloned()
        .collect();
    differing.sort();
    differing.dedup();
    differing
}

/// Understands `arguments`, the program's name first.
///
/// # Errors
/// When they are wrong, or the file that they name is.
pub fn understand(arguments: &[OsString]) -> Result<Understood, ConfigError> {
    let matches = match Cli::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        // What is missing may stand in the file.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            names_file(arguments).ok_or(error)?
        }
        Err(error) => return Err(error.into()),
    };
    let matches = match matches.subcommand() {
        Some((RUN, run)) if run.contains_id(CONFIG) => with_file(arguments, run)?,
        _ => matches,
    };
    let options = matches
        .subcommand()
        .map(|(name, matches)| written(name, matches))
        .unwrap_or_default();
    Ok(Understood {
        cli: Cli::from_arg_matches(&matches)?,
        options,
    })
}

/// What `arguments` say by themselves, where they name a file.
fn names_file(arguments: &[OsString]) -> Option<ArgMatches> {
    let matches = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(arguments)
        .ok()?;
    let (name, run) = matches.subcommand()?;
    (name == RUN && run.contains_id(CONFIG)).then_some(matches)
}

/// The definition of `smilat run`.
fn run_command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
        .find_subcommand(RUN)
        .cloned()
        .unwrap_or_else(|| clap::Command::new(RUN))
}

/// Puts the file's options before those of the command line.
fn with_file(arguments: &[OsString], given: &ArgMatches) -> Result<ArgMatches, ConfigError> {
    let Some(file) = given.get_one::<PathBuf>(CONFIG) else {
        return Ok(Cli::command().try_get_matches_from(arguments)?);
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::Unreadable(file.clone(), error))?;
    let command = run_command();
    let entries = file::entries(&text, &command).map_err(|wrong| wrong.in_file(file))?;
    // By itself first: what is wrong with a value is told with its line.
    for entry in &entries {
        check(entry, file)?;
    }
    let in_force =
        |entry: &&Entry| !is_overruled(entry, &command, given) && !is_default(entry, &command);
    let from_file = entries
        .iter()
        .filter(in_force)
        .flat_map(|entry| entry.arguments.iter().map(OsString::from));
    // The program's name and the command, which has no options before it.
    let (head, own) = arguments.split_at(2.min(arguments.len()));
    let all = head
        .iter()
        .cloned()
        .chain(from_file)
        .chain(own.iter().cloned());
    Cli::command()
        .try_get_matches_from(all)
        .map_err(|error| ConfigError::Together {
            file: file.clone(),
            message: plain(&error),
        })
}

/// Whether the command line has the option itself, or one that excludes it.
fn is_overruled(entry: &Entry, command: &clap::Command, given: &ArgMatches) -> bool {
    let by_hand = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let excludes = |one: &clap::Arg, other: &clap::Arg| {
        let mut conflicts = command.get_arg_conflicts_with(one).into_iter();
        conflicts.any(|conflict| conflict.get_id() == other.get_id())
    };
    let Some(arg) = command
        .get_arguments()
        .find(|arg| arg.get_id() == entry.id.as_str())
    else {
        return false;
    };
    command
        .get_arguments()
        .filter(|other| by_hand(other.get_id().as_str()))
        .any(|other| other.get_id() == arg.get_id() || excludes(arg, other) || excludes(other, arg))
}

/// Whether the entry says what would be so without it: it then asks for nothing, such as an option that it goes with.
fn is_default(entry: &Entry, command: &clap::Command) -> bool {
    let is_its = |arg: &&clap::Arg| arg.get_id() == entry.id.as_str();
    let defaults = command.get_arguments().find(is_its).into_iter();
    let written: Vec<OsString> = defaults
        .flat_map(clap::Arg::get_default_values)
        .map(|value| {
            let mut argument = OsString::from(format!("--{}=", entry.key));
            argument.push(value);
            argument
        })
        .collect();
    !written.is_empty()
        && entry
            .arguments
            .iter()
            .map(OsString::from)
            .eq(written.iter().cloned())
}

/// Whether clap takes the entry's values; whether it goes with others shows later.
fn check(entry: &Entry, file: &Path) -> Result<(), ConfigError> {
    use ErrorKind::{
        InvalidUtf8, InvalidValue, TooFewValues, TooManyValues, ValueValidation,
        WrongNumberOfValues,
    };
    let arguments = ["smilat", RUN]
        .into_iter()
        .chain(entry.arguments.iter().map(String::as_str));
    let Err(error) = Cli::command().try_get_matches_from(arguments) else {
        return Ok(());
    };
    match error.kind() {
        InvalidValue | ValueValidation | TooFewValues | TooManyValues | WrongNumberOfValues
        | InvalidUtf8 => Err(ConfigError::Line {
            file: file.to_owned(),
            line: entry.line,
            message: format!("{}: {}", entry.key, plain(&error)),
        }),
        _ => Ok(()),
    }
}

/// What clap says, in one line.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("For more information") && !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// The values of all options, as they were written.
fn written(command: &str, matches: &ArgMatches) -> Options {
    let mut all = Cli::command();
    all.build();
    let Some(command) = all.find_subcommand(command) else {
        return Options::new();
    };
    command
        .get_arguments()
        .filter_map(|arg| {
            let values = matches.try_get_raw(arg.get_id().as_str()).ok()??;
            Some((
                arg.get_long()?.to_owned(),
                values.map(OsString::from).collect(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests;
