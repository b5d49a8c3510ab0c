//! A configuration that is read again while the run goes on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result, ensure};
use clap::Args as _;

use super::{
    super::watch::Prepared,
    check_limit,
    lasting::{Lasting, Replaced},
};
use crate::{
    cli::{Detection, PushArgs, RunArgs},
    config::{self, Options},
    detector::Choice,
    model::{DetectorInfo, GapKind, Snapshot},
    push,
    units::show,
};

/// The option that says how often to report.
const INTERVAL: &str = "interval";
/// What can be changed of pushes while they go on.
const OF_PUSHES: [&str; 2] = ["otlp-interval", "otlp-header"];

/// What of the options is in force, and where they come from.
pub(super) struct Reload {
    file: PathBuf,
    options: Options,
    detection: Detection,
    interval: Duration,
    push: PushArgs,
    hardlimit: Option<Duration>,
}

/// What reading it again led to.
#[derive(Default)]
pub(super) struct Outcome {
    /// The interval that was ended, so that none has two settings.
    pub(super) ended: Option<Arc<Snapshot>>,
    /// The time between reports, where that is another now.
    pub(super) interval: Option<Duration>,
    /// How to push, where that is another now; where to is not.
    pub(super) push: Option<PushArgs>,
    /// Why nothing can be detected any more.
    pub(super) failure: Option<Error>,
}

impl Reload {
    /// Of a run that began with `args`, written as `options`; `None` where they come from no file.
    pub(super) fn new(args: &RunArgs, options: &Options) -> Option<Self> {
        Some(Self {
            file: args.config.clone()?,
            options: options.clone(),
            detection: args.detection.clone(),
            interval: args.interval,
            push: args.push.clone(),
            hardlimit: args.hardlimit,
        })
    }

    /// Reads the file again and does what has changed in it, as far as that can be done while the run goes on; says what
    /// was done and what was not.
    pub(super) fn again(&mut self, lasting: &mut Lasting) -> Outcome {
        match self.try_again(lasting) {
            Ok(outcome) => outcome,
            Err(error) => {
                log::error!("not reloaded, all goes on as before: {error:#}");
                Outcome::default()
            }
        }
    }

    /// # Errors
    /// When what is asked for cannot be; nothing was changed then.
    fn try_again(&mut self, lasting: &mut Lasting) -> Result<Outcome> {
        let arguments: Vec<_> = std::env::args_os().collect();
        let understood = config::understand(&arguments)?;
        let asked = understood.run().context("this is no run")?;
        ensure!(
            asked.detection.detector != Choice::All,
            "detector = \"all\" lists the detectors instead of running one; choose one"
        );
        // To another receiver goes nothing before the next start, so the secrets that are for it must not go to this one.
        let same_receiver = asked.push.otlp == self.push.otlp;
        let push = if same_receiver {
            PushArgs {
                otlp_instance: self.push.otlp_instance.clone(),
                ..asked.push.clone()
            }
        } else {
            self.push.clone()
        };
        if push.otlp.is_some() {
            push::interval(push.otlp_interval, asked.interval)?;
        }
        check_limit(asked.hardlimit, asked.detection.threshold)?;
        let mut outcome = Outcome::default();
        let changed = config::differences(&self.options, &understood.options);
        let (now, later): (Vec<_>, Vec<_>) = changed.into_iter().partition(|name| {
            name == INTERVAL
                || of_detection(name)
                || (same_receiver && OF_PUSHES.contains(&name.as_str()))
        });
        let mut told = Vec::new();
        if asked.detection != self.detection {
            // Before anything is stopped: what makes no sense, or cannot run here.
            let prepared = Prepared::new(&asked.detection)?;
            check_kind(
                lasting.watch()?.info(),
                prepared.gap_kind(),
                prepared.detector(),
            )?;
            check_limit_in_force(self.hardlimit, asked.hardlimit, asked.detection.threshold)?;
            self.detect(prepared, &asked.detection, lasting, &mut outcome, &mut told)?;
        }
        // All of the file or nothing: who finds a refusal must not have to guess what was taken beside it.
        let taken = asked.detection == self.detection;
        if taken && asked.interval != self.interval {
            self.interval = asked.interval;
            outcome.interval = Some(asked.interval);
            told.push(format!("a report every {}", show(asked.interval)));
        }
        if taken && push != self.push {
            // Not even their names: a file of headers is nobody else's business.
            if push.otlp_header != self.push.otlp_header {
                told.push("other headers in pushes".to_owned());
            }
            if push.otlp_interval != self.push.otlp_interval {
                let every = push::interval(push.otlp_interval, asked.interval)?;
                told.push(format!("a push every {}", show(every)));
            }
            self.push = push.clone();
            outcome.push = Some(push);
        }
        if taken {
            for name in now {
                match understood.options.get(&name) {
                    Some(values) => self.options.insert(name, values.clone()),
                    None => self.options.remove(&name),
                };
            }
        }
        if told.is_empty() && later.is_empty() && outcome.ended.is_none() {
            told.push("nothing has changed".to_owned());
        }
        if !told.is_empty() {
            log::info!("read {} again: {}", self.file.display(), told.join("; "));
        }
        if !later.is_empty() {
            log::warn!(
                "{} cannot be changed while it runs: start smilat again for it",
                later.join(", ")
            );
        }
        Ok(outcome)
    }

