//! Small readers and writers of kernel interfaces. Nothing outside this module opens a file of the kernel's or makes a
//! system call of its own.

pub mod changes;
pub mod clock;
pub mod cpus;
pub mod kallsyms;
pub mod perf;
pub mod process;
pub mod release;
pub mod sched;
pub mod tracefs;
