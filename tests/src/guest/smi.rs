//! SMIs made to order, of a known length, each with a record of when it came and what it interrupted.
//!
//! `SeaBIOS`'s own SMM handler returns at once and serves CPU 0 only, so [`install_handler`] puts one of ours in the
//! place of both CPUs'. It spins until the TSC has moved by what a mailbox in memory says, and writes into a log there
//! when it began, when it ended, and where the CPU was: truth, to compare measurements with.
//!
//! What this rests on:
//! - Intel SDM volume 3, chapter "System Management Mode": an SMI starts the CPU at SMBASE + 0x8000, in 16-bit code,
//!   with segments of 4 GiB that begin at 0, but for CS, which begins at SMBASE; `RSM` puts everything back.
//! - SMBASE is 0x30000 after reset, and that is where `SeaBIOS` leaves CPU 1's. CPU 0's it moves to 0xa0000: SMRAM, which
//!   it does not lock, so that bit `D_OPEN` of the host bridge shows it (`src/fw/smm.c` of `SeaBIOS`, `SMRAMC` in the
//!   datasheet of Intel's 3 series chipsets).
//! - What an SMI interrupted is saved at the offsets of AMD's 64-bit layout (AMD64 APM volume 2, "SMM State-Save Area";
//!   QEMU's `target/i386/tcg/sysemu/smm_helper.c`).
//! - The machine keeps the kernel out of 0x30000 to 0x40000 (`memmap=` in `xtask/src/vm/qemu.rs`).
//!
//! The handler runs on both CPUs at once where an SMI goes to both: each takes a record of its own by the number it draws.

mod chipset;
mod fw_cfg;
mod port;

pub use self::chipset::{broadcast, disarm_port};

use std::{
    arch::{global_asm, x86_64::_rdtsc},
    array,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    ptr::{self, NonNull},
    slice,
    sync::OnceLock,
    thread,
    time::{Duration, Instant, SystemTime},
};

/// I/O port whose writing makes the chipset send an SMI to the CPU that wrote, and to all where that was negotiated
/// (`APM_CNT`, [`broadcast`]).
const APM_CNT: u64 = 0xb2;

/// Any value but 2 and 3, by which firmware is asked to turn ACPI on and off.
const APM_VALUE: u8 = 0;

/// Intel's count of SMIs, one per logical CPU (SDM volume 4, `MSR_SMI_COUNT`).
const MSR_SMI_COUNT: u64 = 0x34;

/// Where CPU 1's handler, the mailbox and the log lie.
const PAGE: u64 = 0x30000;
const PAGE_SIZE: usize = 0x10000;

/// In [`PAGE`]: a request to the firmware's configuration device, and the data it moves (`fw_cfg.rs`).
const FW_CFG_REQUEST: usize = 0x1000;
const FW_CFG_DATA: usize = 0x1010;

/// Where an SMI starts a CPU, from SMBASE.
const ENTRY: usize = 0x8000;

/// In [`PAGE`]: cycles to spin (u32), number of SMIs begun (u32), number ended (u32).
const CYCLES: usize = 0x9000;
const BEGUN: usize = 0x9008;
const ENDED: usize = 0x900c;

/// In [`PAGE`]: a ring of records of 32 bytes. It ends where CPU 1's state is saved.
const LOG: usize = 0xa000;
const LOG_RECORDS: u32 = 512;

/// IF in RFLAGS.
const INTERRUPT_FLAG: u32 = 1 << 9;

/// SMRAM of CPU 0.
const SMRAM: u64 = 0xa0000;

/// Configuration space of Q35's host bridge, its SMRAM control register, and in it the bit that shows SMRAM to all.
const HOST_BRIDGE: &str = "/sys/bus/pci/devices/0000:00:00.0/config";
const SMRAMC: u64 = 0x9d;
const D_OPEN: u8 = 0x40;

/// The local APIC and its interrupt command register (SDM volume 3, "Issuing Interprocessor Interrupts").
const APIC: u64 = 0xfee0_0000;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
/// Delivery modes SMI and NMI, level assert.
const ICR_SMI: u32 = 0x4200;
const ICR_NMI: u32 = 0x4400;

