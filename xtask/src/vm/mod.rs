//! `cargo xtask test vm` and `cargo xtask vm shell`: virtual machines that have what the build machine may lack: stock
//! kernels with the hwlat and osnoise tracers, and SMIs that can be fired and timed at will.

mod accuracy;
mod host;
mod image;
mod modules;
mod offender;
mod packages;
mod peers;
mod qemu;
mod snapshots;
mod verdict;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Subcommand, ValueEnum};

pub(crate) use self::peers::{perf_version, turbostat_version};
use self::{
    accuracy::Tables,
    image::Initramfs,
    packages::{KernelFiles, Qemu},
    peers::Peers,
    qemu::{End, Machine, Profile},
    snapshots::Snapshots,
    verdict::Tally,
};
use crate::{ebpf, sh};

/// A machine that takes longer hangs. On an idle host the longest takes some twelve minutes.
const LIMIT: Duration = Duration::from_mins(25);

/// Where the statically linked programs are built, apart from those for this machine: another linking would have
/// cargo build everything anew each time.
const TARGET_DIR: &str = "target/vm";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What people can ask for.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Action {
    /// A shell in such a machine, with smilat in it; Ctrl-A X ends it
    Shell {
        /// Which kernel
        #[arg(value_enum, default_value_t = Kernel::Rt6_12)]
        kernel: Kernel,
    },
}

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian's 6.1, with neither hwlat nor osnoise, as most machines run it
    #[value(name = "6.1")]
    Stock6_1,
    /// Debian's 6.1 with `PREEMPT_RT`
    #[value(name = "6.1-rt")]
    Rt6_1,
    /// Debian's 6.12 as its backports have it
    #[value(name = "6.12")]
    Stock6_12,
    /// Debian's 6.12 with `PREEMPT_RT`
    #[value(name = "6.12-rt")]
    Rt6_12,
}

impl Kernel {
    /// Which Debian packages it may come from.
    fn pattern(self) -> &'static str {
        match self {
            Self::Stock6_1 => r"^linux-image-6\.1\.0-[0-9]+-amd64-unsigned$",
            Self::Rt6_1 => r"^linux-image-6\.1\.0-[0-9]+-rt-amd64-unsigned$",
            Self::Stock6_12 => r"^linux-image-6\.12\.[0-9]+\+deb[0-9]+-amd64-unsigned$",
            Self::Rt6_12 => r"^linux-image-6\.12\.[0-9]+.*-rt-amd64-unsigned$",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stock6_1 => "6.1",
            Self::Rt6_1 => "6.1-rt",
            Self::Stock6_12 => "6.12",
            Self::Rt6_12 => "6.12-rt",
        }
    }
}

/// A machine that is tested: its kernel, what it is like, and the set of tests it runs, as `tests/src/guest/mod.rs`
/// names it.
struct Bench {
    kernel: Kernel,
    profile: Profile,
    set: &'static str,
    /// Which of other people's tools its tests run too.
    peers: Peers,
    /// Which module of `tests/offender` it has.
    offender: Option<&'static str>,
    /// Further kernel options.
    options: &'static str,
}

impl Bench {
    const fn new(kernel: Kernel, profile: Profile, set: &'static str) -> Self {
        Self {
            kernel,
            profile,
            set,
            peers: Peers::None,
            offender: None,
            options: "",
        }
    }

    const fn with_offender(self) -> Self {
        Self {
            offender: Some("smilat_offender"),
            ..self
        }
    }

    const fn with_mapper(self) -> Self {
        Self {
            offender: Some("smilat_mapper"),
            ..self
        }
    }

    /// Has the kernel keep the events of the IOMMU from boot on.
    const fn with_boot_trace(self) -> Self {
        Self {
            options: "trace_event=iommu:add_device_to_group,iommu:attach_device_to_domain",
            ..self
        }
    }

    const fn with_peers(self) -> Self {
        Self {
            peers: Peers::Detectors,
            ..self
        }
    }
}

