//! Finds or installs what building the BPF objects needs, and says what it does.
//!
//! Two things are needed that a plain Rust toolchain lacks: `core` for the BPF target and bpf-linker. `core` comes from
//! a rustup nightly with `rust-src`, or ready-made from Debian's packages, which live beside rustup without touching
//! it. bpf-linker is built once into the cache, against the LLVM of that same compiler.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::sh;

const LINKER_VERSION: &str = "0.13.0";
/// What makes Debian packages.
const CARGO_DEB_VERSION: &str = "3.8.0";

/// Debian's packages with `core` for BPF: a compiler, its cargo, and the library.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";

/// What the tests need beside it: programs, and the Debian packages they come in.
const TEST_TOOLS: [(&str, &str); 11] = [
    ("chromium", "chromium"),
    ("debootstrap", "debootstrap"),
    ("gcc", "gcc"),
    ("jq", "jq"),
    ("make", "make"),
    ("man", "man-db"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("tmux", "tmux"),
];

/// A compiler that can build for BPF, and the linker that goes with it.
pub(crate) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// `core` has to be built too.
    pub(crate) build_std: bool,
    linker: PathBuf,
    /// Folder of the compiler's libLLVM.
    llvm_dir: PathBuf,
}

impl Toolchain {
    /// The toolchain's cargo, set up to build for BPF.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(&self.cargo);
        cargo
            .env("RUSTC", &self.rustc)
            // rustup's proxies read this; the compiler named above is meant whatever it says.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("LD_LIBRARY_PATH", library_path(&self.llvm_dir));
        cargo
    }

    /// bpf-linker.
    pub(crate) fn linker(&self) -> &Path {
        &self.linker
    }
}

/// The toolchain, installed first where it is missing.
pub(crate) fn toolchain() -> Result<Toolchain> {
    let compiler = match nightly()? {
        Some(nightly) => nightly,
        None => debian()?,
    };
    let linker = linker(&compiler)?;
    let llvm_dir = compiler
        .libllvm
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    Ok(Toolchain {
        cargo: compiler.cargo,
        rustc: compiler.rustc,
        build_std: compiler.build_std,
        linker,
        llvm_dir,
    })
}

struct Compiler {
    cargo: PathBuf,
    rustc: PathBuf,
    build_std: bool,
    libllvm: PathBuf,
}

/// rustup's nightly, if it has the source of `core`.
fn nightly() -> Result<Option<Compiler>> {
    if sh::find("rustup").is_none() {
        return Ok(None);
    }
    let sysroot = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output()
        .context("cannot run rustup")?;
    if !sysroot.status.success() {
        return Ok(None);
    }
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        return Ok(None);
    }
    let libllvm = find_libllvm(&sysroot.join("lib"))?;
    Ok(libllvm.map(|libllvm| Compiler {
        cargo: sysroot.join("bin/cargo"),
        rustc: sysroot.join("bin/rustc"),
        build_std: true,
        libllvm,
    }))
}

/// Debian's compiler.
fn debian() -> Result<Compiler> {
    if !Path::new(DEBIAN_CORE).is_dir() {
        if sh::find("apt-get").is_none() {
            bail!(
                "no compiler here has `core` for BPF. Install one with: \
                 rustup toolchain install nightly --component rust-src"
            );
        }
        install_packages(&DEBIAN_PACKAGES).context(
            "Debian's compiler for BPF cannot be installed beside what is there; a nightly does as well: \
             rustup toolchain install nightly --component rust-src",
        )?;
    }
    let version = sh::read(Command::new(DEBIAN_RUSTC).arg("-vV"))?;
    let major = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(|version| version.split('.').next())
        .with_context(|| format!("{DEBIAN_RUSTC} -vV names no LLVM version:\n{version}"))?
        .to_owned();
    let dir = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let libllvm = find_file(&dir, &format!("libLLVM.so.{major}"))?
        .with_context(|| format!("no libLLVM.so.{major}* in {}", dir.display()))?;
    Ok(Compiler {
        cargo: "/usr/bin/cargo".into(),
        rustc: DEBIAN_RUSTC.into(),
        build_std: false,
        libllvm,
    })
}

