//! What the machine is made of: Debian's packages, downloaded and unpacked into the cache. Nothing is installed.

use std::{
    ffi::OsString,
    fs, iter,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::image;
use crate::sh;

/// Oldest QEMU these machines were tried with.
const QEMU_MAJOR: u32 = 7;

/// Modules the guest loads. A kernel in the cache that lacks one, or its configuration, is unpacked again.
const MODULES: [&str; 1] = ["msr"];

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
    /// Modules for the guest, uncompressed.
    pub(super) modules: Vec<PathBuf>,
    /// The options it was built with; the name, `config-` and its release, is that of the file in the package's `/boot`.
    pub(super) config: PathBuf,
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

/// The newest kernel package whose name matches `pattern`, ready to boot.
pub(super) fn kernel(pattern: &str) -> Result<KernelFiles> {
    let package = newest(pattern)?;
    let dir = cache()?.join("kernels").join(&package);
    let modules: Vec<PathBuf> = MODULES
        .iter()
        .map(|module| dir.join(format!("{module}.ko")))
        .collect();
    let has_all = || modules.iter().all(|module| module.is_file()) && find(&dir, CONFIG).is_ok();
    if dir.is_dir() && !has_all() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    once(&dir, |dir| unpack_kernel(&package, dir))?;
    Ok(KernelFiles {
        vmlinux: dir.join("vmlinux"),
        config: find(&dir, CONFIG)?,
        modules,
    })
}

/// How the name of a kernel's configuration begins.
const CONFIG: &str = "config-";

/// The file below `dir` whose name begins with `start`.
fn find(dir: &Path, start: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    walk(dir, &mut found)?;
    found
        .into_iter()
        .find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(start))
        })
        .with_context(|| format!("{} holds no {start}", dir.display()))
}

fn unpack_kernel(package: &str, dir: &Path) -> Result<()> {
    let debs = download(&[package.to_owned()], dir)?;
    let deb = debs.first().context("nothing was downloaded")?;
    let mut wanted = vec!["./boot/vmlinuz-*".to_owned(), format!("./boot/{CONFIG}*")];
    wanted.extend(MODULES.iter().map(|module| format!("*/{module}.ko*")));
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
    for module in MODULES {
        let file = format!("{module}.ko");
        let packed = fs::read(path_of(&file)?)?;
        let plain = image::decompress(&packed).with_context(|| format!("{file} of {package}"))?;
        fs::write(dir.join(file), plain)?;
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

/// Makes `dir` by `make`, unless it is there. `make` works in a folder beside it, so that what was begun and not
/// finished is never taken for the whole.
pub(super) fn once(dir: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let begun = dir.with_added_extension(format!("begun-{}", process::id()));
    fs::create_dir_all(&begun).with_context(|| format!("cannot make {}", begun.display()))?;
    let made = make(&begun);
    if made.is_err() {
        // What went wrong is worth more than that the rest could not be removed.
        let _removed = fs::remove_dir_all(&begun);
    }
    made?;
    match fs::rename(&begun, dir) {
        // Another checkout, which shares the cache, was faster.
        Err(_) if dir.is_dir() => {
            fs::remove_dir_all(&begun).with_context(|| format!("cannot remove {}", begun.display()))
        }
        renamed => renamed.with_context(|| format!("cannot make {}", dir.display())),
    }
}

/// The newest package whose name matches `pattern`. Versions come and go on the mirrors, so none is fixed here.
pub(super) fn newest(pattern: &str) -> Result<String> {
    need_apt()?;
    let search = || -> Result<Option<String>> {
        let found = sh::read(Command::new("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(found
            .lines()
            .filter_map(|line| line.split(' ').next())
            .max_by_key(|name| numbers(name))
            .map(str::to_owned))
    };
    if let Some(package) = search()? {
        return Ok(package);
    }
    update()?;
    search()?.with_context(|| format!("no Debian package matches {pattern}"))
}

/// The version of a package that would be downloaded.
pub(super) fn version(package: &str) -> Result<String> {
    need_apt()?;
    let show = || sh::read(Command::new("apt-cache").args(["show", "--no-all-versions", package]));
    let shown = if let Ok(shown) = show() {
        shown
    } else {
        update()?;
        show()?
    };
    shown
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .map(str::to_owned)
        .with_context(|| format!("apt-cache names no version of {package}:\n{shown}"))
}

/// The numbers in a package's name, by which versions compare.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// What apt would install for `package` and is not there yet.
fn to_install(package: &str) -> Result<Vec<String>> {
    need_apt()?;
    let simulate = || {
        sh::read(Command::new("apt-get").args([
            "--simulate",
            "install",
            "--no-install-recommends",
            package,
        ]))
    };
    let plan = if let Ok(plan) = simulate() {
        plan
    } else {
        update()?;
        simulate()?
    };
    let packages: Vec<String> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    // It may be installed, but too old for `PATH` to have been enough.
    ensure!(
        packages.iter().any(|planned| planned == package),
        "{package} is installed, yet there is no usable QEMU on PATH"
    );
    Ok(packages)
}

/// Unpacks packages into `root`.
pub(super) fn unpack(packages: &[String], root: &Path) -> Result<()> {
    for deb in download(packages, root)? {
        sh::run(Command::new("dpkg").arg("-x").arg(&deb).arg(root))?;
        fs::remove_file(deb)?;
    }
    Ok(())
}

/// Downloads packages into `dir`; returns the files.
pub(super) fn download(packages: &[String], dir: &Path) -> Result<Vec<PathBuf>> {
    eprintln!("setup: downloading {}", packages.join(" "));
    let fetch = || {
        sh::run(
            Command::new("apt-get")
                .current_dir(dir)
                // Root's home is closed to the user that apt downloads as.
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                .args(packages)
                .stdout(Stdio::null()),
        )
    };
    if fetch().is_err() {
        // Lists that are out of date name files which the mirror no longer has.
        update()?;
        fetch()?;
    }
    let mut debs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            debs.push(path);
        }
    }
    ensure!(
        debs.len() == packages.len(),
        "{} packages were asked for, {} came",
        packages.len(),
        debs.len()
    );
    Ok(debs)
}

/// Extracts the files of a package that match `wanted` into `dir`.
pub(super) fn extract(deb: &Path, dir: &Path, wanted: &[String]) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut dpkg = Command::new("dpkg")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg")?;
    let tarfile = dpkg.stdout.take().context("dpkg has no output")?;
    let unpacked = sh::run(
        Command::new("tar")
            .args(["-x", "--wildcards", "-C"])
            .arg(dir)
            .args(wanted)
            .stdin(tarfile),
    );
    let status = dpkg.wait()?;
    unpacked?;
    ensure!(status.success(), "dpkg --fsys-tarfile failed: {status}");
    Ok(())
}

