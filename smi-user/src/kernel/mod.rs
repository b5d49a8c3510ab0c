//! Small readers and writers of kernel interfaces. Nothing outside this module opens a file of the kernel's or makes a
//! system call of its own.

pub mod boot;
pub mod btf;
pub mod capabilities;
pub mod changes;
pub mod clock;
pub mod container;
pub mod cpuid;
pub mod cpuinfo;
pub mod cpus;
pub mod dma_latency;
pub mod dmi;
pub mod fadt;
pub mod hangup;
pub mod hostname;
pub mod identity;
pub mod iomem;
pub mod kallsyms;
pub mod kconfig;
pub mod kmsg;
pub mod machine;
pub mod msr;
pub mod naming;
pub mod panic;
pub mod per_cpu;
pub mod perf;
pub mod pmu;
pub mod port;
pub mod process;
pub mod refusal;
pub mod release;
pub mod sched;
pub mod steal;
pub mod tasks;
pub mod terminal;
pub mod tracefs;
