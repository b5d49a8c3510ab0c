//! What the command line asks for, checked before anything is done.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cli::{Disposition, IrqsoffArgs},
    irqsoff::{Exemptions, Limit, Settings, Threshold},
    kernel::{boot, changes::FOLDER, cpus::CpuList, sched},
    units::show,
};

/// How often each stack was logged.
const LOGGED: &str = "irqsoff.json";

/// What the command line asks for, checked. Nothing has been done yet.
pub(super) struct Asked {
    pub(super) settings: Settings,
    pub(super) exemptions: Exemptions,
    pub(super) limit: Limit,
    /// On which CPU, and for how long.
    pub(super) self_test: Option<(u32, Duration)>,
}

impl Asked {
    /// Checks it.
    ///
    /// # Errors
    /// When something makes no sense or cannot be had here.
    pub(super) fn check(args: &IrqsoffArgs) -> Result<Self> {
        let online = CpuList::online()?;
        let cpus = args.cpus.clone().unwrap_or_else(|| online.clone());
        cpus.check_within(&online, &sched::allowed(&online))?;
        let settings = Settings::new(cpus, args.tick, args.level, args.threshold)?;
        let panic = args.disposition == Disposition::Panic;
        ensure!(
            !panic || args.yes_panic_this_machine,
            "--disposition panic ends everything that runs on this machine at the first stretch; add \
             --yes-panic-this-machine if that is what you want"
        );
        ensure!(
            panic || !args.yes_panic_this_machine,
            "--yes-panic-this-machine belongs to --disposition panic"
        );
        let self_test = args
            .self_test
            .map(|asked| self_test(asked, &settings))
            .transpose()?;
        Ok(Self {
            exemptions: Exemptions::find(&args.exempt, args.exempt_file.as_deref())?,
            limit: Limit::load(&Path::new(FOLDER).join(LOGGED), &boot::id()?, args.max_log)?,
            settings,
            self_test,
        })
    }
}

/// Where and how long: on the last watched CPU, so that CPU 0, where machines do their housekeeping, is left alone.
fn self_test(asked: Threshold, settings: &Settings) -> Result<(u32, Duration)> {
    const MAX: Duration = Duration::from_secs(1);
    let length = match asked {
        Threshold::Ticks(ticks) => settings
            .tick
            .saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)),
        Threshold::Time(time) => time,
    };
    let Some(threshold) = settings.threshold else {
        bail!("--self-test needs a threshold to be noticed by; leave --threshold 0 out");
    };
    let least = threshold + settings.tick;
    ensure!(
        length >= least,
        "--self-test {} would not be noticed for sure: what lasts for threshold and tick together, {}, is; make it longer, or \
         lower --threshold",
        show(length),
        show(least)
    );
    ensure!(
        length <= MAX,
        "--self-test {} is above {}, the longest that this does to a machine",
        show(length),
        show(MAX)
    );
    let cpu = settings
        .cpus
        .highest()
        .context("there is no CPU to test on")?;
    Ok((cpu, length))
}
