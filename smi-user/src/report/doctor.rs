//! The outcome of `smilat doctor` as one screen of text.

use std::fmt::Write as _;

use crate::doctor::{Check, Examination, Group, State};

/// Columns of a line.
const WIDTH: usize = 120;
/// Columns of the state, and of the name after it.
const STATE: usize = 8;
const NAME: usize = 21;
/// Where the text after both begins.
const INDENT: usize = STATE + 1 + NAME + 1;

/// The groups in the order in which they are shown, with their headings.
const GROUPS: [(Group, &str); 9] = [
    (Group::Detectors, "Detectors"),
    (Group::Kernel, "Kernel"),
    (Group::Privileges, "Privileges"),
    (Group::Bpf, "BPF, tried"),
    (
        Group::Config,
        "Kernel options; to have one, boot a kernel built with it",
    ),
    (Group::Tracing, "Tracing"),
    (Group::Counters, "SMI counters"),
    (Group::Time, "Time"),
    (Group::Machine, "Machine"),
];

/// Renders it. Unless `all`, kernel options that are as they should be are only counted.
pub fn text(examination: &Examination, all: bool) -> String {
    let mut text = format!("smilat {} doctor: ", examination.smilat_version);
    text += &verdict(&examination.detectors);
    text.push('\n');
    for (group, heading) in GROUPS {
        let checks: Vec<&Check> = examination
            .checks
            .iter()
            .filter(|check| check.group == group)
            .collect();
        let (counted, shown): (Vec<&Check>, Vec<&Check>) = checks
            .into_iter()
            .partition(|check| group == Group::Config && !all && check.state == State::Ok);
        if counted.is_empty() && shown.is_empty() {
            continue;
        }
        text += heading;
        text.push('\n');
        for (place, check) in shown.iter().enumerate() {
            let next = shown.get(place + 1);
            // Said once where several lines in a row have it in common.
            let is_said_below = next.is_some_and(|next| next.remedy == check.remedy);
            line(&mut text, check, is_said_below);
        }
        if !counted.is_empty() {
            let others = format!("{} are as they should be (--all shows them)", counted.len());
            entry(&mut text, State::Ok, "others", &others);
        }
    }
    text
}

fn verdict(detectors: &[String]) -> String {
    match detectors {
        [] => "`smilat run` cannot run here as it is".to_owned(),
        [only] => format!("`smilat run` can run here, with {only}"),
        [first, others @ ..] => {
            format!(
                "`smilat run` can run here, with {first}, or {}",
                others.join(", ")
            )
        }
    }
}

fn line(text: &mut String, check: &Check, remedy_is_said_below: bool) {
    let mut found = check.found.clone();
    // What lacks when a detector cannot run needs no words.
    if !check.blocks.is_empty() && check.group != Group::Detectors {
        let word = match check.state {
            State::Ok | State::Warning => "mind",
            State::Missing => "blocks",
            State::Unknown => "may block",
        };
        let _infallible = write!(found, "; {word}: {}", check.blocks);
    }
    entry(text, check.state, &check.name, &found);
    // The heading of the options has it.
    let is_plain = check.remedy == format!("boot a kernel built with {}=y", check.name);
    if !check.remedy.is_empty() && !remedy_is_said_below && !is_plain {
        wrap(text, &format!("-> {}", check.remedy), INDENT);
    }
}

fn entry(text: &mut String, state: State, name: &str, found: &str) {
    let state = match state {
        State::Ok => "ok",
        State::Missing => "missing",
        State::Warning => "warning",
        State::Unknown => "unknown",
    };
    wrap(text, &format!("{state:<STATE$} {name:<NAME$} {found}"), 0);
}

/// Adds `line` in lines of at most [`WIDTH`] columns; the first begins at column `first`, the others at [`INDENT`].
fn wrap(text: &mut String, line: &str, first: usize) {
    let mut indent = first;
    let mut rest = line;
    loop {
        let room = WIDTH - indent;
        let fits = rest
            .char_indices()
            .nth(room)
            .map_or(rest.len(), |(at, _)| at);
        let cut = if fits == rest.len() {
            fits
        } else {
            // Not within the padding of state and name.
            let least = if indent == 0 { INDENT } else { 1 };
            rest[..=fits]
                .rfind(' ')
                .filter(|at| *at >= least)
                .unwrap_or(fits)
        };
        let _infallible = writeln!(text, "{:indent$}{}", "", rest[..cut].trim_end());
        rest = rest[cut..].trim_start();
        if rest.is_empty() {
            return;
        }
        indent = INDENT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(group: Group, name: &str, state: State) -> Check {
        let words = if state == State::Ok { "" } else { "words " };
        Check {
            group,
            name: name.to_owned(),
            state,
            found: "found".to_owned(),
            blocks: words.repeat(20).trim().to_owned(),
            remedy: words.repeat(30).trim().to_owned(),
        }
    }

    fn examination() -> Examination {
        Examination {
            schema_version: 1,
            smilat_version: "0.1.0".to_owned(),
            kernel: "6.18".to_owned(),
            can_run: true,
            detectors: vec!["spin".to_owned()],
            checks: vec![
                check(Group::Detectors, "spin", State::Ok),
                check(Group::Config, "CONFIG_A", State::Ok),
                check(Group::Config, "CONFIG_B", State::Missing),
            ],
        }
    }

    #[test]
    fn options_in_order_are_counted_unless_all_are_asked_for() {
        let brief = text(&examination(), false);
        assert!(brief.contains("can run here, with spin\n"), "{brief}");
        assert!(
            brief.contains("CONFIG_B") && !brief.contains("CONFIG_A"),
            "{brief}"
        );
        assert!(brief.contains("1 are as they should be"), "{brief}");
        assert!(!brief.contains("SMI counters"), "{brief}");
        assert!(text(&examination(), true).contains("CONFIG_A"));
    }

    #[test]
    fn no_line_is_too_wide_and_no_word_is_lost() {
        let text = text(&examination(), false);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("words").count(), 50, "{text}");
    }
}
