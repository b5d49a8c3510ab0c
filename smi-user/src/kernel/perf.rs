//! Perf events (`perf_event_open(2)`): those that run BPF programs, a timer of a thread and a breakpoint in the kernel,
//! and those that count ([`count`], [`group`]); and who may open any ([`paranoid`]).

pub mod count;
pub mod group;
pub mod paranoid;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use thiserror::Error;

/// Shortest period the kernel grants a clock event: `perf_swevent_start_hrtimer` in `kernel/events/core.c`.
pub const MIN_PERIOD_NS: u64 = 10_000;

/// `PERF_EVENT_IOC_SET_BPF`, `_IOW('$', 8, __u32)` of `include/uapi/linux/perf_event.h`.
const SET_BPF: libc::c_ulong = 0x4004_2408;

/// Size of `struct perf_event_attr` with what breakpoints need, `PERF_ATTR_SIZE_VER1`; later fields stay 0.
const ATTR_SIZE: u32 = 72;

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
const PERF_COUNT_SW_TASK_CLOCK: u64 = 1;
const PERF_TYPE_BREAKPOINT: u32 = 5;
/// Stop at execution; the length must be that of a `long` then (`include/uapi/linux/hw_breakpoint.h`).
const HW_BREAKPOINT_X: u32 = 4;
const HW_BREAKPOINT_LEN_LONG: u64 = 8;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// A system call about perf events that failed.
#[derive(Debug, Error)]
#[error("{call} failed")]
pub struct PerfError {
    /// Name of the call.
    pub call: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// `struct perf_event_attr`, the fields of its second version.
#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
    bp_len: u64,
}

/// A task-clock event of the calling thread: while that thread is on a CPU, its timer fires there once a period.
///
/// Bound to the thread rather than to a CPU because a CPU's clock event loses expiries on idle CPUs. Closing it stops
/// the timer.
#[derive(Debug)]
pub struct ThreadClock {
    _event: OwnedFd,
}

impl ThreadClock {
    /// Opens the event and has `program` run every `period_ns`, at least [`MIN_PERIOD_NS`].
    ///
    /// # Errors
    /// When the kernel refuses either.
    pub fn open(program: BorrowedFd<'_>, period_ns: u64) -> Result<Self, PerfError> {
        let attr = Attr {
            kind: PERF_TYPE_SOFTWARE,
            size: ATTR_SIZE,
            config: PERF_COUNT_SW_TASK_CLOCK,
            sample_period: period_ns,
            ..Attr::default()
        };
        let this_thread = 0;
        let any_cpu = -1;
        Ok(Self {
            _event: open(&attr, this_thread, any_cpu, program)?,
        })
    }
}

/// A cpu-clock event of a CPU: its timer fires there once a period, whatever runs. Closing it stops the timer.
#[derive(Debug)]
pub struct CpuClock {
    _event: OwnedFd,
}

impl CpuClock {
    /// Opens the event and has `program` run on `cpu` every `period_ns`, at least [`MIN_PERIOD_NS`].
    ///
    /// # Errors
    /// When the kernel refuses either; `ENODEV` when the CPU is offline.
    pub fn open(cpu: u32, program: BorrowedFd<'_>, period_ns: u64) -> Result<Self, PerfError> {
        let attr = Attr {
            kind: PERF_TYPE_SOFTWARE,
            size: ATTR_SIZE,
            config: PERF_COUNT_SW_CPU_CLOCK,
            sample_period: period_ns,
            ..Attr::default()
        };
        let any_thread = -1;
        let cpu = i32::try_from(cpu).unwrap_or(i32::MAX);
        Ok(Self {
            _event: open(&attr, any_thread, cpu, program)?,
        })
    }
}

/// A hardware breakpoint on an instruction of the kernel, on one CPU. Closing it frees the debug register.
#[derive(Debug)]
pub struct Breakpoint {
    _event: OwnedFd,
}

impl Breakpoint {
    /// Has `program` run each time `cpu` is about to execute the instruction at `address`.
    ///
    /// # Errors
    /// `EINVAL` where the kernel lacks kprobes, without which it refuses breakpoints in itself; `ENOSPC` when all debug
    /// registers of the CPU are in use; `ENODEV` when the CPU is offline.
    pub fn open(address: u64, cpu: u32, program: BorrowedFd<'_>) -> Result<Self, PerfError> {
        let attr = Attr {
            kind: PERF_TYPE_BREAKPOINT,
            size: ATTR_SIZE,
            sample_period: 1,
            bp_type: HW_BREAKPOINT_X,
            bp_addr: address,
            bp_len: HW_BREAKPOINT_LEN_LONG,
            ..Attr::default()
        };
        let any_thread = -1;
        let cpu = i32::try_from(cpu).unwrap_or(i32::MAX);
        Ok(Self {
            _event: open(&attr, any_thread, cpu, program)?,
        })
    }
}

/// Opens an event and has `program` run at each occurrence.
fn open(
    attr: &Attr,
    thread: libc::pid_t,
    cpu: i32,
    program: BorrowedFd<'_>,
) -> Result<OwnedFd, PerfError> {
    let event = open_event(attr, thread, cpu, None)?;
    // SAFETY: both descriptors are open.
    if unsafe { libc::ioctl(event.as_raw_fd(), SET_BPF, program.as_raw_fd()) } < 0 {
        return Err(failed("PERF_EVENT_IOC_SET_BPF"));
    }
    Ok(event)
}

/// Opens an event, to count together with `leader` if there is one.
fn open_event(
    attr: &Attr,
    thread: libc::pid_t,
    cpu: i32,
    leader: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, PerfError> {
    let group = leader.map_or(-1, |leader| leader.as_raw_fd());
    // SAFETY: `attr` has the layout and size it claims; the kernel only reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(attr),
            thread,
            cpu,
            group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(failed("perf_event_open"));
    }
    // SAFETY: the kernel just returned it; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn failed(call: &'static str) -> PerfError {
    PerfError {
        call,
        source: io::Error::last_os_error(),
    }
}
