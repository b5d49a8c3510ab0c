//! QEMU's `edu` (`docs/specs/edu.txt` of QEMU): a device that reads and writes whatever address it is told to.

use std::{fs::OpenOptions, os::fd::AsRawFd as _, ptr, thread, time::Duration};

use super::pci::{self, EDU};
use crate::PATIENCE;

const LENGTH: usize = 1 << 20;
/// Registers.
const FROM: usize = 0x80;
const TO: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const START: u64 = 1;
const TO_MEMORY: u64 = 2;
/// The device's own memory, as it addresses it.
const OWN: u64 = 0x40000;

/// What the device does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// The device's registers.
pub(super) struct Edu(*mut u64);

impl Edu {
    /// Gets hold of them.
    ///
    /// # Panics
    /// When the kernel refuses, or this is another device.
    #[track_caller]
    pub(super) fn open() -> Self {
        pci::enable(EDU);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(pci::folder(EDU).join("resource0"))
            .expect("its registers");
        // SAFETY: a new mapping of a file, at an address of the kernel's choice.
        let registers = unsafe {
            libc::mmap(
                ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(registers, libc::MAP_FAILED, "its registers");
        // SAFETY: the mapping is longer, and begins on a page.
        let id = unsafe { registers.cast::<u32>().read_volatile() };
        assert_eq!(id & 0xff, 0xed, "{id:x} is no edu");
        Self(registers.cast())
    }

    /// Has it access 8 bytes at `address`, of which it takes 28 bits, and waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub(super) fn access(&mut self, access: Access, address: u64) {
        let (from, to, direction) = match access {
            Access::Read => (address, OWN, 0),
            Access::Write => (OWN, address, TO_MEMORY),
        };
        for (register, value) in [(FROM, from), (TO, to), (COUNT, 8)] {
            self.write(register, value);
        }
        self.write(COMMAND, START | direction);
        let began = std::time::Instant::now();
        while self.read(COMMAND) & START != 0 {
            assert!(began.elapsed() < PATIENCE, "edu does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn read(&self, register: usize) -> u64 {
        // SAFETY: the registers lie within the mapping, at multiples of 8.
        unsafe { self.0.add(register / 8).read_volatile() }
    }

    fn write(&mut self, register: usize, value: u64) {
        // SAFETY: the registers lie within the mapping, at multiples of 8.
        unsafe { self.0.add(register / 8).write_volatile(value) }
    }
}

impl Drop for Edu {
    fn drop(&mut self) {
        // SAFETY: the mapping is of this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.0.cast(), LENGTH) };
    }
}