    /// Has the detector do what is asked.
    ///
    /// # Errors
    /// When nothing was changed.
    fn detect(
        &mut self,
        prepared: Prepared,
        asked: &Detection,
        lasting: &mut Lasting,
        outcome: &mut Outcome,
        told: &mut Vec<String>,
    ) -> Result<()> {
        let mut but_threshold = self.detection.clone();
        but_threshold.threshold = asked.threshold;
        if but_threshold == *asked && lasting.watch()?.takes_threshold() {
            outcome.ended = Some(lasting.snapshot()?);
            match lasting.watch()?.set_threshold(asked.threshold) {
                Ok(()) => {
                    told.push(format!("threshold {}", show(asked.threshold)));
                    self.detection = asked.clone();
                }
                Err(error) => {
                    log::error!(
                        "nothing was taken of the file, and the threshold stays as it was: {error:#}"
                    );
                }
            }
            return Ok(());
        }
        // Shown until here: what comes now may take a moment.
        log::debug!("starting the detector again");
        match lasting.replace(prepared, asked, &self.detection) {
            Ok((ended, replaced)) => {
                outcome.ended = Some(ended);
                match replaced {
                    Ok(Replaced::Yes(plan)) => {
                        told.push(format!(
                            "the detector was started again, and totals go on\n{}",
                            plan.trim_end()
                        ));
                        self.detection = asked.clone();
                        // The one before may have needed more.
                        lasting.watch()?.give_up_privileges(asked, true);
                    }
                    Ok(Replaced::Back(error)) => log::error!(
                        "the new settings cannot be had, so nothing was taken of the file, and the old ones are in force again: {error:#}"
                    ),
                    Err(error) => outcome.failure = Some(error),
                }
            }
            Err(error) => outcome.failure = Some(error),
        }
        Ok(())
    }
}

/// Checks that what a detector counts can be added to what the one before did.
fn check_kind(now: &DetectorInfo, kind: GapKind, detector: &str) -> Result<()> {
    ensure!(
        now.gap_kind == kind,
        "{detector} and {} cannot go on from each other: one counts each gap, the other the longest of each window, and the \
         two must not be added up; start smilat again for --detector {detector}",
        now.name
    );
    Ok(())
}

/// Checks the threshold against the hardlimit `in_force`, which is not the one that is `asked` for now.
fn check_limit_in_force(
    in_force: Option<Duration>,
    asked: Option<Duration>,
    threshold: Duration,
) -> Result<()> {
    check_limit(in_force, threshold).with_context(|| match asked {
        Some(limit) => format!(
            "the hardlimit cannot be changed to {} while it runs, and --threshold {} has to wait for it: start smilat \
             again for both",
            show(limit),
            show(threshold)
        ),
        None => format!(
            "the hardlimit cannot be taken away while it runs, and --threshold {} has to wait for it: start smilat again \
             for both",
            show(threshold)
        ),
    })
}

/// Whether the option is about what is watched and how.
fn of_detection(name: &str) -> bool {
    Detection::augment_args(clap::Command::new(""))
        .get_arguments()
        .any(|arg| arg.get_long() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;

    #[test]
    fn gaps_and_the_longest_of_windows_are_not_added_up() {
        let info = made_up::detector();
        assert!(check_kind(&info, GapKind::Gap, "osnoise").is_ok());
        let told = check_kind(&info, GapKind::WindowMax, "hwlat").expect_err("another kind");
        assert!(
            told.to_string()
                .contains("start smilat again for --detector hwlat"),
            "{told}"
        );
    }

    #[test]
    fn a_threshold_that_takes_another_limit_has_to_wait_for_it() {
        let us = Duration::from_micros;
        let told = |asked| {
            let error = check_limit_in_force(Some(us(50)), asked, us(100)).expect_err("above it");
            format!("{error:#}")
        };
        let both = told(Some(us(200)));
        assert!(
            both.starts_with("the hardlimit cannot be changed to 200 us while it runs, and --threshold 100 us has to wait"),
            "{both}"
        );
        assert!(told(None).starts_with("the hardlimit cannot be taken away while it runs"));
        assert!(check_limit_in_force(Some(us(50)), Some(us(200)), us(20)).is_ok());
        assert!(check_limit_in_force(None, Some(us(200)), us(100)).is_ok());
    }
}
