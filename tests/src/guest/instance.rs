//! A tracing instance of a test's own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::state::TRACING;
use crate::{killed::Killed, wait_until};

/// See the module. Dropped, it is gone, and traces none of its events any more.
pub(super) struct Instance {
    path: PathBuf,
    /// As the folders below `events` name them.
    events: &'static [&'static str],
}

impl Instance {
    /// Makes one that traces `events`.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[track_caller]
    pub(super) fn make(name: &str, events: &'static [&'static str]) -> Self {
        let path = Path::new(TRACING).join("instances").join(name);
        fs::create_dir(&path).expect("an instance");
        let instance = Self { path, events };
        instance.switch("1").expect("events");
        instance
    }

    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn switch(&self, on: &str) -> io::Result<()> {
        for event in self.events {
            fs::write(self.path.join("events").join(event).join("enable"), on)?;
        }
        Ok(())
    }

    /// Has `cat` read the events as text, as they come; when this returns, it has read what there was and waits for more.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub(super) fn read_by_cat(&self) -> Killed {
        let pipe = self.path.join("trace_pipe");
        let cat = Killed::start(
            Command::new("/bin/busybox")
                .arg("cat")
                .arg(&pipe)
                .stdout(Stdio::null()),
        );
        let folder = PathBuf::from(format!("/proc/{}", cat.id()));
        wait_until("cat to wait for events", || {
            let mut files = fs::read_dir(folder.join("fd"))
                .expect("its files")
                .flatten();
            let sleeps =
                || fs::read_to_string(folder.join("stat")).is_ok_and(|stat| stat.contains(") S "));
            files.any(|file| fs::read_link(file.path()).is_ok_and(|file| file == pipe)) && sleeps()
        });
        cat
    }

    /// Sum of a number in the statistics of each CPU's buffer.
    ///
    /// # Panics
    /// When there is no such number.
    #[track_caller]
    pub(super) fn stat(&self, name: &str) -> u64 {
        let cpus = fs::read_dir(self.path.join("per_cpu")).expect("per_cpu");
        cpus.map(|cpu| {
            let stats = fs::read_to_string(cpu.expect("an entry").path().join("stats"));
            let stats = stats.expect("stats");
            let line = stats.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(": ")?.parse::<u64>().ok())
                .expect(name)
        })
        .sum()
    }

    /// Events for which there was no room.
    ///
    /// # Panics
    /// When the kernel does not tell.
    #[track_caller]
    pub(super) fn lost(&self) -> u64 {
        self.stat("overrun") + self.stat("commit overrun") + self.stat("dropped events")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _off = self.switch("0");
        // One that runs a tracer can be removed only without it.
        let _idle = fs::write(self.path.join("current_tracer"), "nop");
        let _removed = fs::remove_dir(&self.path);
    }
}