global_asm!(
    ".pushsection .rodata.smm_handler, \"a\"",
    ".code16",
    "smm_handler_begin:",
    "    movl $0x39000, %ebx", // the mailbox
    "    rdtsc",
    "    movl %eax, %esi",
    "    movl %edx, %edi",
    "    movl $1, %ebp",
    "    lock xaddl %ebp, 8(%ebx)", // begun
    "    andl $511, %ebp",
    "    shll $5, %ebp",
    "    addl $0x3a000, %ebp", // this SMI's record
    "    movl %esi, (%ebp)",
    "    movl %edi, 4(%ebp)",
    "    movl %cs:0xff78, %eax", // RIP as saved
    "    movl %eax, 16(%ebp)",
    "    movl %cs:0xff7c, %eax",
    "    movl %eax, 20(%ebp)",
    "    movl %cs:0xff70, %eax", // RFLAGS as saved
    "    movl %eax, 24(%ebp)",
    "    movl $1, %eax", // the local APIC's ID, by CPUID leaf 1
    "    cpuid",
    "    shrl $24, %ebx",
    "    movl %ebx, 28(%ebp)",
    "    movl $0x39000, %ebx",
    "    movl (%ebx), %ecx", // cycles to spin
    "1:  rdtsc",
    "    movl %eax, 8(%ebp)",
    "    movl %edx, 12(%ebp)",
    "    subl %esi, %eax",
    "    sbbl %edi, %edx",
    "    testl %edx, %edx",
    "    jnz 2f",
    "    cmpl %ecx, %eax",
    "    jb 1b",
    "2:  lock incl 12(%ebx)", // ended
    "    rsm",
    "smm_handler_end:",
    ".code64",
    ".popsection",
    options(att_syntax)
);

unsafe extern "C" {
    #[link_name = "smm_handler_begin"]
    static HANDLER_BEGIN: u8;
    #[link_name = "smm_handler_end"]
    static HANDLER_END: u8;
}

/// One SMI, as the handler recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smi {
    /// The CPU that it came to.
    pub cpu: u32,
    /// TSC at its first instruction.
    pub begin_tsc: u64,
    /// TSC at its last.
    pub end_tsc: u64,
    /// Where the CPU was.
    pub rip: u64,
    /// Whether the CPU took interrupts there.
    pub interrupts_on: bool,
}

/// Physical memory, mapped.
struct Physical {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: all access is volatile, by single instructions, to memory that is never unmapped.
unsafe impl Send for Physical {}
// SAFETY: as above.
unsafe impl Sync for Physical {}

impl Physical {
    fn map(address: u64, length: usize) -> io::Result<Self> {
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_SYNC)
            .open("/dev/mem")?;
        // SAFETY: a new mapping at a place of the kernel's choosing takes nothing from anyone.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                libc::off_t::try_from(address).map_err(io::Error::other)?,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, length })
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.length && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.add(offset) }.as_ptr().cast()
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: `at` checks that it lies within the mapping, which is never taken down.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    fn write(&self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }

    fn read_all<const N: usize>(&self, offset: usize) -> [u8; N] {
        // SAFETY: as in `read`.
        array::from_fn(|i| unsafe { ptr::read_volatile(self.at(offset + i)) })
    }

    fn write_all(&self, offset: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { ptr::write_volatile(self.at(offset + i), *byte) };
        }
    }

    /// Copies the handler's `bytes` to where an SMI starts a CPU, and checks that they arrived.
    fn write_handler(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(ENTRY, bytes);
        let arrived = bytes.iter().enumerate().all(|(i, byte)| {
            let [there] = self.read_all(ENTRY + i);
            there == *byte
        });
        if arrived {
            Ok(())
        } else {
            Err(io::Error::other("the SMM handler did not arrive in memory"))
        }
    }
}

/// The mailbox, once the handler is installed.
static MAILBOX: OnceLock<Physical> = OnceLock::new();

