//! What the kernel says of open descriptors (`/proc/self/fdinfo`).

use std::{
    fs,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// How often a BPF program was not run because it ran on the same CPU already (`bpf_prog_show_fdinfo` in
/// `kernel/bpf/syscall.c`); `None` before Linux 5.12, which does not say.
pub fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    field(&text, "recursion_misses")
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(had, _)| *had == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found_by_its_whole_name() {
        let text = "pos:\t0\nflags:\t02000000\nrun_cnt:\t7\nrecursion_misses:\t12\n";
        assert_eq!(field(text, "recursion_misses"), Some(12));
        assert_eq!(field(text, "misses"), None);
    }
}
