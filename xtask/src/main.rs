//! `cargo xtask`: everything the project does to itself, from setting up a fresh machine to packing a release.

mod bench;
mod dist;
mod ebpf;
mod package;
mod packages;
mod prometheus;
mod python;
mod run;
mod setup;
mod sh;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, builds, runs, tests and packs smilat.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find or install what building the BPF objects needs; the other commands call this themselves
    Setup {
        /// Install what `bench` compares smilat with, too
        #[arg(long)]
        peers: bool,
    },
    /// Build the BPF objects into target/bpf
    BuildEbpf,
    /// Build smilat and run `smilat run` as root; without ARGS for 10 s
    Run {
        /// Options of `smilat run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Check formatting and lints, run the tests
    Test {
        /// Only this part
        #[arg(value_enum)]
        part: Option<test::Part>,
        /// Of the tests in virtual machines, only those whose name contains this
        #[arg(value_name = "NAME")]
        only: Option<String>,
        /// Of the virtual machines, only those with this kernel
        #[arg(long, value_enum)]
        kernel: Option<vm::Kernel>,
        /// Write what the virtual machines measured to docs/accuracy.md
        #[arg(long)]
        update_docs: bool,
        /// Write what `smilat doctor` says of this machine and of the virtual ones to tests/src/guest/snapshots, for tests
        /// to compare with; where it differed, the test fails once more
        #[arg(long)]
        update_snapshots: bool,
    },
    /// Virtual machines with stock kernels that have real SMIs
    Vm {
        #[command(subcommand)]
        action: vm::Action,
    },
    /// Measure smilat beside its peers on this machine and in virtual ones; write docs/bench.json and docs/bench.md
    Bench {
        /// Only these; what the files have of others stays
        #[arg(value_enum, value_name = "NAME")]
        names: Vec<bench::Name>,
    },
    /// Pack a release into target/dist: smilat-VERSION-ARCH.tar.gz and a Debian package
    Dist,
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> Result<()> {
    match command {
        Command::Setup { peers } => {
            if peers {
                bench::install_peers()?;
            }
            setup::toolchain().map(drop)
        }
        Command::BuildEbpf => ebpf::build(),
        Command::Run { args } => run::run(&args),
        Command::Test {
            part,
            only,
            kernel,
            update_docs,
            update_snapshots,
        } => {
            let update = vm::Update {
                docs: update_docs,
                snapshots: update_snapshots,
            };
            test::test(part, only.as_deref(), kernel, update)
        }
        Command::Vm { action } => vm::carry_out(action),
        Command::Bench { names } => bench::bench(&names),
        Command::Dist => dist::dist(),
    }
}
