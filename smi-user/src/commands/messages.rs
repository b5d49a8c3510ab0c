//! What commands tell people beside their reports, on standard error.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
};

use log::{Level, LevelFilter};

use crate::cli::Reports;

/// Messages for people are one plain sentence; those of `-v` have time and place too, and those for systemd's journal the
/// weight it files them by.
pub(super) fn init(level: LevelFilter) {
    let mut logger = env_logger::Builder::new();
    // What libraries do in ordinary operation is nobody's concern.
    logger.filter_level(match level {
        LevelFilter::Info => LevelFilter::Warn,
        level => level,
    });
    logger.filter_module("smi_user", level);
    let journal = is_journal();
    if level < LevelFilter::Debug {
        logger.format(move |out, record| {
            let text = record.args().to_string();
            if journal {
                return out.write_all(weighted(record.level(), &text).as_bytes());
            }
            writeln!(out, "smilat: {text}")
        });
    }
    logger.init();
}

/// The same by `--quiet` and `--verbose`.
pub(super) fn init_for(reports: &Reports) {
    init(if reports.verbose {
        LevelFilter::Debug
    } else if reports.quiet {
        LevelFilter::Error
    } else {
        LevelFilter::Info
    });
}

/// Tells why the program could not do what it was asked.
pub fn tell_failure(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let text = if is_journal() {
        weighted(Level::Error, &text)
    } else {
        format!("smilat: {text}\n")
    };
    // Where nobody can be told any more, the exit status still says it: `eprint!` would panic and change that.
    let _gone = io::stderr().write_all(text.as_bytes());
}

/// Whether standard error is the journal's (`systemd.exec(5)`, `JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    fs::metadata("/proc/self/fd/2")
        .is_ok_and(|file| stream.to_str() == Some(&format!("{}:{}", file.dev(), file.ino())))
}

/// As the journal wants it: each line begins with its weight (`sd-daemon(3)`).
fn weighted(level: Level, text: &str) -> String {
    let weight = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let lines: Vec<String> = text
        .lines()
        .map(|line| format!("<{weight}>{line}\n"))
        .collect();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_journal_has_its_weight() {
        assert_eq!(weighted(Level::Warn, "one\ntwo"), "<4>one\n<4>two\n");
    }
}
