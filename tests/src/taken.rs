//! What a process takes of the machine: CPU time, wake-ups, memory, by the kernel's own count.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What the threads of a process and of its children took since they started, and the memory they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// By the name of the thread.
    pub threads: BTreeMap<String, Thread>,
    /// Memory they hold now, in bytes (`VmRSS`); what they share is counted for each.
    pub resident_bytes: u64,
    /// The most they ever held, in bytes (`VmHWM`); as above.
    pub peak_bytes: u64,
}

/// What threads of one name took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Time on a CPU, in ns (`/proc/PID/task/TID/schedstat`).
    pub cpu_ns: u64,
    /// Times that they slept and were woken (`voluntary_ctxt_switches`).
    pub wakeups: u64,
}

impl Taken {
    /// Of the process and of its children, which have none.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn by(process: u32) -> io::Result<Self> {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
        let mut taken = Self::default();
        taken.add(&process.to_string())?;
        for child in children.split_whitespace() {
            // It may have ended since.
            let _gone = taken.add(child);
        }
        Ok(taken)
    }

    fn add(&mut self, process: &str) -> io::Result<()> {
        let folder = PathBuf::from("/proc").join(process);
        for thread in fs::read_dir(folder.join("task"))? {
            let thread = thread?.path();
            let of = self.threads.entry(name(&thread)?).or_default();
            let schedstat = fs::read_to_string(thread.join("schedstat"))?;
            let cpu_ns = schedstat.split_whitespace().next();
            of.cpu_ns += cpu_ns.and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
            of.wakeups += field(&thread, "voluntary_ctxt_switches")?;
        }
        self.resident_bytes += field(&folder, "VmRSS")? * 1024;
        self.peak_bytes += field(&folder, "VmHWM")? * 1024;
        Ok(())
    }

    /// CPU time of those threads whose name `which` picks, in ns.
    pub fn cpu_ns(&self, which: impl Fn(&str) -> bool) -> u64 {
        self.of(which).map(|thread| thread.cpu_ns).sum()
    }

    /// The same of wake-ups.
    pub fn wakeups(&self, which: impl Fn(&str) -> bool) -> u64 {
        self.of(which).map(|thread| thread.wakeups).sum()
    }

    fn of(&self, which: impl Fn(&str) -> bool) -> impl Iterator<Item = &Thread> {
        let chosen = move |(name, _): &(&String, &Thread)| which(name);
        self.threads.iter().filter(chosen).map(|(_, thread)| thread)
    }
}

/// Whether a thread of this name is one of smilat's that sample.
#[must_use]
pub fn samples(name: &str) -> bool {
    let route = name.strip_prefix("smilat/").unwrap_or_default();
    matches!(route, "turn" | "any") || route.parse::<u32>().is_ok()
}

/// The name of a thread, without what makes it one of many.
fn name(thread: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(thread.join("comm"))?
        .trim_end()
        .to_owned())
}

/// A number of a `status` file.
fn field(of: &Path, name: &str) -> io::Result<u64> {
    let file = of.join("status");
    let status = fs::read_to_string(&file)?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("{} has no {name}", file.display())))
}
