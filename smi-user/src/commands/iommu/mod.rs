//! `smilat iommu`: watch what is mapped and unmapped, show groups, tell of boot.

mod boot;
mod live;
mod print;
mod tree;
mod watch;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{IommuArgs, IommuCommand};

/// Runs the command.
///
/// # Errors
/// When it could not run, or not to the end.
pub fn run(args: &IommuArgs) -> Result<ExitCode> {
    match &args.command {
        None => watch::run(&args.watch),
        Some(IommuCommand::Live(live)) => live::run(live),
        Some(IommuCommand::Tree(tree)) => tree::run(tree),
        Some(IommuCommand::Boot(boot)) => boot::run(*boot),
    }
}
