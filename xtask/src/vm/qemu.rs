//! Boots a machine and watches its console.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{host, packages::Qemu};

/// Statuses QEMU ends with when the guest writes 21 or 22 to the port of `isa-debug-exit`: twice that, plus one.
const PASSED: i32 = 21 * 2 + 1;
const FAILED: i32 = 22 * 2 + 1;

/// Kernel options every machine gets.
///
/// - `mitigations=off`: nothing is learnt from them here, and they cost the emulated CPU much.
/// - `tsc=reliable`: the kernel's check of the TSC against other clocks fails when the host is busy, and then it
///   leaves the TSC for good.
/// - `maxcpus=1`: booted with two CPUs, 6.12 was seen to die of a stray `int3` in `sched_clock_cpu`, a function it was
///   patching. Emulated CPUs may run code that was changed a moment ago, and the kernel patches itself most while it
///   boots. The guest's init turns the other CPU on.
/// - `memmap`: keeps the kernel out of the page that holds CPU 1's SMM handler (`tests/src/guest/smi.rs`).
/// - `iomem=relaxed`: lets `/dev/mem` map that page and the local APIC.
const KERNEL_OPTIONS: &str = "console=ttyS0 quiet nokaslr mitigations=off tsc=reliable maxcpus=1 \
     memmap=64K$0x30000 iomem=relaxed panic=-1 SMILAT=/bin/smilat PATH=/bin";

/// What kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// Two CPUs that run as fast as the host lets them: gaps of the host's making are among the guest's.
    TwoCpus,
    /// One CPU whose clock counts its instructions: no gap but what the guest makes itself.
    Exact,
    /// As [`Profile::Exact`], but that each instruction takes 64 ns: 32 are more than 2 us, and no step of a tracer takes fewer.
    Slow,
    /// As [`Profile::TwoCpus`], with a firmware that has nothing to do with SMIs: it installs no handler, and its tables
    /// name no port that raises any.
    SmmOff,
    /// As [`Profile::TwoCpus`], with CPUs of AMD's.
    Amd,
    /// Two CPUs that run in turns, without SMIs, and an IOMMU with devices behind it, which translates for all of them
    /// and drops each translation when it is unmapped.
    ///
    /// In turns, because programs are attached to functions there, for which the kernel patches its code.
    Iommu,
    /// As [`Profile::Iommu`], but that the IOMMU passes all accesses on as they are.
    IommuPassthrough,
    /// As [`Profile::Iommu`], but with the one CPU of [`Profile::Exact`].
    IommuExact,
    /// Two CPUs whose clock counts instructions, whichever of them runs them.
    ExactTwo,
    /// 255 CPUs, as fast as the host can be all of them.
    Many,
}

/// Modules for what [`Profile::Iommu`] has, and to give devices to user space.
pub(super) const IOMMU_MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "nvme",
    "e1000",
    "vfio",
    "vfio_pci",
    "vfio_iommu_type1",
];

/// Disks of [`Profile::Iommu`]: files in the machine's folder, of this size.
const DISKS: [&str; 2] = ["virtio.img", "nvme.img"];
const DISK_BYTES: u64 = 128 << 20;

/// Devices of [`Profile::Iommu`], in slots that tests know them by (`tests/src/guest/iommu_machine.rs`). Two network cards
/// on one wire; one of them shares its group with another device, below a bridge that cannot tell them apart. QEMU's `edu`
/// accesses any address that it is told to.
const IOMMU_DEVICES: [&str; 26] = [
    "-device",
    "intel-iommu,intremap=off",
    "-drive",
    "file=virtio.img,format=raw,if=none,id=virtio",
    "-device",
    "virtio-blk-pci,drive=virtio,addr=3,disable-legacy=on,disable-modern=off,iommu_platform=on,ats=off",
    "-drive",
    "file=nvme.img,format=raw,if=none,id=nvme",
    "-device",
    "nvme,drive=nvme,serial=smilat,addr=4,romfile=",
    "-netdev",
    "hubport,id=net0,hubid=0",
    "-device",
    "virtio-net-pci,netdev=net0,addr=5,romfile=,disable-legacy=on,disable-modern=off,iommu_platform=on,ats=off",
    "-device",
    "edu,addr=6",
    "-device",
    "pcie-root-port,id=root1,addr=7,chassis=1",
    "-device",
    "pcie-pci-bridge,id=bridge,bus=root1",
    "-netdev",
    "hubport,id=net1,hubid=0",
    "-device",
    "e1000,netdev=net1,bus=bridge,addr=1,romfile=",
    "-device",
    "pci-testdev,bus=bridge,addr=2",
];

