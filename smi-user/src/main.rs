//! The command `smilat`.

use std::process::ExitCode;

use smi_user::{
    cli::Command,
    commands,
    config::{self, ConfigError},
    kernel::process,
};

/// Exit status when the program could not do what it was asked.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let understood = match config::understand(&arguments) {
        Ok(understood) => understood,
        Err(ConfigError::CommandLine(error)) => error.exit(),
        Err(error) => return failed(&error.into()),
    };
    process::allow_many_files();
    let done = match &understood.cli.command {
        Command::Run(args) => commands::run::run(args, &understood.options),
        Command::Top(args) => commands::top::run(args),
        Command::Iommu(args) => commands::iommu::run(args),
        Command::Irqsoff(args) => commands::irqsoff::run(args),
        Command::Report(args) => commands::report::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Fire(args) => commands::fire::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Restore => commands::restore::run(),
        Command::Completions { shell } => commands::documents::completions(*shell),
        Command::Documents { folder } => commands::documents::write(folder),
    };
    done.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    commands::tell_failure(error);
    ExitCode::from(COULD_NOT_RUN)
}
