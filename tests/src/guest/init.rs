//! What the first process of a machine has to do.

use std::{
    ffi::CStr,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    ptr, thread,
};

use super::smi;

/// Port of QEMU's `isa-debug-exit`, and what is written to it for `xtask/src/vm/qemu.rs` to tell from a crash.
const EXIT_PORT: u64 = 0xf4;
const PASSED: u8 = 21;
const FAILED: u8 = 22;

/// Mounts what the kernel offers.
pub(super) fn mount_all() -> io::Result<()> {
    mount(c"proc", c"/proc")?;
    mount(c"sysfs", c"/sys")?;
    mount(c"devtmpfs", c"/dev")?;
    mount(c"tracefs", c"/sys/kernel/tracing")?;
    // hwlatdetect goes to the tracers by this one.
    mount(c"debugfs", c"/sys/kernel/debug")
}

fn mount(kind: &CStr, at: &CStr) -> io::Result<()> {
    // SAFETY: the strings end in NUL and outlive the call; these file systems take no data.
    let rc = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, ptr::null()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Tracepoints that the detectors and tracers attach to, and that lie in code which CPUs run all the time.
const TRACEPOINTS: [&str; 4] = [
    "sched/sched_switch",
    "sched/sched_migrate_task",
    "irq",
    "irq_vectors",
];

/// Has the kernel patch its code now, while only one CPU is on, so that it need not when detectors start and stop.
///
/// An emulated CPU can go on with what was patched away: while one stores a byte of code, after QEMU has dropped the
/// translations of that page and before the byte arrives, the other may translate the old byte again, and nothing drops
/// that. Where the old byte is the `int3` that the kernel patches by (`smp_text_poke` in
/// `arch/x86/kernel/alternative.c`), both CPUs then take that trap for ever; seen in `__schedule`.
///
/// Tracepoints are patched when their first two users come and their last two go (`kernel/tracepoint.c`); the switch of
/// threads also when the first perf event of a thread comes and some time after the last is gone
/// (`perf_sched_events` in `kernel/events/core.c`). So each gets users that stay, and so do `more` of them as far as this kernel
/// has them.
pub(super) fn patch_for_good(more: &[&str]) -> io::Result<()> {
    let tracing = Path::new("/sys/kernel/tracing");
    for instance in ["held-1", "held-2"] {
        let instance = tracing.join("instances").join(instance);
        fs::create_dir(&instance)?;
        fs::write(instance.join("tracing_on"), "0")?;
        let events = instance.join("events");
        let more = more
            .iter()
            .filter(|tracepoint| events.join(tracepoint).exists());
        for tracepoint in TRACEPOINTS.iter().chain(more) {
            fs::write(events.join(tracepoint).join("enable"), "1")?;
        }
    }
    hold_perf_event()
}

/// Opens an event of this thread that is never turned on, and leaves it open.
fn hold_perf_event() -> io::Result<()> {
    const PERF_TYPE_SOFTWARE: u32 = 1;
    const PERF_COUNT_SW_TASK_CLOCK: u64 = 1;
    const DISABLED: u64 = 1;
    /// `PERF_ATTR_SIZE_VER0`.
    const SIZE: usize = 64;
    let mut attr = [0u64; SIZE / 8];
    attr[0] = u64::from(PERF_TYPE_SOFTWARE) | (SIZE as u64) << 32;
    attr[1] = PERF_COUNT_SW_TASK_CLOCK;
    attr[5] = DISABLED;
    let (this_thread, any_cpu, no_group, no_flags) = (0, -1, -1, 0);
    // SAFETY: the attributes are as long as they say, and only read.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attr.as_ptr(),
            this_thread,
            any_cpu,
            no_group,
            no_flags,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Turns on the CPUs that the kernel was told to leave off (`maxcpus=` in `xtask/src/vm/qemu.rs`).
pub(super) fn start_cpus() -> io::Result<()> {
    for entry in fs::read_dir("/sys/devices/system/cpu")? {
        // The first CPU has no such file, nor has what is not a CPU.
        let switch = entry?.path().join("online");
        if switch.is_file() {
            fs::write(switch, "1")?;
        }
    }
    Ok(())
}

/// Loads every module of `/modules`, in the order of their names.
pub(super) fn load_modules() -> io::Result<()> {
    let entries = fs::read_dir("/modules")?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        let module = File::open(&path)?;
        // SAFETY: the descriptor is open and the parameters are an empty string that ends in NUL.
        let rc =
            unsafe { libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), c"".as_ptr(), 0) };
        if rc != 0 {
            let error = io::Error::last_os_error();
            return Err(io::Error::new(
                error.kind(),
                format!("{}: {error}", path.display()),
            ));
        }
    }
    Ok(())
}

/// Becomes a shell on the console; returns only when that fails.
pub(super) fn shell() -> io::Error {
    let busybox = Path::new("/bin/busybox");
    match Command::new(busybox)
        .args(["--install", "-s", "/bin"])
        .status()
    {
        Ok(status) if status.success() => {}
        Ok(status) => return io::Error::other(format!("busybox --install failed: {status}")),
        Err(error) => return error,
    }
    if let Err(error) = smi::install_handler() {
        println!("no SMM handler: {error}");
    }
    println!(
        "smilat is in /bin. `smilat fire --yes` fires an SMI; \
         `poweroff -f` ends."
    );
    // `cttyhack` makes the console the shell's terminal, without which there is no Ctrl-C.
    Command::new(busybox)
        .args(["setsid", "cttyhack", "sh"])
        .exec()
}

/// Turns the machine off and lets the host know how it went.
pub(super) fn power_off(passed: bool) -> ! {
    let status = if passed { PASSED } else { FAILED };
    // Turned off at once, the machine would keep the last lines to itself.
    // SAFETY: the call takes any number for a descriptor.
    unsafe { libc::tcdrain(libc::STDOUT_FILENO) };
    let written = OpenOptions::new()
        .write(true)
        .open("/dev/port")
        .and_then(|port| port.write_at(&[status], EXIT_PORT));
    println!("the machine is still on: {written:?}");
    // The kernel panics when its first process ends: the host takes the machine down by its limit instead.
    loop {
        thread::park();
    }
}