/// Adds all files under `dir` to `found`.
pub(super) fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.extend(iter::once(entry.path()));
        }
    }
    Ok(())
}

fn update() -> Result<()> {
    eprintln!("setup: apt-get update");
    sh::run(sh::as_root("apt-get")?.args(["-qq", "update"]))
}

fn need_apt() -> Result<()> {
    if sh::find("apt-get").is_none() {
        bail!(
            "the virtual machine is put together from Debian packages, and there is no apt-get here"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let newest =
            |names: &[&'static str]| names.iter().copied().max_by_key(|name| numbers(name));
        assert_eq!(
            newest(&[
                "linux-image-6.1.0-9-rt-amd64",
                "linux-image-6.1.0-56-rt-amd64"
            ]),
            Some("linux-image-6.1.0-56-rt-amd64")
        );
        assert_eq!(
            newest(&[
                "linux-image-6.12.9+deb12-rt-amd64",
                "linux-image-6.12.117+deb12-rt-amd64"
            ]),
            Some("linux-image-6.12.117+deb12-rt-amd64")
        );
    }

    #[test]
    fn what_was_not_finished_is_not_kept() {
        let dir = std::env::temp_dir().join(format!("smilat-once-{}", process::id()));
        let begun = once(&dir, |begun| {
            fs::write(begun.join("half"), "")?;
            bail!("stopped")
        });
        assert!(begun.is_err());
        assert!(!dir.exists());
        once(&dir, |begun| Ok(fs::write(begun.join("whole"), "")?)).expect("made");
        once(&dir, |_| bail!("made twice")).expect("made once");
        assert!(dir.join("whole").is_file());
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn what_others_made_meanwhile_is_taken() {
        let dir = std::env::temp_dir().join(format!("smilat-twice-{}", process::id()));
        once(&dir, |begun| {
            fs::write(begun.join("slow"), "")?;
            fs::create_dir(&dir)?;
            Ok(fs::write(dir.join("fast"), "")?)
        })
        .expect("made twice");
        assert!(dir.join("fast").is_file());
        assert!(
            !dir.with_added_extension(format!("begun-{}", process::id()))
                .exists()
        );
        fs::remove_dir_all(&dir).expect("removed");
    }
}
