//! Other people's tools, to be run beside smilat: rtla from Debian's kernel source, whose own package is older than its
//! `hwnoise`, hwlatdetect with as much of Python as it needs, trace-cmd, turbostat. Each is kept in the cache as a tree that goes
//! into an initramfs as it is.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{TARGET_DIR, packages::cache};
use crate::{packages, sh};

/// The one series whose rtla is known to be made of these source files and nothing else.
const SOURCE_PACKAGE: &str = "linux-source-6.12";
const RTLA_SOURCE: &str = "tools/tracing/rtla/src";
const RTLA_LIBRARIES: [&str; 2] = ["libtracefs-dev", "libtraceevent-dev"];

const PYTHON_PACKAGE: &str = r"^python3\.[0-9]+-minimal$";
/// What a minimal Python is linked with.
const PYTHON_LIBRARIES: [&str; 3] = ["libc6", "libexpat1", "zlib1g"];
const HWLATDETECT: &str = "usr/sbin/hwlatdetect";

const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where Debian's libraries are, or were before `/lib` became a link.
const LIBRARY_DIRS: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Lists the files of the modules that a script imports, `argparse` among them, which hwlatdetect imports late.
/// Modules that are built into the interpreter have no file. `os.py` is built in too, but by its file Python finds
/// where its library is.
const LIST_MODULES: &str = "
import argparse, os, sys
exec(open(sys.argv[1]).read(), {'__name__': 'imported'})
origins = {module.__spec__.origin for module in sys.modules.values() if module.__spec__}
print(os.__file__, *sorted(filter(os.path.isabs, filter(None, origins))), sep='\\n')
";

const TRACE_CMD: &str = "usr/bin/trace-cmd";
const TRACE_CMD_PACKAGES: [&str; 5] = [
    "trace-cmd",
    "libtraceevent1",
    "libtracefs1",
    "libzstd1",
    "libc6",
];

const TURBOSTAT: &str = "usr/sbin/turbostat";
const TURBOSTAT_PACKAGES: [&str; 3] = ["linux-cpupower", "libcap2", "libc6"];
/// The server, by the name of its checker, which is the same program, and the benchmark (`tests/src/busy.rs`).
const REDIS: [&str; 2] = ["usr/bin/redis-check-rdb", "usr/bin/redis-benchmark"];
const PERF: &str = "usr/bin/perf";
const PERF_PACKAGE: &str = "linux-perf";

/// Which of them a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peers {
    /// None.
    None,
    /// Those that find gaps.
    Detectors,
    /// trace-cmd.
    TraceCmd,
    /// Those that find gaps, and turbostat, which counts SMIs.
    Watchers,
    /// Those that find gaps, and redis to keep the machine busy.
    DetectorsAndRedis,
    /// perf.
    Perf,
}

/// The trees with the tools, made first where they are missing.
pub(super) fn trees(peers: Peers) -> Result<Vec<PathBuf>> {
    Ok(match peers {
        Peers::None => Vec::new(),
        Peers::Detectors => vec![rtla()?, hwlatdetect()?],
        Peers::TraceCmd => vec![program(TRACE_CMD, &TRACE_CMD_PACKAGES)?],
        Peers::Watchers => vec![
            rtla()?,
            hwlatdetect()?,
            program(TURBOSTAT, &TURBOSTAT_PACKAGES)?,
        ],
        Peers::DetectorsAndRedis => vec![rtla()?, hwlatdetect()?, redis()?],
        Peers::Perf => vec![perf()?],
    })
}

/// The tree with `/usr/bin/perf`, which is linked with libraries of two dozen packages, whose names change with each Debian.
fn perf() -> Result<PathBuf> {
    let packages = packages::with_libraries(PERF_PACKAGE)?;
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    program(PERF, &packages)
}

/// Version of the perf that machines get.
pub(crate) fn perf_version() -> Result<String> {
    packages::version(PERF_PACKAGE)
}

/// Version of the turbostat that machines get.
pub(crate) fn turbostat_version() -> Result<String> {
    packages::version(TURBOSTAT_PACKAGES[0])
}

