//! I/O ports that are read and written four bytes at a time, which `/dev/port` cannot do: it moves single bytes
//! (`write_port` in `drivers/char/mem.c`).

use std::{arch::asm, io};

/// Leave to use some ports, for the thread that asked for it.
pub(super) struct Ports {
    first: u16,
    number: u16,
}

impl Ports {
    /// Asks the kernel for leave (ioperm(2)).
    pub(super) fn open(first: u16, number: u16) -> io::Result<Self> {
        set_leave(first, number, true)?;
        Ok(Self { first, number })
    }

    /// Reads the four ports from `offset` on.
    pub(super) fn read(&self, offset: u16) -> u32 {
        let value;
        // SAFETY: the thread may use this port; what it stands for is the caller's to know.
        unsafe {
            asm!("in eax, dx", in("dx") self.at(offset), out("eax") value, options(nostack, preserves_flags));
        }
        value
    }

    /// Writes to the four ports from `offset` on.
    pub(super) fn write(&self, offset: u16, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            asm!("out dx, eax", in("dx") self.at(offset), in("eax") value, options(nostack, preserves_flags));
        }
    }

    fn at(&self, offset: u16) -> u16 {
        assert!(offset + 4 <= self.number);
        self.first + offset
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        // Programs that this thread starts would have the leave, too. The kernel never refuses to take it back.
        let _taken_back = set_leave(self.first, self.number, false);
    }
}

fn set_leave(first: u16, number: u16, leave: bool) -> io::Result<()> {
    // SAFETY: it changes nothing but what this thread may do.
    let rc = unsafe { libc::ioperm(first.into(), number.into(), leave.into()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
