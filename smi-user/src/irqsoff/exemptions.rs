//! Functions that may keep interrupts or preemption off for long: stretches whose stack leads through one are counted apart.

use std::{fs, ops::Range, path::Path};

use anyhow::{Context as _, Result, anyhow, ensure};
use smi_common::irqsoff::{EXEMPTIONS, Watch};

use crate::kernel::kallsyms::{self, SymbolError};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemption {
    /// Name of the function.
    pub function: String,
    /// Why it is exempt, as the file says.
    pub reason: Option<String>,
    /// Where it lies; several where the kernel has several of that name.
    places: Vec<Range<u64>>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemptions(Vec<Exemption>);

impl Exemptions {
    /// Those of the command line and those in `file`.
    ///
    /// # Errors
    /// When the file cannot be read or makes no sense, when there is no such function, the kernel hides where it lies, or
    /// there are too many.
    pub fn find(functions: &[String], file: Option<&Path>) -> Result<Self> {
        let mut wanted: Vec<(String, Option<String>)> = functions
            .iter()
            .map(|function| (function.clone(), None))
            .collect();
        if let Some(file) = file {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            for (number, line) in (1..).zip(text.lines()) {
                let place = || format!("{}:{number}", file.display());
                wanted.extend(parse(line).with_context(place)?);
            }
        }
        let mut found = Self::default();
        for (function, reason) in wanted {
            let places = kallsyms::functions(&function).map_err(|error| match error {
                SymbolError::Unknown(_) => anyhow!(
                    "cannot exempt \"{function}\": the kernel has no such function now; check the spelling \
                     (grep {function} /proc/kallsyms), load its module first, and mind that functions that the compiler put \
                     into others have no name"
                ),
                error => anyhow!(error).context(format!("cannot exempt \"{function}\"")),
            })?;
            found.0.push(Exemption {
                function,
                reason,
                places,
            });
        }
        let places: usize = found.0.iter().map(|one| one.places.len()).sum();
        ensure!(
            places <= EXEMPTIONS,
            "{places} functions are to be exempt, counting those of the same name, and {EXEMPTIONS} can be; exempt the \
             functions that call them"
        );
        Ok(found)
    }

    /// Tells the programs.
    pub(super) fn write(&self, watch: &mut Watch) {
        let places = self.0.iter().flat_map(|one| &one.places);
        watch.exemptions = 0;
        for (kept, place) in watch.exempt.iter_mut().zip(places) {
            *kept = [place.start, place.end];
            watch.exemptions += 1;
        }
    }

    /// The first whose code one of `addresses` lies in.
    pub fn of(&self, addresses: impl IntoIterator<Item = u64>) -> Option<&Exemption> {
        addresses.into_iter().find_map(|address| {
            self.0
                .iter()
                .find(|one| one.places.iter().any(|place| place.contains(&address)))
        })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Exemption> {
        self.0.iter()
    }
}

/// A line of the file: a function, and why it is exempt; `None` for an empty line or a comment.
fn parse(line: &str) -> Result<Option<(String, Option<String>)>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (function, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let reason = reason.trim();
    ensure!(
        !reason.is_empty(),
        "\"{function}\" has no reason; write why it is exempt behind it"
    );
    Ok(Some((function.to_owned(), Some(reason.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_function_and_a_reason() {
        let parsed = |line| parse(line).expect(line);
        assert_eq!(parsed(""), None);
        assert_eq!(parsed("  # comment"), None);
        assert_eq!(
            parsed("crash_dump \t writes  slowly "),
            Some(("crash_dump".to_owned(), Some("writes  slowly".to_owned())))
        );
        let error = parse("crash_dump").expect_err("no reason").to_string();
        assert!(error.contains("\"crash_dump\" has no reason"), "{error}");
    }

    #[test]
    fn an_address_is_in_the_function_that_holds_it() {
        let one = |function: &str, places: &[Range<u64>]| Exemption {
            function: function.to_owned(),
            reason: None,
            places: places.to_vec(),
        };
        let all = Exemptions(vec![
            one("one", &[100..200, 500..600]),
            one("two", &[300..400, 700..701]),
        ]);
        let of = |addresses: &[u64]| {
            all.of(addresses.iter().copied())
                .map(|one| one.function.as_str())
        };
        assert_eq!(of(&[99, 200, 400]), None);
        assert_eq!(of(&[99, 550]), Some("one"));
        assert_eq!(of(&[399]), Some("two"));
        let mut watch = Watch::default();
        all.write(&mut watch);
        assert_eq!(watch.exemptions, 4);
        let written = [[100, 200], [500, 600], [300, 400], [700, 701]];
        assert_eq!(watch.exempt[..4], written);
    }
}
