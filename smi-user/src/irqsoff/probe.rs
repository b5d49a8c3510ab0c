//! Tries whether a CPU can be preempted: a thread there, above all others, that the programs wake up where a section begins.
//! While nothing is switched to from then on, nothing could be.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};

use crate::{bpf::irqsoff::ProbeEvent, kernel::sched};

/// The highest of `SCHED_FIFO`.
const PRIORITY: u8 = 99;

/// The thread. Dropped, it ends.
pub(super) struct Probe {
    /// Closed to have the thread end.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Has a thread on `cpu` wait for `event`.
    ///
    /// # Errors
    /// When it cannot have its place or its priority.
    pub(super) fn start(cpu: u32, mut event: ProbeEvent) -> Result<Self> {
        let (ended, end) = io::pipe().context("cannot make a pipe")?;
        let (sender, ready) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("irqsoff/{cpu}"))
            .spawn(move || {
                let set = sched::set_affinity([cpu])
                    .with_context(|| format!("cannot run on CPU {cpu}"))
                    .and_then(|()| {
                        sched::set_fifo(PRIORITY).context(
                            "cannot have real-time priority (CAP_SYS_NICE is needed, and with cgroup v1 a cpu.rt_runtime_us above 0)",
                        )
                    });
                let is_set = set.is_ok();
                // Who started it waits for that.
                let _sent = sender.send(set);
                if is_set {
                    wait(&mut event, &ended);
                }
            })
            .context("cannot start a thread")?;
        let probe = Self {
            end: Some(end),
            thread: Some(thread),
        };
        ready.recv().context("the thread ended")??;
        Ok(probe)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, it has ended.
            let _ended = thread.join();
        }
    }
}

/// Wakes up whenever `event` has something, until the other end of `ended` is closed, or the event is over because its CPU went
/// offline: it would wake up for ever.
fn wait(event: &mut ProbeEvent, ended: &PipeReader) {
    let asked = |fd: BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        let mut files = [asked(event.as_fd()), asked(ended.as_fd())];
        // SAFETY: as many as told, which live until the call returns.
        let count = unsafe { libc::poll(files.as_mut_ptr(), files.len() as libc::nfds_t, -1) };
        if count < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
        if files[1].revents != 0 || files[0].revents & !libc::POLLIN != 0 {
            return;
        }
        // That it ran is all there is to it.
        event.for_each(|_| {});
    }
}
