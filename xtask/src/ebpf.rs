//! Builds the BPF objects.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{setup, sh};

/// The objects, as the crate names its binaries.
const OBJECTS: [&str; 4] = [
    "smilat-bpf",
    "smilat-iommu-bpf",
    "smilat-irqsoff-bpf",
    TEST_OBJECT,
];
const TEST_OBJECT: &str = "smilat-test-bpf";

const TARGET: &str = "bpfel-unknown-none";

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\x1f";

/// Where the finished objects lie; `smi-user/build.rs` takes them from there.
fn dir() -> PathBuf {
    sh::root().join("target/bpf")
}

/// The object that only tests load.
pub(crate) fn test_object() -> PathBuf {
    dir().join(TEST_OBJECT)
}

/// Sets up if needed and builds the objects.
pub(crate) fn build() -> Result<()> {
    let toolchain = setup::toolchain()?;
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", toolchain.linker().display()),
        "-Clink-arg=--btf".to_owned(),
        "-Dwarnings".to_owned(),
    ]
    .join(FLAG_SEPARATOR);
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(sh::root())
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "smi-ebpf",
            "--bins",
        ])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(dir())
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        // aya-ebpf uses unstable inline assembly; Debian's compiler is a stable one.
        .env("RUSTC_BOOTSTRAP", "aya_ebpf");
    if toolchain.build_std {
        cargo
            .args(["-Z", "build-std=core"])
            .env_remove("RUSTC_BOOTSTRAP");
    }
    sh::run(&mut cargo)?;
    for object in OBJECTS {
        let built = dir().join(TARGET).join("release").join(object);
        let new = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        let kept = dir().join(object);
        // An unchanged object keeps its time, so that smilat is not built again.
        if fs::read(&kept).is_ok_and(|old| old == new) {
            continue;
        }
        fs::write(&kept, new).with_context(|| format!("cannot write {}", kept.display()))?;
    }
    Ok(())
}
