//! What `smilat doctor` says of a machine, compared word by word with what is on record of it in
//! `tests/src/guest/snapshots/`.
//!
//! Of each check the record holds state, name, what was found, what that blocks and what would help, all but what
//! [`masked`] leaves out. `cargo xtask test vm doctor --update-snapshots`, and `host` for this machine, write what is
//! said now into the records; `git diff` then shows what has changed, for people to judge.

use std::fmt::Write as _;

use smi_user::doctor::{Examination, State};

/// What varies between machines or boots of the same kind, and stands for nothing that doctor concludes: the kernel's
/// release, which grows with each update of a distribution, and the seconds of steal time. Nothing else is left out.
fn masked(text: &str, release: &str) -> String {
    const STEAL: &str = " s of steal time";
    let mut text = text.replace(release, "RELEASE");
    if let Some(at) = text.find(STEAL) {
        let digits = text[..at]
            .bytes()
            .rev()
            .take_while(u8::is_ascii_digit)
            .count();
        text.replace_range(at - digits..at, "N");
    }
    text
}

/// The examination as it is recorded.
pub fn text(found: &Examination) -> String {
    let mut text = format!(
        "can run: {}, by: {}\n",
        if found.can_run { "yes" } else { "no" },
        found.detectors.join(" ")
    );
    for check in &found.checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Missing => "missing",
            State::Warning => "warning",
            State::Unknown => "unknown",
        };
        let mut line = |what: &str, words: &str| {
            if !words.is_empty() {
                let words = masked(words, &found.kernel);
                let _infallible = writeln!(text, "{what}{words}");
            }
        };
        line("", &format!("\n{:?}: {}: {state}", check.group, check.name));
        line("  found: ", &check.found);
        line("  blocks: ", &check.blocks);
        line("  remedy: ", &check.remedy);
    }
    text
}

/// Where two texts differ: lines that only the record has begin with `-`, those that are only said now with `+`. Each is
/// preceded by the check it belongs to.
pub fn difference(recorded: &str, now: &str) -> Option<String> {
    if recorded == now {
        return None;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (recorded.lines().collect(), now.lines().collect());
    // Lines in common from each pair of places on, by which both texts are walked through together.
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            common[i][j] = if a == b {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let mut told = String::new();
    let (mut i, mut j, mut check) = (0, 0, None);
    while i < old.len() || j < new.len() {
        let is_check = |line: &str| !line.is_empty() && !line.starts_with(' ');
        if i < old.len() && j < new.len() && old[i] == new[j] {
            if is_check(old[i]) {
                check = Some(old[i]);
            }
            i += 1;
            j += 1;
            continue;
        }
        let is_old = j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1];
        let (sign, line) = if is_old {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        if is_check(line) {
            // What follows is its own.
            check = None;
        } else if !line.is_empty()
            && let Some(check) = check.take()
        {
            let _infallible = writeln!(told, " {check}");
        }
        let _infallible = writeln!(told, "{sign}{line}");
    }
    Some(told)
}
