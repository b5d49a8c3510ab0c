//! What the guest says on its console, and what that comes to.
//!
//! `PLAN NAME...` names the tests before the first of them runs; then each gets one line, `VERDICT ok NAME` or
//! `VERDICT FAILED NAME: reason`. A test that was planned and got no line has failed: the machine hung or crashed.

use std::fmt;

/// One line of the console that matters here.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Plan(Vec<&'a str>),
    Ok(&'a str),
    Failed(&'a str, &'a str),
}

fn parse(line: &str) -> Option<Line<'_>> {
    if let Some(names) = line.strip_prefix("PLAN ") {
        return Some(Line::Plan(names.split_whitespace().collect()));
    }
    let verdict = line.strip_prefix("VERDICT ")?;
    if let Some(name) = verdict.strip_prefix("ok ") {
        return Some(Line::Ok(name));
    }
    let (name, reason) = verdict.strip_prefix("FAILED ")?.split_once(':')?;
    Some(Line::Failed(name, reason.trim()))
}

/// The tests of one machine, as far as its console told.
#[derive(Debug, Default)]
pub(super) struct Tally {
    planned: Vec<String>,
    passed: Vec<String>,
    /// By name, with the reason.
    failed: Vec<(String, String)>,
}

impl Tally {
    /// Takes in a line of the console. Whether it was one that people want to see.
    pub(super) fn line(&mut self, line: &str) -> bool {
        match parse(line) {
            Some(Line::Plan(names)) => self
                .planned
                .extend(names.iter().map(|name| (*name).to_owned())),
            Some(Line::Ok(name)) => self.passed.push(name.to_owned()),
            Some(Line::Failed(name, reason)) => {
                self.failed.push((name.to_owned(), reason.to_owned()));
            }
            None => return line.starts_with("    "),
        }
        !line.starts_with("PLAN ")
    }

    /// Planned and without a verdict.
    fn silent(&self) -> impl Iterator<Item = &str> {
        self.planned
            .iter()
            .filter(|name| {
                !self.passed.contains(name)
                    && !self.failed.iter().any(|(failed, _)| failed == *name)
            })
            .map(String::as_str)
    }

    /// What failed and why, a line each.
    pub(super) fn failures(&self) -> Vec<String> {
        let told = self
            .failed
            .iter()
            .map(|(name, reason)| format!("{name}: {reason}"));
        let silent = self.silent().map(|name| format!("{name}: it never ended"));
        told.chain(silent).collect()
    }

    /// Whether no test was to run.
    pub(super) fn is_empty(&self) -> bool {
        self.planned.is_empty() && self.passed.is_empty() && self.failed.is_empty()
    }

    /// Whether at least one test ran and none failed.
    pub(super) fn is_pass(&self) -> bool {
        !self.passed.is_empty() && self.failures().is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures().len();
        write!(f, "{} passed, {failed} failed", self.passed.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.line(line);
        }
        tally
    }

    #[test]
    fn every_planned_test_needs_a_verdict() {
        let whole = tally(&["PLAN a b", "VERDICT ok a", "noise", "VERDICT ok b"]);
        assert!(whole.is_pass());
        assert_eq!(whole.to_string(), "2 passed, 0 failed");

        let cut = tally(&["PLAN a b c", "VERDICT ok a", "VERDICT FAILED b: 1: 2"]);
        assert!(!cut.is_pass());
        assert_eq!(cut.failures(), ["b: 1: 2", "c: it never ended"]);
        assert_eq!(cut.to_string(), "1 passed, 2 failed");
    }

    #[test]
    fn a_machine_that_ran_no_test_has_not_passed() {
        assert!(!tally(&[]).is_pass());
        assert!(!tally(&["PLAN "]).is_pass());
    }
}
