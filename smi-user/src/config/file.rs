//! The keys of a configuration, as arguments of the command line.

use std::path::Path;

use clap::{Arg, ArgAction, Command};
use toml::de::{DeTable, DeValue};

use super::{CONFIG, ConfigError};

/// Below it, a key is not taken for another that was mistyped.
const ALIKE: f64 = 0.7;

/// One key of the file.
#[derive(Debug)]
pub(super) struct Entry {
    /// As written: the option's long name.
    pub(super) key: String,
    /// What clap calls the option.
    pub(super) id: String,
    /// Where it stands, from 1.
    pub(super) line: usize,
    /// What it is on the command line; none for a switch that is off.
    pub(super) arguments: Vec<String>,
}

/// A line that is wrong.
#[derive(Debug)]
pub(super) struct Wrong {
    line: usize,
    message: String,
}

impl Wrong {
    /// As an error about `file`.
    pub(super) fn in_file(self, file: &Path) -> ConfigError {
        ConfigError::Line {
            file: file.to_owned(),
            line: self.line,
            message: self.message,
        }
    }
}

/// The options of `command` that a file may set.
pub(super) fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        let shows = matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        !shows && arg.get_long().is_some() && arg.get_id() != CONFIG
    })
}

/// The entries of `text` in the order of their lines.
///
/// # Errors
/// When it is no TOML, or has a key or a type that `command` has no use for.
pub(super) fn entries(text: &str, command: &Command) -> Result<Vec<Entry>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| Wrong {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: format!("this is not TOML: {}", error.message()),
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(text, key.span().start);
        let name = key.get_ref().as_ref();
        let entry = settable(command)
            .find(|arg| arg.get_long() == Some(name))
            .ok_or_else(|| unknown(name, value.get_ref(), command))
            .and_then(|arg| {
                Ok(Entry {
                    key: name.to_owned(),
                    id: arg.get_id().to_string(),
                    line,
                    arguments: arguments(name, arg, value.get_ref())?,
                })
            })
            .map_err(|message| Wrong { line, message })?;
        entries.push(entry);
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

fn unknown(key: &str, value: &DeValue<'_>, command: &Command) -> String {
    if key == CONFIG {
        return "a configuration cannot name another one; give --config on the command line".into();
    }
    if matches!(value, DeValue::Table(_)) {
        return format!("there are no tables here: remove [{key}], options stand by themselves");
    }
    let known: Vec<&str> = settable(command).filter_map(Arg::get_long).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(name, key), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = nearest.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"));
    format!(
        "there is no option \"{key}\"{hint} (the options: {})",
        known.join(", ")
    )
}

/// The arguments that the option takes for `value`.
fn arguments(name: &str, arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{name}")]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            other => Err(format!(
                "{name} is a switch: write {name} = true or {name} = false, not {}",
                article(other)
            )),
        };
    }
    match value {
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => values
            .iter()
            .map(|value| Ok(format!("--{name}={}", scalar(name, arg, value.get_ref())?)))
            .collect(),
        // As on the command line, where such an option can stand without a value.
        DeValue::Boolean(on) if arg.get_num_args().is_some_and(|n| n.min_values() == 0) => {
            Ok(on.then(|| format!("--{name}")).into_iter().collect())
        }
        value => Ok(vec![format!("--{name}={}", scalar(name, arg, value)?)]),
    }
}

/// A single value as it would be written on the command line.
fn scalar(name: &str, arg: &Arg, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        other => {
            let wanted = arg
                .get_value_names()
                .and_then(<[_]>::first)
                .map_or("VALUE", |name| name.as_str());
            let many = if matches!(arg.get_action(), ArgAction::Append) {
                " or an array of such"
            } else {
                ""
            };
            Err(format!(
                "{name} takes one value in quotes{many}, as in {name} = \"{wanted}\", not {}",
                article(other)
            ))
        }
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(number) if number.radix() == 10 => "an integer",
        DeValue::Integer(_) => "a number that is not decimal",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