const BENCHES: [Bench; 24] = [
    Bench::new(Kernel::Stock6_1, Profile::TwoCpus, "stock"),
    Bench::new(Kernel::Rt6_1, Profile::TwoCpus, "rt").with_peers(),
    Bench::new(Kernel::Rt6_1, Profile::Exact, "exact"),
    Bench::new(Kernel::Rt6_1, Profile::TwoCpus, "broadcast"),
    Bench::new(Kernel::Rt6_1, Profile::SmmOff, "smm-off"),
    Bench::new(Kernel::Rt6_1, Profile::Amd, "amd"),
    Bench::new(Kernel::Rt6_12, Profile::TwoCpus, "rt").with_peers(),
    Bench::new(Kernel::Rt6_12, Profile::Exact, "exact"),
    Bench::new(Kernel::Rt6_12, Profile::TwoCpus, "broadcast"),
    Bench::new(Kernel::Rt6_12, Profile::SmmOff, "smm-off"),
    Bench::new(Kernel::Rt6_12, Profile::Amd, "amd"),
    Bench::new(Kernel::Stock6_1, Profile::TwoCpus, "irqsoff").with_offender(),
    Bench::new(Kernel::Rt6_1, Profile::TwoCpus, "irqsoff").with_offender(),
    Bench::new(Kernel::Stock6_12, Profile::TwoCpus, "irqsoff").with_offender(),
    Bench::new(Kernel::Rt6_12, Profile::TwoCpus, "irqsoff").with_offender(),
    Bench::new(Kernel::Stock6_1, Profile::Exact, "irqsoff-exact").with_offender(),
    Bench::new(Kernel::Rt6_1, Profile::Exact, "irqsoff-exact").with_offender(),
    Bench::new(Kernel::Stock6_12, Profile::Exact, "irqsoff-exact").with_offender(),
    Bench::new(Kernel::Rt6_12, Profile::Exact, "irqsoff-exact").with_offender(),
    Bench::new(Kernel::Stock6_1, Profile::Iommu, "iommu").with_mapper(),
    Bench::new(Kernel::Rt6_1, Profile::Iommu, "iommu")
        .with_mapper()
        .with_boot_trace(),
    Bench::new(Kernel::Stock6_12, Profile::Iommu, "iommu")
        .with_mapper()
        .with_boot_trace(),
    Bench::new(Kernel::Rt6_12, Profile::Iommu, "iommu").with_mapper(),
    Bench::new(Kernel::Stock6_12, Profile::IommuPassthrough, "iommu-pt"),
];

/// What `cargo xtask bench` measures in virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measurement {
    /// What a map or unmap costs under each of those who watch. The machine's clock counts instructions: what a thread takes
    /// is the same each time, whatever the host does.
    Iommu,
    /// What it costs to have smilat or another tool run, on two CPUs.
    Watching,
    /// What memory smilat holds on 255 CPUs.
    Memory,
    /// How many SMIs detectors see, at rates up to a thousand in a second.
    Recall,
    /// What a busy machine loses to each of those who look for gaps, both CPUs at their real speed.
    Workload,
    /// What a gap of osnoise's costs under each of those who read them, in the same way.
    GapReaders,
    /// Instructions of a step of each detector.
    Steps,
    /// How often each detector's steps are longer than what.
    Floor,
}

impl Measurement {
    fn bench(self) -> Bench {
        match self {
            Self::Iommu => Bench {
                peers: Peers::TraceCmd,
                ..Bench::new(Kernel::Stock6_12, Profile::IommuExact, "iommu-cost").with_mapper()
            },
            Self::Watching => Bench {
                peers: Peers::Watchers,
                ..Bench::new(Kernel::Rt6_12, Profile::ExactTwo, "watching")
            },
            Self::Memory => Bench::new(Kernel::Rt6_12, Profile::Many, "memory"),
            Self::Recall => Bench::new(Kernel::Rt6_12, Profile::TwoCpus, "recall").with_peers(),
            Self::Workload => Bench {
                peers: Peers::DetectorsAndRedis,
                ..Bench::new(Kernel::Rt6_12, Profile::TwoCpus, "workload")
            },
            Self::GapReaders => Bench {
                peers: Peers::Perf,
                ..Bench::new(Kernel::Rt6_12, Profile::Slow, "gap-readers")
            },
            Self::Steps => Bench::new(Kernel::Rt6_12, Profile::Slow, "steps"),
            Self::Floor => Bench::new(Kernel::Rt6_12, Profile::TwoCpus, "floor"),
        }
    }
}

