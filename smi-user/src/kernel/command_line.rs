//! What the kernel was booted with (`/proc/cmdline`, `Documentation/admin-guide/kernel-parameters.rst`).

use std::{fs, io};

use thiserror::Error;

const FILE: &str = "/proc/cmdline";

/// It could not be read.
#[derive(Debug, Error)]
#[error("cannot read {FILE}, what the kernel was booted with")]
pub struct CommandLineError(#[from] io::Error);

/// The kernel's options, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    options: Vec<(String, Option<String>)>,
}

impl CommandLine {
    /// That of the running kernel.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read() -> Result<Self, CommandLineError> {
        Ok(Self::of_text(&fs::read_to_string(FILE)?))
    }

    /// Takes a command line apart: at white space, but not within double quotes. What follows `--` is for `init`.
    pub fn of_text(text: &str) -> Self {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in text.trim().chars() {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted => words.push(String::new()),
                c => words.last_mut().into_iter().for_each(|word| word.push(c)),
            }
        }
        let options = words
            .into_iter()
            .take_while(|word| word != "--")
            .filter(|word| !word.is_empty())
            .map(|word| match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            })
            .collect();
        Self { options }
    }

    /// The values that `name` is given, in their order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let name = alike(name);
        self.options
            .iter()
            .filter(move |(option, _)| alike(option) == name)
            .filter_map(|(_, value)| value.as_deref())
    }

    /// The options whose names `wanted` knows, as they are written, in their order.
    pub fn options(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.options
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            })
            .collect()
    }

    /// Whether one of the comma-separated parts of any value of `name` is `word`.
    pub fn says(&self, name: &str, word: &str) -> bool {
        self.values(name)
            .any(|value| value.split(',').any(|part| part == word))
    }
}

/// The kernel takes `-` and `_` in names for the same (`parameq` in `kernel/params.c`).
fn alike(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_where_those_of_init_begin() {
        let line = CommandLine::of_text(
            "quiet iommu=pt,soft trace_event=\"iommu:map, sched\" intel_iommu=off intel_iommu=on -- iommu=off\n",
        );
        assert!(line.says("iommu", "pt") && !line.says("iommu", "off"));
        assert_eq!(
            line.values("trace-event").collect::<Vec<_>>(),
            ["iommu:map, sched"]
        );
        assert_eq!(
            line.values("intel_iommu").collect::<Vec<_>>(),
            ["off", "on"]
        );
        assert_eq!(
            line.options(|name| name.contains("iommu") || name == "quiet"),
            [
                "quiet",
                "iommu=pt,soft",
                "intel_iommu=off",
                "intel_iommu=on"
            ]
        );
        assert_eq!(CommandLine::of_text("\n"), CommandLine::default());
    }
}
