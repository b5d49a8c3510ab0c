//! `docs/accuracy.md`, out of the tables that guests print.

use std::fs;

use anyhow::{Context as _, Result};

use super::TARGET_DIR;
use crate::sh;

/// What precedes each line of a table of known SMIs on the console (`tests/src/guest/accuracy.rs`).
const SMIS: &str = "TABLE";
/// The same of a table of causes (`tests/src/guest/confusion.rs`).
const CAUSES: &str = "CAUSES";

/// What stands above the tables.
const INTRODUCTION: &str = "\
# Accuracy

How many SMIs each detector sees, how long it says they were, and what it puts gaps down to. `cargo xtask test vm` measures
this anew each time and writes it to `target/vm/accuracy.md`; with `--update-docs` it writes this file. Nothing here is typed
by hand.

## Known SMIs

In an emulated machine with two CPUs, SMIs that last 5 ms by the handler's own reading of the TSC are fired at CPU 1
while a detector watches it, 36 ms of every 40 ms. What the saved state says that each SMI interrupted tells whether it
came while the detector sampled; it goes on until 200 have. One detector follows the other in the same machine.

- *SMIs inside*: those of 5 ms that came while the detector sampled; *seen*: those for which it told a gap at that time
  (hwlat and hwlatdetect: a window with a gap at least as long). *Within 5 %*: told as at most 0.25 ms longer.
- *Longer by*: the gap less the SMI's own length. The emulator takes time to enter and to leave an SMI, and its host
  takes the CPU away now and then: more in one minute than in another, which is why the rows differ in their tails.
- Two controls of the same run show how much of that is the emulator's and its host's doing: *empty SMIs*, which the
  handler leaves at once (0 us: below the threshold), and *gaps without an SMI* above the threshold, 0.1 ms for spin and osnoise, 1 ms for the others.
- On a machine that counts instructions instead of time, none of smilat's detectors sees a gap of 10 us in a minute, a
  fifth of which they sample (a test).
- `rtla hwnoise` tells sums only: *seen* is its count of hardware noise above 4 ms, whatever made it, and *longer by* the
  difference of the means.
- `hwlatdetect` reads the records ten times a second and keeps the first of them, so its SMIs are 100 ms apart and more,
  those of the others 50 ms.
";

/// What stands above the tables of causes.
const ABOUT_CAUSES: &str = "
## Causes

What smilat puts gaps down to, beside what was made to happen. In the same kind of machine, SMIs of 5 ms and NMIs (by the local
APIC) are sent to CPU 1 in turn, 200 of each, and the whole machine is stopped from outside 40 times for 20 ms (SIGSTOP), while a
detector watches CPU 1, 36 ms of every 40 ms. When they were is known by the SMM handler's log, the kernel's own trace of
`nmi:nmi_handler`, and the clock of CPU 0. Rows are gaps (hwlat: windows with one) by what lay in them, columns by the cause
told; *nothing* are those that the emulator and its host make by themselves.

*At the edge* are gaps in whose recording something came, or in the recording of the gap before: an emulated CPU that its host
has stopped takes what waited for it a moment after the gap, not in it, so that either answer is right. So it is with what ended up
to 0.1 ms before a gap, or lay in it for less than half: their times are of two clocks. And so it is with the first gap that
osnoise tells after an SMI that came when its thread had begun and its loop had not: nothing tells of that moment. The test fails if anything is called what
it is not, or if more than one in twenty is not called what it is.
";

/// The tables of the machines that were tested.
#[derive(Debug, Default)]
pub(super) struct Tables {
    smis: String,
    causes: String,
}

impl Tables {
    /// Takes in a line of a console.
    pub(super) fn line(&mut self, line: &str) {
        for (mark, table) in [(SMIS, &mut self.smis), (CAUSES, &mut self.causes)] {
            if let Some(row) = line.strip_prefix(mark) {
                table.push_str(row.trim());
                table.push('\n');
            }
        }
    }

    /// Writes them below the target folder, if there are any, and to the documents if that is asked for.
    pub(super) fn write(&self, to_docs: bool) -> Result<()> {
        let Self { smis, causes } = self;
        if smis.is_empty() && causes.is_empty() {
            return Ok(());
        }
        let text = format!("{INTRODUCTION}{smis}{ABOUT_CAUSES}{causes}");
        let mut files = vec![sh::root().join(TARGET_DIR).join("accuracy.md")];
        if to_docs {
            files.push(sh::root().join("docs/accuracy.md"));
        }
        for file in files {
            fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
            println!("vm: wrote {}", file.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_out_of_the_console() {
        let mut tables = Tables::default();
        for line in [
            "PLAN a b",
            "TABLE",
            "TABLE ## Linux 6.1\r",
            "    people see this",
            "CAUSES | spin | smi |",
            "TABLE | spin | 200 |",
        ] {
            tables.line(line);
        }
        assert_eq!(tables.smis, "\n## Linux 6.1\n| spin | 200 |\n");
        assert_eq!(tables.causes, "| spin | smi |\n");
    }
}