fn mailbox() -> &'static Physical {
    MAILBOX.get_or_init(|| install().unwrap_or_else(|error| panic!("no SMM handler: {error}")))
}

/// Puts the handler in place for CPUs 0 and 1, if it is not yet. Everything below does so itself.
///
/// # Errors
/// When the memory it has to lie in cannot be written.
pub fn install_handler() -> io::Result<()> {
    if MAILBOX.get().is_none() {
        let page = install()?;
        MAILBOX.get_or_init(|| page);
    }
    Ok(())
}

fn install() -> io::Result<Physical> {
    // SAFETY: both symbols are in the same section, the end after the begin.
    let handler = unsafe {
        let length = (&raw const HANDLER_END).offset_from_unsigned(&raw const HANDLER_BEGIN);
        slice::from_raw_parts(&raw const HANDLER_BEGIN, length)
    };
    let page = Physical::map(PAGE, PAGE_SIZE)?;
    for word in [CYCLES, BEGUN, ENDED] {
        page.write(word, 0);
    }
    page.write_handler(handler)?;

    let bridge = OpenOptions::new()
        .read(true)
        .write(true)
        .open(HOST_BRIDGE)?;
    let mut closed = [0];
    bridge.read_exact_at(&mut closed, SMRAMC)?;
    bridge.write_all_at(&[closed[0] | D_OPEN], SMRAMC)?;
    let written = Physical::map(SMRAM, PAGE_SIZE).and_then(|smram| smram.write_handler(handler));
    bridge.write_all_at(&closed, SMRAMC)?;
    written?;
    Ok(page)
}

/// Makes each SMI from now on last this long, below a second.
///
/// # Panics
/// When it is longer.
pub fn set_length(length: Duration) {
    let cycles = length.as_secs_f64() * tsc_hz();
    assert!(
        length < Duration::from_secs(1) && cycles < f64::from(u32::MAX),
        "an SMI of {length:?} is too long"
    );
    mailbox().write(CYCLES, cycles.ceil() as u32);
}

/// Has the CPU the caller runs on write to the port that raises SMIs; when it returns, the SMI of that CPU is over. One
/// that goes to other CPUs too ([`broadcast`]) may not have begun there yet: [`wait_for`] it.
///
/// # Panics
/// When the port cannot be written.
pub fn fire_here() {
    static PORT: OnceLock<File> = OnceLock::new();
    // On CPU 1, SeaBIOS's handler would end in a machine that hangs.
    mailbox();
    let port = PORT.get_or_init(|| {
        OpenOptions::new()
            .write(true)
            .open("/dev/port")
            .expect("/dev/port")
    });
    port.write_all_at(&[APM_VALUE], APM_CNT)
        .expect("APM_CNT written");
}

/// Sends another CPU an SMI, through the local APIC of the one the caller is pinned to. Does not wait for it.
///
/// The kernel may send an interrupt of its own between the two writes, and so turn this one to the CPU it sent that
/// to: in a machine of two CPUs that is the same.
///
/// # Panics
/// When the local APIC cannot be reached.
pub fn fire_on(cpu: u32) {
    mailbox();
    interrupt(cpu, ICR_SMI);
}

/// Sends another CPU an NMI, as [`fire_on`] sends SMIs. The kernel logs that it does not know what it is for.
///
/// # Panics
/// When the local APIC cannot be reached.
pub fn fire_nmi_on(cpu: u32) {
    interrupt(cpu, ICR_NMI);
}

fn interrupt(cpu: u32, kind: u32) {
    static REGISTERS: OnceLock<Physical> = OnceLock::new();
    let apic = REGISTERS.get_or_init(|| Physical::map(APIC, 0x1000).expect("the local APIC"));
    // QEMU numbers the APICs of single-threaded, single-core sockets as Linux numbers the CPUs.
    apic.write(ICR_HIGH, cpu << 24);
    apic.write(ICR_LOW, kind);
}

/// SMIs that have ended since the handler was installed, on both CPUs.
pub fn handler_count() -> u32 {
    mailbox().read(ENDED)
}

