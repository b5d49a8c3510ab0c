//! What a package ships beside the program, made of the command line's own definitions.

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, config};

/// The shells that Debian has places for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];
const NAME: &str = "smilat";

/// Runs `smilat completions`.
///
/// # Errors
/// When they cannot be written.
pub fn completions(shell: Shell) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut visible(), NAME, &mut text);
    match io::stdout().write_all(&text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.context("cannot write to standard output")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes `man/`, `completions/` and `smilat.toml` into `folder`.
///
/// # Errors
/// When they cannot be written.
pub fn write(folder: &Path) -> Result<ExitCode> {
    let made = |name: &str| {
        let path = folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        anyhow::Ok(path)
    };
    clap_mangen::generate_to(visible(), made("man")?).context("cannot write the manual pages")?;
    let completions = made("completions")?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut visible(), NAME, &completions)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    let example = folder.join("smilat.toml");
    fs::write(&example, config::example())
        .with_context(|| format!("cannot write {}", example.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The definitions without what is for packagers only.
fn visible() -> clap::Command {
    let all = Cli::command();
    let shown: Vec<clap::Command> = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .long_about(all.get_long_about().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(shown)
}