impl Profile {
    fn machine(self) -> &'static str {
        match self {
            Self::TwoCpus | Self::Exact | Self::Slow | Self::ExactTwo | Self::Many | Self::Amd => {
                "q35,smm=on"
            }
            Self::SmmOff | Self::Iommu | Self::IommuPassthrough | Self::IommuExact => "q35,smm=off",
        }
    }

    fn cpu(self) -> &'static str {
        match self {
            Self::TwoCpus
            | Self::Exact
            | Self::Slow
            | Self::SmmOff
            | Self::Iommu
            | Self::IommuPassthrough
            | Self::IommuExact
            | Self::ExactTwo
            | Self::Many => "Skylake-Client",
            Self::Amd => "EPYC",
        }
    }

    fn cpus_and_clock(self) -> &'static [&'static str] {
        match self {
            Self::TwoCpus | Self::SmmOff | Self::Amd => {
                &["-smp", "2", "-accel", "tcg,thread=multi"]
            }
            Self::Many => &["-smp", "255", "-accel", "tcg,thread=multi"],
            Self::Iommu | Self::IommuPassthrough => &["-smp", "2", "-accel", "tcg,thread=single"],
            Self::Exact | Self::IommuExact => &[
                "-smp",
                "1",
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=2,sleep=off",
            ],
            Self::Slow => &[
                "-smp",
                "1",
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=6,sleep=off",
            ],
            Self::ExactTwo => &[
                "-smp",
                "2",
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=2,sleep=off",
            ],
        }
    }
}

impl Profile {
    fn has_iommu(self) -> bool {
        matches!(
            self,
            Self::Iommu | Self::IommuPassthrough | Self::IommuExact
        )
    }

    fn mebibytes(self) -> &'static str {
        match self {
            Self::Many => "2048",
            _ if self.has_iommu() => "512",
            _ => "256",
        }
    }

    fn devices(self) -> &'static [&'static str] {
        if self.has_iommu() {
            &IOMMU_DEVICES
        } else {
            &[]
        }
    }

    /// Modules it needs besides those of every machine.
    pub(super) fn modules(self) -> &'static [&'static str] {
        if self.has_iommu() {
            &IOMMU_MODULES
        } else {
            &[]
        }
    }

    fn disks(self) -> &'static [&'static str] {
        if self.has_iommu() { &DISKS } else { &[] }
    }

    fn kernel_options(self) -> &'static str {
        match self {
            Self::Iommu | Self::IommuExact => "intel_iommu=on iommu.passthrough=0 iommu.strict=1",
            Self::IommuPassthrough => "intel_iommu=on iommu.passthrough=1",
            Self::TwoCpus
            | Self::Exact
            | Self::Slow
            | Self::ExactTwo
            | Self::Many
            | Self::SmmOff
            | Self::Amd => "",
        }
    }
}

/// One machine, ready to boot.
pub(super) struct Machine<'a> {
    pub(super) qemu: &'a Qemu,
    pub(super) vmlinux: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) profile: Profile,
    /// Further kernel options.
    pub(super) options: String,
    /// Where its console and its control socket are kept.
    pub(super) dir: PathBuf,
}

/// How a machine ended.
pub(super) enum End {
    /// The guest said that all is well.
    Passed,
    /// The guest said that something failed.
    Failed,
    /// It was taken down after this time.
    TimedOut(Duration),
    /// Neither: QEMU could not start, or the guest died.
    Crashed {
        status: ExitStatus,
        /// What QEMU complained about.
        said: String,
    },
}

