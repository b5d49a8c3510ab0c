//! Programs that run while something is measured, and what they say.

use std::{
    io::{BufReader, Read as _},
    process::{Child, Command},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::sh;

/// A program that runs until dropped.
pub(super) struct Load(Child);

impl Load {
    /// Starts it; when this returns, it had time to get under way.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let load = command
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        // Start-up is not what is measured.
        thread::sleep(Duration::from_millis(500));
        Ok(Self(load))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as Ctrl-C would; the last line of NDJSON it printed.
    pub(super) fn last_snapshot(mut self) -> Result<Value> {
        let pid = libc::pid_t::try_from(self.0.id())?;
        // SAFETY: the child was not waited for, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGINT) };
        let mut lines = String::new();
        let output = self.0.stdout.take().context("the output is not piped")?;
        BufReader::new(output).read_to_string(&mut lines)?;
        let last = lines.lines().last().context("no snapshot")?;
        Ok(serde_json::from_str(last)?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing more to do than to reap it.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The last line of NDJSON that `command` prints.
pub(super) fn last_snapshot(command: &mut Command) -> Result<Value> {
    let lines = sh::read(command)?;
    let last = lines.lines().last().context("no snapshot")?;
    Ok(serde_json::from_str(last)?)
}

/// A number of a report.
pub(super) fn number(value: &Value) -> Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("a report has {value} where a number should be"))
}

/// The CPU measured on: the last, since the first has most of the machine's interrupts.
pub(super) fn cpu() -> Result<String> {
    Ok((thread::available_parallelism()?.get() - 1).to_string())
}
