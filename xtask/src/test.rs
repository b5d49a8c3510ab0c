//! `cargo xtask test`.

use anyhow::Result;
use clap::ValueEnum;

use crate::{ebpf, package, prometheus, python, run, setup, sh, vm};

/// The parts, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Formatting, lints, and what needs neither root nor BPF
    Unit,
    /// Real BPF on this kernel, as root
    Host,
    /// The Debian package and its unit, in a fresh Debian
    Package,
    /// Real SMIs, made and measured in virtual machines with stock kernels
    Vm,
}

/// Runs one part or all of them; of the virtual machines, those with `kernel` and the tests that contain `only`. What
/// they measure and say goes to the project's files as `update` has it.
pub(crate) fn test(
    part: Option<Part>,
    only: Option<&str>,
    kernel: Option<vm::Kernel>,
    update: vm::Update,
) -> Result<()> {
    ebpf::build()?;
    if part.is_none_or(|part| part == Part::Unit) {
        unit()?;
    }
    if part.is_none_or(|part| part == Part::Host) {
        host(update.snapshots)?;
    }
    if part.is_none_or(|part| part == Part::Package) {
        setup::test_tools()?;
        package::test()?;
    }
    if part.is_none_or(|part| part == Part::Vm) {
        vm::test(only, kernel, update)?;
    }
    Ok(())
}

fn unit() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    let deny = ["--", "-D", "warnings"];
    let members = ["--workspace", "--exclude", "smi-ebpf"];
    sh::run(
        sh::cargo()
            .args(["clippy", "--quiet", "--all-targets"])
            .args(members)
            .args(deny),
    )?;
    // The programs themselves link for BPF only; their code is all in the library.
    sh::run(
        sh::cargo()
            .args(["clippy", "--quiet", "--package", "smi-ebpf", "--lib"])
            .args(deny),
    )?;
    sh::run(
        sh::cargo()
            .args(["test", "--quiet"])
            .args(members)
            .args(["--exclude", "tests"]),
    )
}

fn host(update_snapshots: bool) -> Result<()> {
    setup::test_tools()?;
    let smilat = run::build()?;
    let mut cargo = sh::cargo();
    cargo
        // One at a time: each test takes whole CPUs for itself.
        .args(["test", "--package", "tests", "--no-fail-fast"])
        .args(["--", "--test-threads=1"])
        .env("SMILAT", smilat)
        .env("SMILAT_TEST_BPF", ebpf::test_object())
        .env("SMILAT_PYTHON", python::for_tests()?);
    prometheus::tell(&mut cargo)?;
    if update_snapshots {
        cargo.env("SMILAT_UPDATE_SNAPSHOTS", "1");
    }
    if !sh::is_root() {
        cargo.env(
            format!(
                "CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER",
                std::env::consts::ARCH.to_uppercase()
            ),
            "sudo --preserve-env",
        );
    }
    sh::run(sh::ending_on_hangup(&mut cargo))
}