impl Machine<'_> {
    /// Where the console is kept.
    pub(super) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    fn complaints(&self) -> PathBuf {
        self.dir.join("qemu.log")
    }

    fn command(&self, serial: &str) -> Result<Command> {
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("cannot make {}", self.dir.display()))?;
        for disk in self.profile.disks() {
            let file = self.dir.join(disk);
            File::create(&file)
                .and_then(|file| file.set_len(DISK_BYTES))
                .with_context(|| format!("cannot make {}", file.display()))?;
        }
        let own = self.profile.kernel_options();
        let options = format!("{KERNEL_OPTIONS} {own} {}", self.options);
        let mut command = self.qemu.command();
        command
            .current_dir(&self.dir)
            .args(["-M", self.profile.machine(), "-cpu", self.profile.cpu()])
            .args(["-m", self.profile.mebibytes()])
            .args(self.profile.cpus_and_clock())
            .args(["-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-nic", "none", "-serial", serial])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .args(self.profile.devices())
            // By its name alone: the path of a socket has room for 107 bytes only.
            .args(["-qmp", "unix:qmp.sock,server=on,wait=off"])
            .arg("-kernel")
            .arg(self.vmlinux)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &options]);
        Ok(command)
    }

    /// Gives people its console; Ctrl-A X ends it.
    pub(super) fn attend(&self) -> Result<()> {
        let status = self
            .command("mon:stdio")?
            .status()
            .context("cannot run QEMU")?;
        match status.code() {
            Some(0 | PASSED) => Ok(()),
            _ => bail!("QEMU failed: {status}"),
        }
    }

    /// Boots it and passes each line of its console to `line`, until it ends or `limit` has passed. Does what the lines
    /// ask of the host.
    pub(super) fn run(&self, limit: Duration, mut line: impl FnMut(&str)) -> Result<End> {
        let mut console = {
            let mut command = self.command("stdio")?;
            end_with_this(&mut command);
            let qemu = Running(
                command
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    // A page of warnings about what the emulated CPU lacks; worth reading only when it fails.
                    .stderr(File::create(self.complaints())?)
                    .spawn()
                    .context("cannot run QEMU")?,
            );
            Console::of(qemu)?
        };
        let file = self.console();
        let mut kept =
            File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
        let deadline = Instant::now() + limit;
        loop {
            match console.next(deadline) {
                Ok(text) => {
                    writeln!(kept, "{text}")?;
                    line(&text);
                    host::serve(&text, &console.qemu.0, &mut console.input)?;
                }
                Err(RecvTimeoutError::Timeout) => return Ok(End::TimedOut(limit)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = console.qemu.0.wait()?;
        Ok(match status.code() {
            Some(PASSED) => End::Passed,
            Some(FAILED) => End::Failed,
            _ => End::Crashed {
                status,
                said: fs::read_to_string(self.complaints())
                    .unwrap_or_default()
                    .lines()
                    .filter(|line| !line.contains("warning: TCG doesn't support"))
                    .collect::<Vec<_>>()
                    .join("; "),
            },
        })
    }
}

/// Has the command be killed when this process ends, however that comes: one that is just stopped could not end by
/// itself.
fn end_with_this(command: &mut Command) {
    // SAFETY: only a system call between fork and exec.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        );
    }
}

/// A QEMU that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing more to do than to reap it.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The lines of a console, read by a thread so that waiting for one can be given up, and what is typed there.
struct Console {
    qemu: Running,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Console {
    fn of(mut qemu: Running) -> Result<Self> {
        let output = qemu.0.stdout.take().context("QEMU has no output")?;
        let input = qemu.0.stdin.take().context("QEMU has no input")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while output
                .read_until(b'\n', &mut bytes)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&bytes);
                if sender.send(text.trim_end().to_owned()).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        Ok(Self { qemu, input, lines })
    }

    fn next(&mut self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        self.lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }
}