/// Carries out what was asked for.
pub(crate) fn carry_out(action: Action) -> Result<()> {
    match action {
        Action::Shell { kernel } => shell(kernel),
    }
}

fn shell(kernel: Kernel) -> Result<()> {
    ebpf::build()?;
    let programs = Programs::build()?;
    let qemu = Qemu::find()?;
    let files = packages::kernel(kernel.pattern(), &[])?;
    let dir = folder(&format!("{}-shell", kernel.name()));
    let initramfs = programs.initramfs(&files, &[], &dir)?;
    eprintln!("vm: Ctrl-A X ends this machine");
    Machine {
        qemu: &qemu,
        vmlinux: &files.vmlinux,
        initramfs: &initramfs,
        profile: Profile::TwoCpus,
        options: "smilat.shell".to_owned(),
        dir,
    }
    .attend()
}

/// What of the project's files is written anew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Update {
    /// `docs/accuracy.md`.
    pub(crate) docs: bool,
    /// What `smilat doctor` says of known machines.
    pub(crate) snapshots: bool,
}

/// What machines said besides verdicts.
#[derive(Default)]
struct Said {
    tables: Tables,
    snapshots: Snapshots,
    /// Lines for `cargo xtask bench`, without what they begin with.
    measured: Vec<String>,
}

/// Has a machine measure; the lines that it prints after `BENCH`.
pub(crate) fn measure(what: Measurement) -> Result<Vec<String>> {
    ebpf::build()?;
    let mut said = Said::default();
    let programs = Programs::build()?;
    run(&what.bench(), &programs, &Qemu::find()?, None, &mut said)?;
    Ok(said.measured)
}

/// Boots one machine after the other and has it run those tests whose name contains `only`. All that fails is told at
/// the end.
pub(crate) fn test(only: Option<&str>, kernel: Option<Kernel>, update: Update) -> Result<()> {
    let mut said = Said::default();
    let programs = Programs::build()?;
    let qemu = Qemu::find()?;
    let mut failures = Vec::new();
    let mut any = false;
    for bench in &BENCHES {
        if kernel.is_some_and(|kernel| kernel != bench.kernel) {
            continue;
        }
        let name = format!("{}/{}", bench.kernel.name(), bench.set);
        let began = Instant::now();
        match run(bench, &programs, &qemu, only, &mut said) {
            Ok(tally) => {
                println!(
                    "vm {name}: {tally} in {:.1} s",
                    began.elapsed().as_secs_f64()
                );
                any |= tally.is_pass();
            }
            Err(error) => {
                let failure = format!("{name}: {error:#}");
                println!("vm {failure}");
                failures.push(failure);
            }
        }
    }
    // A document of some of the machines, or of some of the detectors, would be half a document.
    let whole = failures.is_empty() && kernel.is_none();
    said.tables.write(update.docs && whole)?;
    // Each is one machine's, and a snapshot that differs is itself a failure.
    said.snapshots.write(update.snapshots)?;
    ensure!(
        failures.is_empty(),
        "failed in virtual machines:\n{}",
        failures.join("\n")
    );
    ensure!(
        whole || !update.docs,
        "docs/accuracy.md is as it was: it needs all machines"
    );
    ensure!(
        any,
        "no test in a virtual machine has \"{}\" in its file's name and its own (file::test)",
        only.unwrap_or_default()
    );
    Ok(())
}

