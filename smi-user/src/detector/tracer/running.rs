//! A kernel tracer at work, whichever it is.

use std::path::Path;

use anyhow::{Result, ensure};
use smi_common::{CpuStats, GapRecord};

use super::Tracer;
use crate::{
    detector::{Noise, Running, away::Away},
    kernel::{clock::Epoch, cpus::CpuList},
    model::{SamplerCounts, WindowCounts},
    settings::Settings,
};

/// How a tracer's records are had.
pub(in crate::detector) trait Source: Send {
    /// Whether BPF programs record gaps as the tracer reports them.
    const IN_KERNEL: bool;

    /// Goes on with the CPUs that are online now: some may have gone, some may be back. Returns what to tell the user.
    fn follow(&mut self, online: &CpuList) -> Vec<String>;

    /// Records that this process read, oldest first of each CPU; none where BPF programs count them in the kernel.
    ///
    /// # Errors
    /// When they cannot be read.
    fn records(&mut self) -> Result<Vec<GapRecord>> {
        Ok(Vec::new())
    }

    /// The last of them: afterwards nothing of `instance` may be held open, so that its tracer can be stopped.
    ///
    /// # Errors
    /// When they cannot be read.
    fn last_records(&mut self, _instance: &Path) -> Result<Vec<GapRecord>> {
        Ok(Vec::new())
    }
}

/// See the module.
pub(in crate::detector) struct Tracing<S: Source> {
    name: &'static str,
    /// Taken when it is stopped.
    tracer: Option<Tracer>,
    source: S,
    warnings: Vec<String>,
    /// By which the times of records were made.
    epoch: Option<Epoch>,
    /// Records read while stopping.
    rest: Vec<GapRecord>,
    online: CpuList,
    away: Away,
    settings: Settings,
}

impl<S: Source> Tracing<S> {
    /// Of the tracer `name`, which was started with `settings` when `online` were the CPUs.
    pub(in crate::detector) fn new(
        name: &'static str,
        mut tracer: Tracer,
        source: S,
        online: CpuList,
        settings: &Settings,
    ) -> Self {
        Self {
            name,
            warnings: std::mem::take(&mut tracer.warnings),
            epoch: None,
            tracer: Some(tracer),
            source,
            rest: Vec::new(),
            online,
            away: Away::default(),
            settings: settings.clone(),
        }
    }

    /// The same, whose records are dated by the wall clock as `epoch` has it.
    pub(in crate::detector) fn dated_by(mut self, epoch: Epoch) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Follows CPUs that went or came back.
    fn follow_cpus(&mut self) -> Result<()> {
        let online = CpuList::online()?;
        if online != self.online {
            for cpu in self.settings.cpus.iter() {
                let told =
                    self.away
                        .note(cpu, !online.contains(cpu), "the tracer does not watch it");
                self.warnings.extend(told);
            }
            self.online = online;
        }
        // Each time: what failed before may go now.
        self.warnings.extend(self.source.follow(&self.online));
        Ok(())
    }
}

impl<S: Source> Running for Tracing<S> {
    fn noise(&self) -> Noise {
        Noise::default()
    }

    fn epoch(&self) -> Epoch {
        self.epoch.unwrap_or_else(Epoch::now)
    }

    /// Windows as the tracer's threads took them. The tracer keeps its own schedule and does not tell what it missed, so
    /// as many count as scheduled as were run.
    fn counts(&self, stats: &[CpuStats]) -> Vec<(u32, SamplerCounts)> {
        self.settings
            .cpus
            .iter()
            .map(|cpu| {
                let run = stats
                    .get(cpu as usize)
                    .map_or(0, |stats| stats.stretches.run);
                (
                    cpu,
                    SamplerCounts {
                        windows: WindowCounts {
                            scheduled: run,
                            run,
                            skipped: 0,
                        },
                        stretches_given_up: 0,
                    },
                )
            })
            .collect()
    }

    fn records_in_kernel(&self) -> bool {
        S::IN_KERNEL
    }

    fn records(&mut self) -> Result<Vec<GapRecord>> {
        if self.tracer.is_some() {
            self.source.records()
        } else {
            Ok(std::mem::take(&mut self.rest))
        }
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn check(&mut self) -> Result<()> {
        let name = self.name;
        let runs = self
            .tracer
            .as_ref()
            .is_some_and(|tracer| tracer.still_runs(name));
        ensure!(
            runs,
            "the {name} tracer was taken away by somebody else; what it found until then is reported above"
        );
        self.follow_cpus()?;
        if let Some(tracer) = &mut self.tracer {
            let told = tracer.keep_mode()?;
            self.warnings.extend(told);
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut tracer) = self.tracer.take() else {
            return Ok(());
        };
        let rest = self.source.last_records(&tracer.instance);
        let undone = tracer.changes.undo_all();
        self.rest = rest?;
        undone?;
        Ok(())
    }
}

impl<S: Source> Drop for Tracing<S> {
    /// Where it was not stopped: what the source holds open would keep the tracer from being stopped.
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::error!("{error:#}");
        }
    }
}
