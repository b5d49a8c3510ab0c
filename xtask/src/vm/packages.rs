//! What the machine is made of: Debian's packages, downloaded and unpacked into the cache. Nothing is installed.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{image, modules, qemu};
use crate::{
    packages::{download, extract, find, newest, once, to_install, unpack, walk},
    sh,
};

/// Oldest QEMU these machines were tried with.
const QEMU_MAJOR: u32 = 7;

/// Modules that every guest loads.
const MODULES: [&str; 1] = ["msr"];

/// What is kept of a kernel, beside the kernel and its configuration.
const KEPT_MODULES: &str = "modules";
const BUILT_IN: &str = "modules.builtin";

/// QEMU, wherever it came from.
pub(super) struct Qemu {
    program: PathBuf,
    /// Where its packages were unpacked, if they were.
    root: Option<PathBuf>,
}

/// A kernel, ready to boot.
pub(super) struct KernelFiles {
    /// Uncompressed kernel.
    pub(super) vmlinux: PathBuf,
    /// Modules for the guest, uncompressed, in the order in which they load.
    pub(super) modules: Vec<PathBuf>,
    /// The options it was built with; the name, `config-` and its release, is that of the file in the package's `/boot`.
    pub(super) config: PathBuf,
}

impl KernelFiles {
    /// What `uname -r` says of it.
    pub(super) fn release(&self) -> Result<&str> {
        self.config
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix(CONFIG))
            .context("a configuration without a release")
    }
}

impl Qemu {
    /// The system's QEMU if it is new enough, that of Debian's packages otherwise.
    ///
    /// The packages are not installed because Debian's `qemu-system-x86` and a backported `qemu-utils` exclude each
    /// other: installing the one would remove the other.
    pub(super) fn find() -> Result<Self> {
        if let Some(program) = sh::find("qemu-system-x86_64") {
            let system = Self {
                program,
                root: None,
            };
            if system.major()? >= QEMU_MAJOR {
                return Ok(system);
            }
        }
        let root = cache()?.join("qemu");
        once(&root, |root| {
            let mut packages = to_install("qemu-system-x86")?;
            // A C library beside the dynamic linker of another one does not work; the system's is new enough.
            packages.retain(|package| package != "libc6");
            unpack(&packages, root)?;
            Self::unpacked(root).major().map(drop)
        })?;
        Ok(Self::unpacked(&root))
    }

    fn unpacked(root: &Path) -> Self {
        Self {
            program: root.join("usr/bin/qemu-system-x86_64"),
            root: Some(root.to_owned()),
        }
    }

    /// QEMU, to be given its arguments.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            let libraries =
                ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| root.join(dir));
            let mut path = OsString::new();
            for dir in libraries
                .iter()
                .map(|dir| dir.as_os_str().to_owned())
                .chain(std::env::var_os("LD_LIBRARY_PATH"))
            {
                if !path.is_empty() {
                    path.push(":");
                }
                path.push(dir);
            }
            command.env("LD_LIBRARY_PATH", path).env(
                "QEMU_MODULE_DIR",
                root.join("usr/lib/x86_64-linux-gnu/qemu"),
            );
            for firmware in ["usr/share/seabios", "usr/share/qemu"] {
                command.arg("-L").arg(root.join(firmware));
            }
        }
        command
    }

    /// First number of the version. Fails when a library is missing, too.
    fn major(&self) -> Result<u32> {
        let text = sh::read(self.command().arg("--version"))?;
        text.split_whitespace()
            .skip_while(|word| *word != "version")
            .nth(1)
            .and_then(|version| version.split('.').next()?.parse().ok())
            .with_context(|| format!("{} names no version: {text}", self.program.display()))
    }
}

/// The newest kernel package whose name matches `pattern`, ready to boot, with the modules `further` besides those that
/// every guest has.
pub(super) fn kernel(pattern: &str, further: &[&str]) -> Result<KernelFiles> {
    let package = newest(pattern)?;
    let dir = cache()?.join("kernels").join(&package);
    let has_all = || find(&dir, CONFIG).is_ok() && kept(&dir, &all_modules()).is_ok();
    if dir.is_dir() && !has_all() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    once(&dir, |dir| unpack_kernel(&package, dir))?;
    Ok(KernelFiles {
        vmlinux: dir.join("vmlinux"),
        config: find(&dir, CONFIG)?,
        modules: kept(&dir, &[&MODULES, further].concat())?,
    })
}

/// Modules of any machine. A kernel in the cache that lacks one, or its configuration, is unpacked again.
fn all_modules() -> Vec<&'static str> {
    [&MODULES[..], &qemu::IOMMU_MODULES].concat()
}

/// Those of `wanted` that are modules of the kernel unpacked in `dir`, and what they need, in the order in which they load.
fn kept(dir: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let built_in = modules::built_in(&dir.join(BUILT_IN))?;
    let file = |module: &str| dir.join(KEPT_MODULES).join(format!("{module}.ko"));
    let order = modules::in_order(wanted, &built_in, |module| {
        let file = file(module);
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
    })?;
    Ok(order.into_iter().map(|(module, _)| file(&module)).collect())
}

/// How the name of a kernel's configuration begins.
const CONFIG: &str = "config-";

fn unpack_kernel(package: &str, dir: &Path) -> Result<()> {
    let debs = download(&[package.to_owned()], dir)?;
    let deb = debs.first().context("nothing was downloaded")?;
    let wanted = [
        "./boot/vmlinuz-*".to_owned(),
        format!("./boot/{CONFIG}*"),
        "*.ko*".to_owned(),
        format!("*/{BUILT_IN}"),
    ];
    let tree = dir.join("tree");
    extract(deb, &tree, &wanted)?;
    let path_of = |start: &str| find(&tree, start).with_context(|| format!("in {package}"));
    let config = path_of(CONFIG)?;
    fs::copy(
        &config,
        dir.join(
            config
                .file_name()
                .context("a configuration without a name")?,
        ),
    )?;
    let bzimage = fs::read(path_of("vmlinuz-")?)?;
    let vmlinux = image::vmlinux(&bzimage).with_context(|| format!("the kernel of {package}"))?;
    fs::write(dir.join("vmlinux"), vmlinux)?;
    let built_in = path_of(BUILT_IN)?;
    fs::copy(&built_in, dir.join(BUILT_IN))?;
    let mut files = Vec::new();
    walk(&tree, &mut files)?;
    let order = modules::in_order(&all_modules(), &modules::built_in(&built_in)?, |module| {
        let file = files
            .iter()
            .find(|file| modules::name(file).as_deref() == Some(module))
            .with_context(|| format!("{package} has no module {module}"))?;
        image::decompress(&fs::read(file)?)
            .with_context(|| format!("{} of {package}", file.display()))
    })?;
    fs::create_dir(dir.join(KEPT_MODULES))?;
    for (module, plain) in order {
        fs::write(dir.join(KEPT_MODULES).join(format!("{module}.ko")), plain)?;
    }
    fs::remove_dir_all(&tree)?;
    fs::remove_file(deb)?;
    Ok(())
}

/// A static busybox.
pub(super) fn busybox() -> Result<PathBuf> {
    let root = cache()?.join("busybox");
    once(&root, |root| unpack(&["busybox-static".to_owned()], root))?;
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|file| root.join(file))
        .find(|file| file.is_file())
        .with_context(|| format!("no busybox in {}", root.display()))
}

/// Where all of this is kept.
pub(super) fn cache() -> Result<PathBuf> {
    Ok(sh::cache()?.join("vm"))
}
