//! Makes a short recording long, and says what of it has grown, for `cargo xtask bench growth`.
//!
//! `grown WHAT FILE COUNT SECONDS [MORE]`: FILE becomes COUNT snapshots, SECONDS apart. What is written to standard output:
//!
//! - `recording`: that recording;
//! - `packed`: its size, as it is and compressed, as JSON;
//! - `pages`: the sizes of the last page for Prometheus, by number of CPUs, as JSON;
//! - `page CPUS`: the last page;
//! - `scrapes CPUS EVERY`: each page of number EVERY, with the time of each sample.

use std::{
    env,
    io::{self, BufWriter, Write as _},
    path::Path,
    process::ExitCode,
};

use jiff::SignedDuration;
use serde_json::json;
use tests::growth::{Failure, Long, Short, Size, packed, scrapes, text};

/// Numbers of CPUs.
const CPUS: [u32; 3] = [2, 64, 255];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match write(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("grown: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(args: &[String]) -> Result<(), Failure> {
    let [what, file, count, seconds, more @ ..] = args else {
        return Err("name what to write, a recording, a number of snapshots and seconds".into());
    };
    let short = Short::read(Path::new(file))?;
    let long = Long {
        count: count.parse()?,
        interval: SignedDuration::from_secs(seconds.parse()?),
    };
    let mut to = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    match (what.as_str(), more) {
        ("recording", []) => short.write(long, &mut to)?,
        ("packed", []) => writeln!(to, "{}", json!(packed(&short, long)?))?,
        ("pages", []) => {
            let last = short.last(long)?;
            let sizes = CPUS
                .into_iter()
                .map(|cpus| Ok((cpus, Size::of(&last, cpus)?)))
                .collect::<Result<Vec<_>, Failure>>()?;
            writeln!(to, "{}", json!(sizes))?;
        }
        ("page", [cpus]) => to.write_all(text(&short.last(long)?, cpus.parse()?)?.as_bytes())?,
        ("scrapes", [cpus, every]) => {
            scrapes(&short, long, every.parse()?, cpus.parse()?, &mut to)?;
        }
        _ => return Err(format!("\"{what}\" is not known, or not with {more:?}").into()),
    }
    Ok(to.flush()?)
}