/// The tree with the program at `place` and the libraries it is linked with, out of `packages`.
fn program(place: &str, packages: &[&str]) -> Result<PathBuf> {
    let name = place.rsplit('/').next().unwrap_or(place);
    let tree = cache()?.join(name);
    packages::once(&tree, |tree| {
        let work = tree.join("work");
        let root = work.join("root");
        fs::create_dir_all(&root)?;
        let packages: Vec<String> = packages.iter().map(|&package| package.to_owned()).collect();
        packages::unpack(&packages, &root)?;
        let unpacked = Unpacked {
            program: root.join(place),
            root: root.clone(),
        };
        copy(&unpacked.program, &tree.join(place))?;
        unpacked.copy_libraries_into(tree)?;
        Ok(fs::remove_dir_all(work)?)
    })?;
    Ok(tree)
}

/// The tree with redis, the very one that is installed on this machine.
fn redis() -> Result<PathBuf> {
    let tree = sh::root().join(TARGET_DIR).join("redis");
    if tree.is_dir() {
        fs::remove_dir_all(&tree)?;
    }
    for program in REDIS {
        let installed = Unpacked {
            root: PathBuf::from("/"),
            program: Path::new("/").join(program),
        };
        copy(&installed.program, &tree.join(program))?;
        installed.copy_libraries_into(&tree)?;
    }
    Ok(tree)
}

/// The tree with a static `/usr/bin/rtla`. A newer kernel source in the package lists makes it anew.
fn rtla() -> Result<PathBuf> {
    let version = packages::version(SOURCE_PACKAGE)?;
    let tree = cache()?.join(format!("rtla-{version}"));
    packages::once(&tree, |tree| {
        let work = tree.join("work");
        let source = unpack_rtla(&work)?;
        let program = tree.join("usr/bin/rtla");
        fs::create_dir_all(tree.join("usr/bin"))?;
        compile_rtla(&source, &version, &work, &program)?;
        Ok(fs::remove_dir_all(work)?)
    })?;
    Ok(tree)
}

/// The folder of rtla's source, with the libraries unpacked into `work`.
fn unpack_rtla(work: &Path) -> Result<PathBuf> {
    fs::create_dir_all(work)?;
    packages::unpack(&RTLA_LIBRARIES.map(str::to_owned), work)?;
    let debs = packages::download(&[SOURCE_PACKAGE.to_owned()], work)?;
    let deb = debs.first().context("nothing was downloaded")?;
    eprintln!("setup: taking rtla out of {SOURCE_PACKAGE} (half a minute, once)");
    let archive = format!("usr/src/{SOURCE_PACKAGE}.tar.xz");
    packages::extract(deb, work, &[format!("./{archive}")])?;
    fs::remove_file(deb)?;
    sh::run(
        Command::new("tar")
            .arg("-xf")
            .arg(work.join(archive))
            .arg("-C")
            .arg(work)
            .args(["--wildcards", &format!("*/{RTLA_SOURCE}/*")]),
    )?;
    Ok(work.join(SOURCE_PACKAGE).join(RTLA_SOURCE))
}

