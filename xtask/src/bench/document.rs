//! `docs/bench.json`, which keeps all that was measured, and `docs/bench.md`, which is made of it.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::table::{Cell, Section, Table};
use crate::sh;

/// All sections there are, by the name of their benchmark.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Document {
    sections: BTreeMap<String, Measured>,
}

/// A section, and where and when it was measured.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    #[serde(flatten)]
    section: Section,
    machine: Machine,
    /// The day, as `2026-12-31`.
    date: String,
    /// The revision that was measured; ends in `+` where files differed from it.
    revision: String,
}

/// What a benchmark ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    cpu: String,
    cpus: usize,
    is_virtual: bool,
    kernel: String,
    smilat: String,
}

impl Machine {
    fn this() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown CPU", |rest| {
                rest.trim_start_matches([' ', '\t', ':'])
            });
        Ok(Self {
            cpu: cpu.to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            is_virtual: cpuinfo.contains(" hypervisor "),
            kernel: sh::read(Command::new("uname").arg("-r"))?,
            smilat: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// The revision of the files here; what is no checkout has none.
fn revision() -> Result<String> {
    let git = |args: &[&str]| sh::read(Command::new("git").current_dir(sh::root()).args(args));
    if !sh::root().join(".git").exists() {
        return Ok("none".to_owned());
    }
    let differs = !git(&["status", "--porcelain", "--", ":!docs/bench.*"])?.is_empty();
    let mark = if differs { "+" } else { "" };
    Ok(git(&["rev-parse", "--short=10", "HEAD"])? + mark)
}

impl Document {
    fn file(name: &str) -> PathBuf {
        sh::root().join("docs").join(name)
    }

    /// As it was written last; empty where it never was.
    pub(super) fn read() -> Result<Self> {
        let file = Self::file("bench.json");
        match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is none of this program's", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Takes in what was measured just now, in the place of what was there of that name.
    pub(super) fn put(&mut self, name: &str, section: Section) -> Result<()> {
        let measured = Measured {
            section,
            machine: Machine::this()?,
            date: sh::read(Command::new("date").args(["--utc", "+%F"]))?,
            revision: revision()?,
        };
        self.sections.insert(name.to_owned(), measured);
        Ok(())
    }

    /// Writes both files, the sections in the order of `names`.
    pub(super) fn write(&self, names: &[String]) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (name, text) in [("bench.json", json), ("bench.md", self.markdown(names)?)] {
            let file = Self::file(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            println!("{}", file.display());
        }
        Ok(())
    }

    fn markdown(&self, names: &[String]) -> Result<String> {
        let mut text = "# Benchmarks\n\n\
             Written by `cargo xtask bench`; nothing here is typed by hand. A benchmark's name measures that one anew \
             (`cargo xtask bench start`) and leaves the others as they are. [bench.json](bench.json) has the same with each round.\n\n\
             Where something was measured in rounds, a field has the median, and in brackets the lowest and the highest. Those who \
             are compared take turns in each round; ratios are of the same round.\n"
            .to_owned();
        let sections = || {
            names
                .iter()
                .filter_map(|name| Some((name, self.sections.get(name)?)))
        };
        let mut aims = Table::new(&["aim", "limit", "measured", "met", "benchmark"]);
        for (name, measured) in sections() {
            for aim in &measured.section.aims {
                aims.row(aim.row(name));
            }
        }
        if !aims.rows.is_empty() {
            write!(text, "\n## Aims\n\n{aims}")?;
        }
        let mut machines: Vec<&Machine> = Vec::new();
        let mut ran = Table::new(&["benchmark", "machine", "date", "revision"]);
        for (name, measured) in sections() {
            let known = machines
                .iter()
                .position(|known| **known == measured.machine);
            let place = known.unwrap_or_else(|| {
                machines.push(&measured.machine);
                machines.len() - 1
            });
            ran.row([
                Cell::text(name),
                Cell::count(place as u64 + 1),
                Cell::text(&measured.date),
                Cell::text(&measured.revision),
            ]);
        }
        text.push_str("\n## Machines\n\n");
        for (number, machine) in (1..).zip(machines) {
            writeln!(
                text,
                "{number}. {}, {} CPUs{}, Linux {}, smilat {}",
                machine.cpu,
                machine.cpus,
                if machine.is_virtual {
                    ", a virtual machine"
                } else {
                    ""
                },
                machine.kernel,
                machine.smilat,
            )?;
        }
        write!(text, "\n{ran}")?;
        for (_, measured) in sections() {
            write!(text, "\n{}", measured.section)?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::table::Aim, *};

    #[test]
    fn sections_come_in_order_with_their_aims_and_machines() {
        let measured = |title: &str, kernel: &str, limit| Measured {
            section: Section {
                title: title.to_owned(),
                about: "How.".to_owned(),
                tables: Vec::new(),
                aims: vec![Aim::at_most(title, limit, " x", 1.5)],
                versions: Vec::new(),
            },
            machine: Machine {
                cpu: "a CPU".to_owned(),
                cpus: 2,
                is_virtual: true,
                kernel: kernel.to_owned(),
                smilat: "0.1.0".to_owned(),
            },
            date: "2026-12-31".to_owned(),
            revision: "0123456789".to_owned(),
        };
        let document = Document {
            sections: BTreeMap::from([
                ("a".to_owned(), measured("First", "6.1", 1.0)),
                ("b".to_owned(), measured("Second", "6.12", 2.0)),
                ("c".to_owned(), measured("Third", "6.1", 3.0)),
            ]),
        };
        let text = document
            .markdown(&["c", "b", "none"].map(str::to_owned))
            .expect("text");
        let places = [
            "| Third | at most 3 x | 1.5 x | yes | c |",
            "| Second |",
            "1. a CPU, 2 CPUs, a virtual machine, Linux 6.1,",
            "2. a CPU",
            "| c | 1 | 2026-12-31 | 0123456789 |",
            "| b | 2 |",
            "## Third",
            "## Second",
        ]
        .map(|part| {
            text.find(part)
                .unwrap_or_else(|| panic!("no {part} in {text}"))
        });
        assert!(places.is_sorted(), "{text}");
        assert!(!text.contains("First"));
        let again: Document =
            serde_json::from_str(&serde_json::to_string(&document).expect("JSON"))
                .expect("as it was");
        assert_eq!(
            again.markdown(&["a".to_owned()]).expect("text"),
            document.markdown(&["a".to_owned()]).expect("text")
        );
    }
}
