//! The options of the kernel that `smilat doctor` tells of, and what each is for.

/// An option.
pub(super) struct Wanted {
    /// Its name without `CONFIG_`.
    pub(super) name: &'static str,
    /// What it brings.
    pub(super) purpose: &'static str,
    /// What smilat cannot do without it; `None` where smilat does without.
    pub(super) blocks: Option<&'static str>,
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

/// Their meanings are those of the kernel's own `Kconfig` files (`kernel/trace/Kconfig` for most). First those smilat
/// needs; then those of a kernel made for hunting latency, which smilat only tells of.
pub(super) const OPTIONS: &[Wanted] = &[
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
    needed(
        "CPU_IDLE",
        "idle states of the CPUs, and /dev/cpu_dma_latency, which limits them",
        "run --dma-latency",
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
    other(
        "TRACE_PREEMPT_TOGGLE",
        "hooks where preemption goes off and on, for the two above",
    ),
    other("SCHED_TRACER", "the longest time from wake-up to running"),
    other("CONTEXT_SWITCH_TRACER", "following which thread runs"),
    other("FUNCTION_TRACER", "every call of a kernel function"),
    other(
        "FUNCTION_GRAPH_TRACER",
        "calls of kernel functions with their durations",
    ),
    other("FUNCTION_GRAPH_RETVAL", "and with what they return"),
    other("FUNCTION_PROFILER", "hits and times of kernel functions"),
    other(
        "DYNAMIC_FTRACE",
        "function tracing that costs nothing while it is off",
    ),
    other("DYNAMIC_FTRACE_WITH_REGS", "with all registers at the call"),
    other("DYNAMIC_FTRACE_WITH_ARGS", "with the arguments of the call"),
    other(
        "DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
        "calling a tracer without a detour, as BPF's fentry does",
    ),
    other("FPROBE", "probes at the entry and exit of functions"),
    other("FPROBE_EVENTS", "events at the entry and exit of functions"),
    other(
        "RETHOOK",
        "hooks on the return from functions, for such probes",
    ),
    other(
        "KPROBE_EVENTS",
        "events at places in the kernel chosen at run time",
    ),
    other("UPROBE_EVENTS", "the same in programs"),
    other("PROBE_EVENTS", "what all events chosen at run time share"),
    other("DYNAMIC_EVENTS", "the file by which they are made"),
    other("FTRACE_SYSCALLS", "an event for each system call"),
    other(
        "TRACER_SNAPSHOT",
        "keeping a copy of the trace buffer at a moment",
    ),
    other(
        "TRACER_SNAPSHOT_PER_CPU_SWAP",
        "keeping one of a single CPU's buffer",
    ),
    other(
        "TRACER_MAX_TRACE",
        "keeping the trace of the longest latency",
    ),
    other("BLK_DEV_IO_TRACE", "following requests to block devices"),
    other("MMIOTRACE", "accesses to the registers of devices"),
    other(
        "NOP_TRACER",
        "the tracer that does nothing, in force between others",
    ),
    other("FTRACE", "the menu of tracers"),
    other("TRACING", "what all tracers share"),
    other(
        "GENERIC_TRACER",
        "the same for those that can be chosen while the kernel runs",
    ),
    other("TRACING_SUPPORT", "this architecture can trace"),
    other("RING_BUFFER", "the buffer that traces are written to"),
    other(
        "RING_BUFFER_ALLOW_SWAP",
        "swapping it for another, as snapshots do",
    ),
    other("TRACE_CLOCK", "the clocks that date what is traced"),
    other(
        "BRANCH_PROFILE_NONE",
        "no counting of branches, which would slow everything",
    ),
    other("USER_STACKTRACE_SUPPORT", "stacks of programs in traces"),
    other(
        "FTRACE_MCOUNT_RECORD",
        "a list of all functions that can be traced",
    ),
    other("FTRACE_MCOUNT_USE_CC", "made by the compiler"),
    other("BUILDTIME_MCOUNT_SORT", "sorted when the kernel was built"),
    other(
        "HAVE_BUILDTIME_MCOUNT_SORT",
        "this architecture can sort it so",
    ),
    other(
        "HAVE_C_RECORDMCOUNT",
        "this architecture can make the list by a tool in C",
    ),
    other(
        "HAVE_FTRACE_MCOUNT_RECORD",
        "this architecture has that list",
    ),
    other("HAVE_OBJTOOL_MCOUNT", "objtool can make it"),
    other(
        "HAVE_OBJTOOL_NOP_MCOUNT",
        "objtool can turn the calls in it off",
    ),
    other("HAVE_FENTRY", "functions call tracers before anything else"),
    other(
        "HAVE_FUNCTION_TRACER",
        "this architecture can trace functions",
    ),
    other(
        "HAVE_FUNCTION_GRAPH_TRACER",
        "this architecture can trace their return",
    ),
    other("HAVE_FUNCTION_GRAPH_RETVAL", "and what they return"),
    other(
        "HAVE_DYNAMIC_FTRACE",
        "this architecture can turn tracing of functions off by patching",
    ),
    other("HAVE_DYNAMIC_FTRACE_WITH_REGS", "it can pass all registers"),
    other("HAVE_DYNAMIC_FTRACE_WITH_ARGS", "it can pass the arguments"),
    other(
        "HAVE_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
        "it can call a tracer without a detour",
    ),
    other(
        "HAVE_DYNAMIC_FTRACE_NO_PATCHABLE",
        "it needs no patchable entries for that",
    ),
    other("HAVE_RETHOOK", "this architecture can hook returns"),
    other(
        "HAVE_SYSCALL_TRACEPOINTS",
        "this architecture has an event for each system call",
    ),
    other(
        "HAVE_SAMPLE_FTRACE_DIRECT",
        "the kernel's example of direct calls fits this architecture",
    ),
    other(
        "HAVE_SAMPLE_FTRACE_DIRECT_MULTI",
        "and the one for several functions",
    ),
    other(
        "PROVIDE_OHCI1394_DMA_INIT",
        "reading memory over FireWire from the start, to debug a kernel that does not come up",
    ),
    other(
        "ARCH_HAS_DEVMEM_IS_ALLOWED",
        "this architecture can shut parts of /dev/mem",
    ),
    other("STRICT_DEVMEM", "/dev/mem shut for memory the kernel uses"),
    other(
        "NO_HZ_FULL",
        "CPUs without a tick while one thread runs (nohz_full=)",
    ),
];
