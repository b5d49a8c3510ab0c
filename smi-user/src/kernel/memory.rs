//! Memory of this process that it needs no longer.

/// Gives back to the kernel what was freed: setting up takes some MiB (the kernel's description of its types, programs in several
/// forms), between which a little stays in use, so that the C library would keep all of it for good (`malloc_trim(3)`).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}