/// Waits until `count` SMIs have ended since the handler was installed.
///
/// # Panics
/// When that takes more than 10 s.
#[track_caller]
pub fn wait_for(count: u32) {
    let began = Instant::now();
    while handler_count().wrapping_sub(count).cast_signed() < 0 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{} SMIs of {count} ended",
            handler_count()
        );
        thread::sleep(Duration::from_micros(100));
    }
}

/// The records of the SMIs after the first `from`, all of which have ended.
///
/// # Panics
/// When there were more than the log has room for, or one is under way.
pub fn records(from: u32) -> Vec<Smi> {
    let page = mailbox();
    let count = handler_count();
    assert_eq!(page.read(BEGUN), count, "an SMI is under way");
    assert!(count - from <= LOG_RECORDS, "the log has been overwritten");
    (from..count)
        .map(|number| {
            let record = LOG + (number % LOG_RECORDS) as usize * 32;
            let long = |at| {
                u64::from(page.read(record + at)) | u64::from(page.read(record + at + 4)) << 32
            };
            Smi {
                cpu: page.read(record + 28),
                begin_tsc: long(0),
                end_tsc: long(8),
                rip: long(16),
                interrupts_on: page.read(record + 24) & INTERRUPT_FLAG != 0,
            }
        })
        .collect()
}

/// MSR 0x34 of a CPU.
///
/// # Panics
/// When it cannot be read.
pub fn msr_count(cpu: u32) -> u64 {
    let mut value = [0; 8];
    File::open(format!("/dev/cpu/{cpu}/msr"))
        .and_then(|msr| msr.read_exact_at(&mut value, MSR_SMI_COUNT))
        .unwrap_or_else(|error| panic!("MSR 0x34 of CPU {cpu}: {error}"));
    u64::from_le_bytes(value)
}

/// Reads the TSC.
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction.
    unsafe { _rdtsc() }
}

/// Cycles of the TSC in a second.
///
/// # Panics
/// When the clock is set back meanwhile.
pub fn tsc_hz() -> f64 {
    static HZ: OnceLock<f64> = OnceLock::new();
    *HZ.get_or_init(|| {
        let begin = Moment::now();
        thread::sleep(Duration::from_millis(200));
        let end = Moment::now();
        let elapsed = end
            .wall
            .duration_since(begin.wall)
            .expect("the clock is not set");
        (end.tsc - begin.tsc) as f64 / elapsed.as_secs_f64()
    })
}

/// The TSC and the wall clock at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The TSC.
    pub tsc: u64,
    /// The wall clock.
    pub wall: SystemTime,
}

impl Moment {
    /// Reads both, the closest of some tries: the CPU may be away between two readings.
    pub fn now() -> Self {
        let mut readings: Vec<(u64, Self)> = (0..50)
            .map(|_| {
                let before = tsc();
                let wall = SystemTime::now();
                let apart = tsc() - before;
                (
                    apart,
                    Self {
                        tsc: before + apart / 2,
                        wall,
                    },
                )
            })
            .collect();
        readings.sort_by_key(|(apart, _)| *apart);
        readings[0].1
    }

    /// The wall clock's time at another reading of the TSC.
    pub fn wall_at(&self, tsc: u64) -> SystemTime {
        let seconds = |cycles: u64| Duration::from_secs_f64(cycles as f64 / tsc_hz());
        if tsc >= self.tsc {
            self.wall + seconds(tsc - self.tsc)
        } else {
            self.wall - seconds(self.tsc - tsc)
        }
    }

    /// The TSC at a time of the wall clock between two moments, by both of them.
    pub fn tsc_between(before: &Self, after: &Self, time: SystemTime) -> u64 {
        let since = |earlier: SystemTime, later: SystemTime| {
            later.duration_since(earlier).map_or_else(
                |error| -error.duration().as_secs_f64(),
                |time| time.as_secs_f64(),
            )
        };
        let rate = (after.tsc - before.tsc) as f64 / since(before.wall, after.wall);
        before
            .tsc
            .saturating_add_signed((since(before.wall, time) * rate) as i64)
    }
}
