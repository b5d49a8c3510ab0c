//! A process that does not outlast a test that failed.

use std::{
    ops::{Deref, DerefMut},
    process::{Child, Command},
};

/// See the module.
pub struct Killed(Child);

impl Killed {
    /// Starts `command`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.0.id()).expect("a process");
        // SAFETY: no memory is involved. No test asks it of a process that it has waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Deref for Killed {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Killed {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Most have ended by themselves.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}
