//! A configuration with every option in it, made of the command line's definitions.

use std::fmt::Write as _;

use clap::{Arg, ArgAction};

use super::{file::settable, run_command};

const HEAD: &str = "\
# Configuration of the service smilat: the options of `smilat run` by their long names. `smilat run --help` explains them.
#
# A line that begins with # has no effect. The values below are the defaults; CAPITALS stand where there is none. Times are
# strings with a unit, such as \"10us\" or \"1.5ms\". Options that may be given more than once take arrays. What the command
# line says overrules what stands here; only a switch that is true here cannot be switched off there.
#
# `systemctl reload smilat` has the changes take effect without losing counts, as far as they can while it runs; it says
# which cannot. Without systemd: smilat run --config FILE, and SIGHUP.
";

/// The whole file: every option with its help in one line and its default, all of it commented out.
pub fn example() -> String {
    let command = run_command();
    let mut text = HEAD.to_owned();
    let mut heading = None;
    for arg in settable(&command).filter(|arg| !arg.is_hide_set()) {
        let group = arg.get_help_heading();
        if heading != Some(group) {
            heading = Some(group);
            let _infallible = writeln!(text, "\n# {}", group.unwrap_or("More"));
        }
        let _infallible = write!(text, "\n{}", entry(arg));
    }
    text
}

fn entry(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect();
    let mut text = format!("# {}\n", help.replace('\n', " "));
    let switch = matches!(arg.get_action(), ArgAction::SetTrue);
    if !switch && !possible.is_empty() {
        let _infallible = writeln!(text, "# {}", possible.join(" | "));
    }
    let name = arg.get_long().unwrap_or_default();
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| quoted(&value.to_string_lossy()))
        .collect();
    let value = match (switch, defaults.as_slice()) {
        (true, _) => "false".to_owned(),
        (false, []) if matches!(arg.get_action(), ArgAction::Append) => "[]".to_owned(),
        // Without a default: what kind of value it would take stands in the help.
        (false, []) => format!("\"{}\"", placeholder(arg)),
        (false, [one]) => one.clone(),
        (false, many) => format!("[{}]", many.join(", ")),
    };
    let _infallible = writeln!(text, "#{name} = {value}");
    text
}

/// As TOML has it: integers by themselves, anything else in quotes.
fn quoted(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("\"{value}\""),
    }
}

/// `TIME`, `FILE`: not a value, for those options that do nothing unless given.
fn placeholder(arg: &Arg) -> String {
    arg.get_value_names()
        .and_then(<[_]>::first)
        .map_or_else(|| "VALUE".to_owned(), ToString::to_string)
}
