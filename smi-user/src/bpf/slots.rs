//! The slots through which a sampling thread hands stretches to the spin program, mapped into the process.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use smi_common::SpinSlot;

/// Bytes of each field of a slot.
const WORD: usize = size_of::<AtomicU64>();

/// The slots of all possible CPUs.
#[derive(Debug)]
pub struct SpinSlots {
    slots: NonNull<SpinSlot>,
    cpus: usize,
}

// SAFETY: every access is atomic, and each field has one writer (see `smi_common::SpinSlot`).
unsafe impl Send for SpinSlots {}
// SAFETY: as above.
unsafe impl Sync for SpinSlots {}

impl SpinSlots {
    /// Maps `map`, an array of `cpus` slots made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: BorrowedFd<'_>, cpus: usize) -> io::Result<Self> {
        // SAFETY: a new mapping of a descriptor that is open; the kernel rounds the length up to pages.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                cpus * size_of::<SpinSlot>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let slots = NonNull::new(at.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { slots, cpus })
    }

    /// How many CPUs there are slots for.
    #[expect(clippy::len_without_is_empty, reason = "there is always CPU 0")]
    pub fn len(&self) -> usize {
        self.cpus
    }

    /// The slot of `cpu`, if such a CPU is possible.
    pub fn get(&self, cpu: u32) -> Option<Slot<'_>> {
        let cpu = cpu as usize;
        (cpu < self.cpus).then(|| Slot {
            // SAFETY: the mapping holds `cpus` slots and lives as long as `self`. A slot is made of aligned u64s and
            // nothing else, and the kernel side accesses each as a whole too.
            words: unsafe { self.slots.add(cpu).cast().as_ref() },
        })
    }
}

impl Drop for SpinSlots {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length; no `Slot` outlives `self`.
        unsafe {
            libc::munmap(
                self.slots.as_ptr().cast(),
                self.cpus * size_of::<SpinSlot>(),
            )
        };
    }
}

/// The slot of one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    words: &'a [AtomicU64; size_of::<SpinSlot>() / WORD],
}

impl Slot<'_> {
    /// The field at `offset` bytes of the slot.
    fn field(&self, offset: usize) -> &AtomicU64 {
        &self.words[offset / WORD]
    }

    fn armed(&self) -> &AtomicU64 {
        self.field(offset_of!(SpinSlot, armed))
    }

    /// Asks for one stretch of at most `stretch_ns`, ending no later than `until_ns`; returns its number.
    pub fn arm(&self, stretch_ns: u64, until_ns: u64) -> u64 {
        self.field(offset_of!(SpinSlot, stretch_ns))
            .store(stretch_ns, Ordering::Relaxed);
        self.field(offset_of!(SpinSlot, until_ns))
            .store(until_ns, Ordering::Relaxed);
        let number = self.ended() + 1;
        self.armed().store(number, Ordering::Release);
        number
    }

    /// Takes back a stretch that was asked for, unless it has begun.
    pub fn disarm(&self) {
        self.armed().store(self.ended(), Ordering::Release);
    }

    /// Number of the stretch that began last.
    pub fn begun(&self) -> u64 {
        self.field(offset_of!(SpinSlot, begun))
            .load(Ordering::Acquire)
    }

    /// When it began, in ns of `CLOCK_MONOTONIC`.
    pub fn begun_ns(&self) -> u64 {
        self.field(offset_of!(SpinSlot, begun_ns))
            .load(Ordering::Acquire)
    }

    /// Time the CPU spent in stretches since the program was loaded, in ns.
    pub fn spun_ns(&self) -> u64 {
        self.field(offset_of!(SpinSlot, spun_ns))
            .load(Ordering::Acquire)
    }

    /// Number of the stretch that ended last.
    pub fn ended(&self) -> u64 {
        self.field(offset_of!(SpinSlot, ended))
            .load(Ordering::Acquire)
    }
}
