//! Perf events for BPF programs to read: the values of a `BPF_MAP_TYPE_PERF_EVENT_ARRAY`, which aya fills with events of
//! its own making only.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `BPF_MAP_UPDATE_ELEM` of `bpf(2)`.
const UPDATE: libc::c_int = 2;

/// The part of `union bpf_attr` that the command takes.
#[repr(C)]
struct Attr {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Puts `event` at `place` of `map`, which holds on to it until another takes its place or the map is closed.
pub(super) fn put(map: BorrowedFd<'_>, place: u32, event: BorrowedFd<'_>) -> io::Result<()> {
    let fd = |fd: BorrowedFd<'_>| fd.as_raw_fd().cast_unsigned();
    let event = fd(event);
    let attr = Attr {
        map: fd(map),
        pad: 0,
        key: (&raw const place).addr() as u64,
        value: (&raw const event).addr() as u64,
        flags: 0,
    };
    // SAFETY: the attributes have the layout of the command, and both pointers lead to values of the map's sizes, which
    // live until the call returns.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, UPDATE, &raw const attr, size_of::<Attr>()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