fn run(
    bench: &Bench,
    programs: &Programs,
    qemu: &Qemu,
    only: Option<&str>,
    said: &mut Said,
) -> Result<Tally> {
    let name = bench.kernel.name();
    let mut files = packages::kernel(bench.kernel.pattern(), bench.profile.modules())?;
    if let Some(offender) = bench.offender {
        let offender = offender::module(offender, files.release()?)?;
        files.modules.push(offender);
    }
    let dir = folder(&format!("{name}-{}", bench.set));
    let peers = peers::trees(bench.peers)?;
    let initramfs = programs.initramfs(&files, &peers, &dir)?;
    let machine = Machine {
        qemu,
        vmlinux: &files.vmlinux,
        initramfs: &initramfs,
        profile: bench.profile,
        options: format!(
            "{} smilat.set={} smilat.tests={}",
            bench.options,
            bench.set,
            only.unwrap_or_default()
        ),
        dir,
    };
    let mut tally = Tally::default();
    let end = machine.run(LIMIT, |line| {
        said.tables.line(line);
        said.snapshots.line(line);
        said.measured
            .extend(line.strip_prefix("    BENCH ").map(str::to_owned));
        if tally.line(line) {
            println!("vm {name}/{}: {line}", bench.set);
        }
    })?;
    let why = match end {
        // What was asked for may be on other machines only.
        End::Passed if tally.is_pass() || only.is_some() && tally.is_empty() => return Ok(tally),
        End::Passed => "it says that it passed, and no test did".to_owned(),
        End::Failed => "tests failed".to_owned(),
        End::TimedOut(limit) => format!("not done after {} s", limit.as_secs()),
        End::Crashed { status, said } => {
            format!("it crashed or QEMU could not run: {status} {said}")
        }
    };
    let told: String = tally
        .failures()
        .into_iter()
        .flat_map(|failure| ["\n    ".to_owned(), failure])
        .collect();
    bail!(
        "{tally}: {why}; its console is in {}{told}",
        machine.console().display()
    )
}

fn folder(name: &str) -> PathBuf {
    sh::root().join(TARGET_DIR).join("machines").join(name)
}

/// What goes into every initramfs.
struct Programs {
    guest: PathBuf,
    smilat: PathBuf,
    busybox: PathBuf,
}

impl Programs {
    /// Builds smilat and the guest's init so that they need no libraries.
    fn build() -> Result<Self> {
        let dir = sh::root().join(TARGET_DIR);
        sh::run(
            sh::cargo()
                .args(["build", "--quiet", "--release", "--target", TARGET])
                .args(["--package", "smi-user", "--package", "tests"])
                .arg("--target-dir")
                .arg(&dir)
                // glibc's own static library: no other target has to be installed.
                .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
                // The initramfs stays in the guest's little memory.
                .env("CARGO_PROFILE_RELEASE_STRIP", "true"),
        )?;
        let built = dir.join(TARGET).join("release");
        Ok(Self {
            guest: built.join("guest"),
            smilat: built.join("smilat"),
            busybox: packages::busybox()?,
        })
    }

    /// Writes the initramfs for a kernel into `dir`, with the folders `trees` laid over each other in it.
    fn initramfs(&self, kernel: &KernelFiles, trees: &[PathBuf], dir: &Path) -> Result<PathBuf> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut initramfs = Initramfs::default();
        for folder in ["bin", "boot", "dev", "modules", "proc", "sys", "tmp"] {
            initramfs.folder(folder);
        }
        initramfs.file("init", &read(&self.guest)?);
        initramfs.file("bin/smilat", &read(&self.smilat)?);
        initramfs.file("bin/busybox", &read(&self.busybox)?);
        for (number, module) in kernel.modules.iter().enumerate() {
            let name = module
                .file_name()
                .and_then(|name| name.to_str())
                .context("a module without a name")?;
            // In the order of their names, they are loaded in this one.
            initramfs.file(&format!("modules/{number:02}-{name}"), &read(module)?);
        }
        // Where Debian has it.
        let config = kernel.config.file_name().and_then(|name| name.to_str());
        let config = config.context("a configuration without a name")?;
        initramfs.file(&format!("boot/{config}"), &read(&kernel.config)?);
        for tree in trees {
            initramfs.tree(tree)?;
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = dir.join("initramfs");
        fs::write(&file, initramfs.finish())
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}
