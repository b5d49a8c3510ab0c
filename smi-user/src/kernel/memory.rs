//! How this process holds its memory.

/// Gives back to the kernel what was freed, and from now on what is freed of large pieces.
///
/// Setting up takes some MiB (the kernel's description of its types, programs in several forms), between which a little stays in
/// use, so that the C library would keep all of it for good (`malloc_trim(3)`). What comes later is the same each interval: of many
/// CPUs, the copies of what they counted are several MiB for a moment. The C library would soon keep that, too, and apart for each
/// thread (`mallopt(3)`: `M_MMAP_THRESHOLD` grows unless it is set, `M_ARENA_MAX`).
pub fn give_back() {
    /// Beyond what a machine of a few CPUs ever needs in one piece: it costs those nothing.
    #[cfg(target_env = "gnu")]
    const LARGE_BYTES: libc::c_int = 512 << 10;
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions; each takes the allocator's own locks. Neither setting is refused.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::malloc_trim(0)
    };
}
