//! The state of the whole machine at an event, as a file: what every CPU did, which tasks waited, what the kernel counts.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use smi_common::irqsoff::IrqsoffRecord;

use super::events;
use crate::kernel::{cpus::CpuList, naming::Naming, tasks};

/// What the kernel counts, as it says it.
const FILES: [&str; 6] = [
    "/proc/loadavg",
    "/proc/interrupts",
    "/proc/softirqs",
    "/proc/schedstat",
    "/proc/timer_list",
    "/proc/meminfo",
];

/// What the CPUs told when they were asked, by number.
#[derive(Default)]
pub struct Picture {
    told: BTreeMap<u32, IrqsoffRecord>,
}

impl Picture {
    /// Takes `record`, if it is part of a picture.
    pub fn take(&mut self, record: &IrqsoffRecord) {
        if events::kind(record).is_none() {
            self.told.insert(record.cpu as u32, *record);
        }
    }

    /// Whether all of `cpus` have told.
    pub fn is_complete(&self, cpus: &CpuList) -> bool {
        cpus.iter().all(|cpu| self.told.contains_key(&cpu))
    }

    /// Writes it into `folder`, after the words that say why; returns the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(
        &self,
        folder: &Path,
        why: &str,
        time: Timestamp,
        cpus: &CpuList,
        naming: &mut Naming,
    ) -> Result<PathBuf> {
        let path = folder.join(format!(
            "irqsoff-{}.txt",
            time.strftime("%Y%m%dT%H%M%S%.3fZ")
        ));
        let text = self.text(why, cpus, naming);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn text(&self, why: &str, cpus: &CpuList, naming: &mut Naming) -> String {
        // Without names it is of use still.
        let addresses = self.told.values().flat_map(events::stack);
        if let Err(error) = naming.learn(addresses) {
            log::warn!("the functions in the state file have no names: {error}");
        }
        let mut text = format!("{why}\n\nWhat each CPU did at its next tick\n");
        for cpu in cpus.iter() {
            match self.told.get(&cpu) {
                None => {
                    let _written = writeln!(text, "CPU {cpu}: no tick came within the time given");
                }
                Some(record) => {
                    let _written = writeln!(
                        text,
                        "CPU {cpu}: thread {} ({}){}",
                        record.thread,
                        events::name(&record.comm),
                        if record.user_mode == 1 {
                            ", in user mode"
                        } else {
                            ""
                        }
                    );
                    let stack = events::stack(record);
                    for address in events::under(record, &stack, naming) {
                        let _written = writeln!(text, "  {}", naming.words(*address));
                    }
                }
            }
        }
        text.push_str("\nTasks that run or wait where nothing can disturb them\n");
        for task in tasks::busy() {
            let _written = writeln!(text, "{} {} ({})", task.state, task.id, task.name);
            for line in task.stack.lines() {
                let _written = writeln!(text, "  {line}");
            }
        }
        for file in FILES {
            let _written = writeln!(text, "\n{file}");
            match fs::read_to_string(file) {
                Ok(content) => text.push_str(&content),
                Err(error) => {
                    let _written = writeln!(text, "{}", said(&error));
                }
            }
        }
        text
    }
}

fn said(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}
