//! How long the command given as arguments, a `smilat run`, takes to its first window: one JSON object on standard output, for
//! `cargo xtask bench start`.

use std::{env, process::Command, process::ExitCode};

use serde_json::json;
use tests::first_window::watch;

/// Times it is started at most: a machine that does not let this process look cannot tell which window is the first.
const TRIES: usize = 5;

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let Some(smilat) = args.next() else {
        eprintln!("first_window: name smilat and its arguments");
        return ExitCode::FAILURE;
    };
    let mut command = Command::new(smilat);
    command.args(args);
    let mut said = String::new();
    for _ in 0..TRIES {
        match watch(&mut command) {
            Ok(start) => {
                println!(
                    "{}",
                    json!({
                        "loaded_ns": start.loaded_ns,
                        "noise_ns": start.noise_ns,
                        "measured_ns": start.measured_ns,
                        "window_ns": start.window_ns,
                    })
                );
                return ExitCode::SUCCESS;
            }
            Err(error) => said = error,
        }
    }
    eprintln!("first_window: {said}, in each of {TRIES} tries");
    ExitCode::FAILURE
}
