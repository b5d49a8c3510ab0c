//! A watch whose totals outlast it: another one, set otherwise, can take its place while the run goes on.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result};

use super::super::watch::{Prepared, Watch};
use crate::{cli::Detection, model::Snapshot, units::ns};

/// See the module.
pub(super) struct Lasting {
    /// `None` once one could not be replaced.
    watch: Option<Watch>,
    began: Instant,
    before: Option<Before>,
}

/// What came before the detector that runs now.
struct Before {
    last: Arc<Snapshot>,
    /// From the start of the first detector to that of this one.
    started_ns: u64,
}

/// What became of an attempt to set a detector otherwise.
pub(super) enum Replaced {
    /// It works by the new settings: its plan, for people.
    Yes(String),
    /// It could not, and works by the old ones again.
    Back(anyhow::Error),
}

impl Lasting {
    /// Of a watch that has just begun.
    pub(super) fn new(watch: Watch) -> Self {
        Self {
            watch: Some(watch),
            began: Instant::now(),
            before: None,
        }
    }

    /// The detector at work.
    ///
    /// # Errors
    /// When none is any more.
    pub(super) fn watch(&mut self) -> Result<&mut Watch> {
        self.watch
            .as_mut()
            .context("no detector is at work any more")
    }

    /// As [`Watch::snapshot`], with the totals of all detectors of the run.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = self.watch()?.snapshot()?;
        self.go_on(&mut snapshot);
        Ok(snapshot)
    }

    /// As [`Watch::finish`], with the totals of all detectors of the run.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub(super) fn finish(mut self) -> Result<(Snapshot, Result<()>)> {
        if let Some(watch) = self.watch.take() {
            let (mut snapshot, stopped) = watch.finish()?;
            self.go_on(&mut snapshot);
            return Ok((snapshot, stopped));
        }
        let before = self.before.context("no detector was ever at work")?;
        let mut snapshot = Snapshot::clone(&before.last);
        snapshot.last = true;
        // Reported already, with the interval they belong to.
        snapshot.gaps.clear();
        Ok((snapshot, Ok(())))
    }

    /// Stops the detector and starts `prepared` in its place, or the one of before if that fails. Returns the interval
    /// that ended by that, too.
    ///
    /// # Errors
    /// When neither can start, or the maps of the one that was at work cannot be read.
    pub(super) fn replace(
        &mut self,
        prepared: Prepared,
        to: &Detection,
        from: &Detection,
    ) -> Result<(Arc<Snapshot>, Result<Replaced>)> {
        let watch = self
            .watch
            .take()
            .context("no detector is at work any more")?;
        let (mut ended, stopped) = watch.finish()?;
        self.go_on(&mut ended);
        ended.last = false;
        if let Err(error) = stopped {
            log::warn!("{error:#}");
        }
        let ended = Arc::new(ended);
        let replaced = match begin(prepared, to) {
            Ok((plan, watch)) => Ok((Replaced::Yes(plan), watch)),
            Err(refused) => Prepared::new(from)
                .and_then(|prepared| begin(prepared, from))
                .with_context(|| format!("{refused:#}; nor can the detector be started as it was"))
                .map(|(_, watch)| (Replaced::Back(refused), watch)),
        };
        self.before = Some(Before {
            last: Arc::clone(&ended),
            started_ns: ns(self.began.elapsed()),
        });
        let replaced = replaced.map(|(replaced, watch)| {
            self.watch = Some(watch);
            replaced
        });
        Ok((ended, replaced))
    }

    fn go_on(&self, snapshot: &mut Snapshot) {
        if let Some(before) = &self.before {
            snapshot.go_on_from(&before.last, before.started_ns);
        }
    }
}

fn begin(prepared: Prepared, asked: &Detection) -> Result<(String, Watch)> {
    let ready = prepared.begin(asked)?;
    Ok((ready.plan(), ready.start(asked)?))
}
