//! The options of `smilat iommu`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{gap_time, reports::Reports, run::interval};
use crate::{
    kernel::cpus::CpuList,
    units::{Bare, parse_size, parse_time},
};

/// Options of `smilat iommu`.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  smilat iommu                                     what is mapped and unmapped for whom, until Ctrl-C
  smilat iommu --device 0000:00:03.0 --interval 1s
  smilat iommu --ratio-limit 1.5 --duration 1h     exit status 1 if unmaps outnumber maps by more
  smilat iommu --format ndjson | jq 'select(.event) | .event'
  smilat iommu live                                the same as a picture that moves
  smilat iommu tree                                groups, their devices, and what must travel together
  smilat iommu boot                                what happened before any program could look"
)]
pub struct IommuArgs {
    /// What to do; without one: watch.
    #[command(subcommand)]
    pub command: Option<IommuCommand>,

    /// How to watch.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// What `smilat iommu` does besides watching.
#[derive(Debug, Subcommand)]
pub enum IommuCommand {
    /// Watch in the terminal: domains by what they map and unmap, changes and faults as they come
    ///
    /// Keys: q ends, space pauses, r resets, s sorts by another column, arrows scroll.
    Live(Box<LiveArgs>),

    /// Show groups, their devices and the bridges above them, and which devices must travel together
    ///
    /// Devices of one group cannot be isolated from one another: all of them go to a guest, or none. Needs no privilege.
    Tree(TreeArgs),

    /// Show what happened at boot: which devices came into which groups and domains
    ///
    /// The kernel keeps that if its command line asks for it; where it does not, says what to add.
    Boot(BootArgs),
}

/// Which part is shown.
#[derive(Args, Clone, Debug, Default)]
pub struct Part {
    /// Only this device, and what shares its group: as sysfs names it (0000:00:03.0; 0000: may be left out); may be repeated
    #[arg(long, value_name = "DEVICE", help_heading = "Filters")]
    pub device: Vec<String>,

    /// Only this group; may be repeated
    #[arg(long, value_name = "N", help_heading = "Filters")]
    pub group: Vec<u32>,
}

/// How maps and unmaps are watched.
#[derive(Args, Clone, Debug)]
pub struct Look {
    /// Which domains.
    #[command(flatten)]
    pub part: Part,

    /// Only what these CPUs map and unmap, in the kernel's notation (0-3,8) [default: all]
    #[arg(short, long, value_name = "LIST", help_heading = "Filters")]
    pub cpus: Option<CpuList>,

    /// Only maps and unmaps of this size, or of sizes in this range (4KiB, 2MiB-1GiB, 64KiB-, -4KiB)
    #[arg(long, value_name = "SIZE|MIN-MAX", value_parser = sizes, allow_hyphen_values = true, help_heading = "Filters")]
    pub size: Option<Sizes>,

    /// Alarm when a domain has more unmaps for each map than this within an interval, of at least 100 unmaps
    ///
    /// What is unmapped in pieces of what was mapped as one makes unmaps outnumber maps, and each of them takes the IOMMU's
    /// caches along. What was mapped before the watch began counts only if it is unmapped page by page.
    #[arg(long, value_name = "RATIO", default_value_t = 2.0, value_parser = ratio, help_heading = "Detection")]
    pub ratio_limit: f64,

    /// Suspect a leak when what a domain has mapped grew in each of ten parts of this time; 0: never
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = growth, help_heading = "Detection")]
    pub growth_for: Duration,

    /// Follow this many mappings until they are unmapped; 0 for none
    ///
    /// Tells unmaps of pieces from others, and how old is what is left. Costs a look-up at each map and unmap.
    #[arg(long, value_name = "N", default_value_t = 65536, value_parser = clap::value_parser!(u32).range(0..=16_777_216), help_heading = "Detection")]
    pub track: u32,

    /// Time every how many-eth unmap on each CPU; 0 for none
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        help_heading = "Detection"
    )]
    pub time_one_in: u32,

    /// Report threads that go on mapping or unmapping for this long while the scheduler wants their CPU; 0: do not look
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = gap_time, help_heading = "Detection")]
    pub resched_limit: Duration,
}

/// Options of the watch.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// What is looked at.
    #[command(flatten)]
    pub look: Look,

    /// Report at most this many faults of each device a minute; all are counted
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Reports")]
    pub max_faults: u64,

    /// What becomes of it.
    #[command(flatten)]
    pub reports: Reports,
}

/// Options of the live view.
#[derive(Args, Debug)]
pub struct LiveArgs {
    /// What is looked at.
    #[command(flatten)]
    pub look: Look,

    /// Time between two pictures
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval, help_heading = "Reports")]
    pub interval: Duration,
}

/// Options of the tree.
#[derive(Args, Debug)]
pub struct TreeArgs {
    /// Which part.
    #[command(flatten)]
    pub part: Part,

    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

/// Options of what happened at boot.
#[derive(Args, Clone, Copy, Debug)]
pub struct BootArgs {
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

/// A range of sizes in bytes, both ends within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
}

fn sizes(text: &str) -> Result<Sizes, String> {
    let size = |text: &str| parse_size(text).map_err(|error| error.to_string());
    let sizes = match text.split_once('-') {
        None => {
            let size = size(text)?;
            Sizes {
                least: size,
                most: size,
            }
        }
        Some(("", "")) => return Err("- alone says nothing; write MIN-MAX, MIN- or -MAX".into()),
        Some((least, most)) => Sizes {
            least: if least.is_empty() { 0 } else { size(least)? },
            most: if most.is_empty() {
                u64::MAX
            } else {
                size(most)?
            },
        },
    };
    if sizes.least > sizes.most {
        return Err(format!(
            "{text} has no sizes in it; write the smaller one first"
        ));
    }
    Ok(sizes)
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio >= 1.0 && ratio.is_finite() => Ok(ratio),
        Ok(_) => Err(format!(
            "{text} is below 1, where everything that is mapped and unmapped once is above it"
        )),
        Err(_) => Err(format!("{text} is no number; write 2 or 1.5")),
    }
}

fn growth(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_secs(1);
    match parse_time(text, Bare::Seconds) {
        Ok(time) if !time.is_zero() && time < MIN => Err(format!(
            "{text} is below 1s: what grows for so short a time is in use, not lost; write 0 for never"
        )),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(options: &[&str]) -> Result<IommuArgs, String> {
        let all = ["smilat", "iommu"].iter().chain(options);
        let cli = Cli::try_parse_from(all).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Iommu(args) => Ok(*args),
            _ => Err("another command".to_owned()),
        }
    }

    #[test]
    fn sizes_are_one_or_a_range() {
        for (text, least, most) in [
            ("4KiB", 4096, 4096),
            ("4KiB-2MiB", 4096, 2 << 20),
            ("2MiB-", 2 << 20, u64::MAX),
            ("-4KiB", 0, 4096),
        ] {
            let args = parse(&[&format!("--size={text}")]).expect(text);
            assert_eq!(args.watch.look.size, Some(Sizes { least, most }), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (options, told) in [
            (&["--size=2MiB-4KiB"][..], "smaller one first"),
            (&["--size=-"], "MIN-MAX"),
            (&["--ratio-limit=0.5"], "below 1"),
            (&["--ratio-limit=many"], "no number"),
            (&["--growth-for=10ms"], "0 for never"),
            (&["--track=99999999"], "16777216"),
            (&["--group=one"], "--group"),
            (&["--duration=1s", "tree"], "tree"),
        ] {
            let error = parse(options).expect_err(options[0]);
            assert!(error.contains(told), "{options:?}: {error}");
        }
    }
}
