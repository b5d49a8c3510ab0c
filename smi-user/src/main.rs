//! The command `smilat`.

use std::process::ExitCode;

use clap::Parser as _;
use smi_user::{
    cli::{Cli, Command},
    commands,
    kernel::process,
};

/// Exit status when the program could not do what it was asked.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    process::allow_many_files();
    let done = match cli.command {
        Command::Run(args) => commands::run::run(&args),
        Command::Top(args) => commands::top::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Fire(args) => commands::fire::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Restore => commands::restore::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("smilat: {error:#}");
        ExitCode::from(COULD_NOT_RUN)
    })
}
