//! The options the kernel was built with: those smilat needs, and those of the tracing menu that people look for when
//! they hunt latency.

use super::{Check, Group, State};
use crate::kernel::kconfig::{Config, Setting};

/// An option.
struct Wanted {
    /// Its name without `CONFIG_`.
    name: &'static str,
    /// What it brings.
    purpose: &'static str,
    /// What smilat cannot do without it; `None` where smilat does without.
    blocks: Option<&'static str>,
}

const fn needed(name: &'static str, purpose: &'static str, blocks: &'static str) -> Wanted {
    Wanted {
        name,
        purpose,
        blocks: Some(blocks),
    }
}

const fn other(name: &'static str, purpose: &'static str) -> Wanted {
    Wanted {
        name,
        purpose,
        blocks: None,
    }
}

/// Their meanings are those of the kernel's own `Kconfig` files.
const OPTIONS: &[Wanted] = &[
    needed("BPF_SYSCALL", "the system call bpf", "every detector"),
    needed(
        "PERF_EVENTS",
        "perf events, which run BPF programs",
        "every detector",
    ),
    needed(
        "BPF_EVENTS",
        "BPF programs at perf events and tracepoints",
        "every detector",
    ),
    needed(
        "BPF_JIT",
        "BPF programs as machine code",
        "short steps of the clock loop",
    ),
    needed(
        "HIGH_RES_TIMERS",
        "timers finer than the tick",
        "the timer of the spin detector",
    ),
    needed(
        "HWLAT_TRACER",
        "the kernel's hardware latency tracer",
        "--detector hwlat",
    ),
    needed(
        "OSNOISE_TRACER",
        "the kernel's operating system noise tracer",
        "--detector osnoise",
    ),
    needed(
        "EVENT_TRACING",
        "tracepoints for programs, sched_switch among them",
        "--detector hwlat and osnoise",
    ),
    needed(
        "KPROBES",
        "probes in the kernel; without them it refuses breakpoints in itself",
        "--detector hwlat counting in the kernel; it reads the trace buffer instead",
    ),
    needed(
        "KALLSYMS",
        "addresses of the kernel's functions",
        "--detector hwlat counting in the kernel; it reads the trace buffer instead",
    ),
    needed(
        "X86_MSR",
        "/dev/cpu/N/msr",
        "reading SMI counts where perf has no event for them",
    ),
    needed("DEVPORT", "/dev/port", "firing SMIs through an I/O port"),
    needed(
        "IOMMU_API",
        "IOMMUs and their tracepoints",
        "a view of IOMMU groups and mappings",
    ),
    other(
        "TIMERLAT_TRACER",
        "latency of timers and of the threads they wake",
    ),
    other(
        "IRQSOFF_TRACER",
        "the longest time with interrupts off, with its place",
    ),
    other(
        "PREEMPT_TRACER",
        "the longest time with preemption off, with its place",
    ),
    other(
        "PREEMPTIRQ_TRACEPOINTS",
        "an event each time interrupts or preemption go off and on",
    ),
    other("SCHED_TRACER", "the longest time from wake-up to running"),
    other("FUNCTION_TRACER", "every call of a kernel function"),
    other(
        "FUNCTION_GRAPH_TRACER",
        "calls of kernel functions with their durations",
    ),
    other(
        "DYNAMIC_FTRACE",
        "function tracing that costs nothing while it is off",
    ),
    other("FUNCTION_PROFILER", "hits and times of kernel functions"),
    other(
        "KPROBE_EVENTS",
        "events at places in the kernel chosen at run time",
    ),
    other("UPROBE_EVENTS", "the same in programs"),
    other("FPROBE", "probes at the entry and exit of functions"),
    other("FTRACE_SYSCALLS", "an event for each system call"),
    other(
        "TRACER_SNAPSHOT",
        "keeping a copy of the trace buffer at a moment",
    ),
    other("BLK_DEV_IO_TRACE", "following requests to block devices"),
    other("MMIOTRACE", "accesses to the registers of devices"),
    other("STRICT_DEVMEM", "/dev/mem shut for memory the kernel uses"),
    other(
        "NO_HZ_FULL",
        "CPUs without a tick while one thread runs (nohz_full=)",
    ),
];

/// A check for each option.
pub(super) fn judge(config: &Config) -> Vec<Check> {
    OPTIONS
        .iter()
        .map(|wanted| judge_one(wanted, config.get(&format!("CONFIG_{}", wanted.name))))
        .collect()
}

/// What to set for it: some options cannot be chosen but come with others.
fn to_set(option: &str) -> String {
    match option {
        "CONFIG_BPF_EVENTS" => {
            "CONFIG_BPF_SYSCALL=y, CONFIG_PERF_EVENTS=y and CONFIG_UPROBE_EVENTS=y, which bring it"
                .to_owned()
        }
        "CONFIG_EVENT_TRACING" => {
            "CONFIG_FTRACE=y and a tracer such as CONFIG_HWLAT_TRACER=y, which bring it".to_owned()
        }
        "CONFIG_IOMMU_API" => {
            "CONFIG_INTEL_IOMMU=y or CONFIG_AMD_IOMMU=y, which bring it".to_owned()
        }
        "CONFIG_X86_MSR" => format!("{option}=m or y"),
        _ => format!("{option}=y"),
    }
}

fn judge_one(wanted: &Wanted, setting: Setting) -> Check {
    let Wanted {
        name,
        purpose,
        blocks,
    } = wanted;
    let value = match setting {
        Setting::BuiltIn => "y",
        Setting::Module => "m",
        Setting::Off => "off",
    };
    let name = format!("CONFIG_{name}");
    let remedy = format!("boot a kernel built with {}", to_set(&name));
    match (setting, blocks) {
        (Setting::Off, Some(blocks)) => Check::ok(Group::Config, name, format!("off: {purpose}"))
            .but(State::Missing, *blocks, remedy),
        (Setting::Off, None) => Check::ok(
            Group::Config,
            name,
            format!("off, and smilat does without: {purpose}"),
        ),
        _ => Check::ok(Group::Config, name, format!("{value}: {purpose}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_smilat_needs_is_missing() {
        let config = Config::of_text("config", include_str!("../kernel/testdata/config-6.18"));
        let checks = judge(&config);
        let state = |name: &str| {
            let check = checks.iter().find(|check| check.name == name);
            check.expect(name).state
        };
        assert_eq!(state("CONFIG_BPF_SYSCALL"), State::Ok);
        assert_eq!(state("CONFIG_HWLAT_TRACER"), State::Missing);
        assert_eq!(state("CONFIG_KPROBES"), State::Missing);
        // Off as well.
        assert_eq!(state("CONFIG_IRQSOFF_TRACER"), State::Ok);
    }

    #[test]
    fn modules_count_as_there() {
        let config = Config::of_text("config", "CONFIG_X86_MSR=m\n");
        let checks = judge(&config);
        let msr = checks.iter().find(|check| check.name == "CONFIG_X86_MSR");
        let msr = msr.expect("checked");
        assert_eq!(msr.state, State::Ok);
        assert!(msr.found.starts_with("m:"), "{msr:?}");
    }
}
