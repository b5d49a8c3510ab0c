//! The kernel's log from some moment on.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
};

/// See the module.
pub(super) struct KernelLog(File);

impl KernelLog {
    /// What is logged from now on.
    ///
    /// # Panics
    /// When there is no log.
    #[track_caller]
    pub(super) fn from_now_on() -> Self {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("the kernel's log");
        file.seek(SeekFrom::End(0)).expect("its end");
        Self(file)
    }

    /// Lines that came since the last call, without what stands before the text.
    ///
    /// # Panics
    /// When lines were lost.
    #[track_caller]
    pub(super) fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    let (_, text) = text.split_once(';').expect("a record");
                    lines.push(text.lines().next().unwrap_or_default().to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return lines,
                Err(error) => panic!("the kernel's log: {error}"),
            }
        }
    }
}