/// Compiles rtla by hand: its Makefile probes for what is known to be there, by the whole build system of the kernel.
fn compile_rtla(source: &Path, version: &str, work: &Path, program: &Path) -> Result<()> {
    let mut files = Vec::new();
    packages::walk(source, &mut files)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-s"])
        .arg(format!("-DVERSION=\"{version}\""))
        .args(&files)
        .arg("-o")
        .arg(program);
    for headers in ["traceevent", "tracefs"] {
        cc.arg("-I").arg(work.join("usr/include").join(headers));
    }
    for libraries in LIBRARY_DIRS {
        cc.arg("-L").arg(work.join(libraries));
    }
    cc.args(["-ltracefs", "-ltraceevent"]);
    // Its warnings, of `dlopen` in a static program for one, are nobody's business here.
    let built = cc.output().context("cannot run cc")?;
    ensure!(
        built.status.success(),
        "rtla cannot be compiled:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(())
}

/// The tree with `/usr/sbin/hwlatdetect` and what runs it.
fn hwlatdetect() -> Result<PathBuf> {
    let tree = cache()?.join("hwlatdetect");
    packages::once(&tree, |tree| {
        let work = tree.join("work");
        let root = work.join("root");
        let minimal = packages::newest(PYTHON_PACKAGE)?;
        let python = minimal.trim_end_matches("-minimal");
        let mut wanted = vec![
            "rt-tests".to_owned(),
            format!("lib{python}-minimal"),
            format!("lib{python}-stdlib"),
            minimal.clone(),
        ];
        wanted.extend(PYTHON_LIBRARIES.map(str::to_owned));
        fs::create_dir_all(&root)?;
        packages::unpack(&wanted, &root)?;
        let python = Unpacked {
            program: root.join("usr/bin").join(python),
            root: root.clone(),
        };
        python.copy_into(tree)?;
        Ok(fs::remove_dir_all(work)?)
    })?;
    Ok(tree)
}

/// A program in a folder that its packages were unpacked into.
struct Unpacked {
    root: PathBuf,
    program: PathBuf,
}

impl Unpacked {
    /// Copies what hwlatdetect needs to where a guest looks for it.
    fn copy_into(&self, tree: &Path) -> Result<()> {
        copy(&self.root.join(HWLATDETECT), &tree.join(HWLATDETECT))?;
        // The name by which the script asks for it.
        copy(&self.program, &tree.join("usr/bin/python3"))?;
        self.copy_libraries_into(tree)?;
        for module in self.modules()? {
            let place = module
                .strip_prefix(&self.root)
                .with_context(|| format!("{} is not of the unpacked Python", module.display()))?;
            copy(&module, &tree.join(place))?;
        }
        let library = tree.join("usr/lib").join(self.name()?);
        // Python complains where there is no folder for modules in machine code; these are all built into it.
        fs::create_dir_all(library.join("lib-dynload"))?;
        self.compile(&library)
    }

    /// Copies the libraries of the program, and what loads them.
    fn copy_libraries_into(&self, tree: &Path) -> Result<()> {
        copy(&self.loader()?, &tree.join("lib64").join(LOADER))?;
        for library in self.libraries()? {
            let name = library.file_name().context("a library without a name")?;
            copy(&library, &tree.join(LIBRARY_DIRS[0]).join(name))?;
        }
        Ok(())
    }

    /// Compiles the modules, which takes an emulated CPU two seconds. Their dates do not reach the guest, so it is told
    /// not to compare anything.
    fn compile(&self, library: &Path) -> Result<()> {
        sh::run(
            self.python()?
                .args(["-m", "compileall", "-q"])
                .args(["--invalidation-mode", "unchecked-hash"])
                .arg(library),
        )
    }

    /// `python3.11`.
    fn name(&self) -> Result<&OsStr> {
        self.program.file_name().context("a Python without a name")
    }

    /// The dynamic linker that belongs to the unpacked C library; any other may not work with it.
    fn loader(&self) -> Result<PathBuf> {
        LIBRARY_DIRS
            .iter()
            .map(|dir| self.root.join(dir).join(LOADER))
            .find(|file| file.is_file())
            .with_context(|| format!("no {LOADER} in {}", self.root.display()))
    }

    /// The loader, told where the libraries are and nothing else.
    fn load(&self) -> Result<Command> {
        let dirs: Vec<OsString> = LIBRARY_DIRS
            .iter()
            .map(|dir| self.root.join(dir).into_os_string())
            .collect();
        let mut command = Command::new(self.loader()?);
        command
            .env_clear()
            .arg("--library-path")
            .arg(dirs.join(":".as_ref()));
        Ok(command)
    }

    /// The libraries that the program is linked with.
    fn libraries(&self) -> Result<Vec<PathBuf>> {
        let list = sh::read(self.load()?.arg("--list").arg(&self.program))?;
        let mut libraries = Vec::new();
        for line in list.lines() {
            let Some((name, path)) = line.trim().split_once(" => ") else {
                continue;
            };
            if path.starts_with("not found") {
                bail!("{} needs {name}", self.program.display());
            }
            let path = path.split(" (").next().unwrap_or(path);
            if !name.ends_with(LOADER) {
                libraries.push(PathBuf::from(path));
            }
        }
        Ok(libraries)
    }

    /// The modules of Python that the script imports.
    fn modules(&self) -> Result<Vec<PathBuf>> {
        let list = sh::read(
            self.python()?
                .args(["-c", LIST_MODULES])
                .arg(self.root.join(HWLATDETECT)),
        )?;
        Ok(list.lines().map(PathBuf::from).collect())
    }

    /// The unpacked Python, run where it is.
    fn python(&self) -> Result<Command> {
        let mut command = self.load()?;
        command
            .env("PYTHONHOME", self.root.join("usr"))
            .arg(&self.program)
            // Without what this machine adds to every Python (-S), and without writing compiled modules (-B).
            .args(["-S", "-B"]);
        Ok(command)
    }
}

/// Copies a file, or what a link leads to, and makes the folder it goes to.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