/// Installs what the tests on this machine need.
pub(crate) fn test_tools() -> Result<()> {
    let missing: Vec<&str> = TEST_TOOLS
        .iter()
        .filter(|(program, _)| sh::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install_packages(&missing)
}

/// Installs Debian packages that are missing.
pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    say(&format!(
        "installing Debian packages: {}",
        packages.join(" ")
    ));
    let mut update = sh::as_root("apt-get")?;
    sh::run(update.args(["-qq", "update"]))?;
    let mut install = sh::as_root("apt-get")?;
    sh::run(
        install
            .args(["-qq", "install", "-y", "--no-install-recommends"])
            // Somebody else's apt may be at work: wait for it.
            .args(["-o", "DPkg::Lock::Timeout=300"])
            // Debian's packages for BPF conflict with its own rustc, cargo and rustup: never take those away.
            .arg("--no-remove")
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Thousands of lines that say nothing when all goes well; errors go to standard error.
            .stdout(std::process::Stdio::null()),
    )
}

/// bpf-linker for that compiler's LLVM, built into the cache when it is not there yet.
fn linker(compiler: &Compiler) -> Result<PathBuf> {
    let major = llvm_major(&compiler.libllvm)?;
    let home = sh::cache()?.join(format!("bpf-linker-{LINKER_VERSION}-llvm-{major}"));
    let linker = home.join("bin/bpf-linker");
    if linker.is_file() {
        return Ok(linker);
    }
    say(&format!(
        "building bpf-linker {LINKER_VERSION} for LLVM {major} into {} (about a minute, once)",
        home.display()
    ));
    // llvm-sys looks for PREFIX/lib/libLLVM.so when it is told a prefix; packages without headers have no such link.
    let lib = home.join("llvm/lib");
    fs::create_dir_all(&lib).with_context(|| format!("cannot make {}", lib.display()))?;
    let link = lib.join("libLLVM.so");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    symlink(&compiler.libllvm, &link).with_context(|| format!("cannot make {}", link.display()))?;
    let llvm_dir = compiler.libllvm.parent().unwrap_or(Path::new("/"));
    sh::run(
        sh::cargo()
            .args(["install", "--quiet", "bpf-linker", "--locked"])
            .args(["--version", LINKER_VERSION, "--no-default-features"])
            .args(["--features", &format!("llvm-{major}")])
            .arg("--root")
            .arg(&home)
            .arg("--target-dir")
            .arg(home.join("target"))
            .env("LLVM_PREFIX", home.join("llvm"))
            .env("LD_LIBRARY_PATH", library_path(llvm_dir)),
    )?;
    fs::remove_dir_all(home.join("target"))?;
    Ok(linker)
}

/// `PATH` with cargo-deb in front, which is built into the cache when it is not there yet.
pub(crate) fn with_cargo_deb() -> Result<OsString> {
    let home = sh::cache()?.join(format!("cargo-deb-{CARGO_DEB_VERSION}"));
    if !home.join("bin/cargo-deb").is_file() {
        say(&format!(
            "building cargo-deb {CARGO_DEB_VERSION} into {} (about a minute, once)",
            home.display()
        ));
        sh::run(
            sh::cargo()
                .args(["install", "--quiet", "cargo-deb", "--locked"])
                .args(["--version", CARGO_DEB_VERSION])
                .args(["--no-default-features", "--features", "lzma"])
                .arg("--root")
                .arg(&home)
                .arg("--target-dir")
                .arg(home.join("target")),
        )?;
        fs::remove_dir_all(home.join("target"))?;
    }
    let mut path = home.join("bin").into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    Ok(path)
}

/// `22` of `libLLVM.so.22.1` or `libLLVM.so.22.1-rust-1.97.0-nightly`.
fn llvm_major(libllvm: &Path) -> Result<&str> {
    libllvm
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix("libLLVM.so."))
        .and_then(|version| version.split('.').next())
        .with_context(|| format!("{} names no LLVM version", libllvm.display()))
}

fn find_libllvm(dir: &Path) -> Result<Option<PathBuf>> {
    find_file(dir, "libLLVM.so.")
}

fn find_file(dir: &Path, prefix: &str) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(prefix))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().next())
}

fn library_path(first: &Path) -> OsString {
    let mut path = first.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

fn say(what: &str) {
    eprintln!("setup: {what}");
}
