//! A watch whose totals outlast it: another one, set otherwise, can take its place while the run goes on.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Error, Result};

use super::{
    super::watch::{Prepared, Watch},
    totals::Totals,
};
use crate::{cli::Detection, model::Snapshot, units::ns};

/// See the module.
pub(super) struct Lasting {
    /// `None` once one could not be replaced.
    watch: Option<Watch>,
    began: Instant,
    totals: Totals,
}

/// What became of an attempt to set a detector otherwise.
pub(super) enum Replaced {
    /// It works by the new settings: its plan, for people.
    Yes(String),
    /// It could not, and works by the old ones again.
    Back(Error),
}

impl Lasting {
    /// Of a watch that has just begun.
    pub(super) fn new(watch: Watch) -> Self {
        Self {
            watch: Some(watch),
            began: Instant::now(),
            totals: Totals::default(),
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
    pub(super) fn snapshot(&mut self) -> Result<Arc<Snapshot>> {
        let snapshot = self.watch()?.snapshot()?;
        Ok(self.totals.tell_all(snapshot))
    }

    /// Counts single gaps that were neither reported nor recorded as given up.
    pub(super) fn give_up(&mut self, gaps: u64) {
        self.totals.give_up(gaps);
    }

    /// As [`Watch::finish`], with the totals of all detectors of the run. Where the last of them cannot be read, they are
    /// those of the newest interval, and the failure stands beside.
    ///
    /// # Errors
    /// When a map cannot be read, and none ever was.
    pub(super) fn finish(mut self) -> Result<(Arc<Snapshot>, Result<()>)> {
        let failure = match self.watch.take().map(Watch::finish) {
            Some(Ok((snapshot, stopped))) => return Ok((self.totals.tell_all(snapshot), stopped)),
            Some(Err(error)) => Some(error),
            None => None,
        };
        match (self.totals.last_known(), failure) {
            (Some(snapshot), failure) => Ok((snapshot, failure.map_or(Ok(()), |e| Err(lost(e))))),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::msg("no detector was ever at work")),
        }
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
        let (ended, stopped) = watch.finish().map_err(lost)?;
        if let Err(error) = stopped {
            log::warn!("{error:#}");
        }
        let replaced = match begin(prepared, to) {
            Ok((plan, watch)) => Ok((Replaced::Yes(plan), watch)),
            Err(refused) => Prepared::new(from)
                .and_then(|prepared| begin(prepared, from))
                .with_context(|| format!("{refused:#}; nor can the detector be started as it was"))
                .map(|(_, watch)| (Replaced::Back(refused), watch)),
        };
        let ended = self.totals.another_begins(ended, ns(self.began.elapsed()));
        let replaced = replaced.map(|(replaced, watch)| {
            self.watch = Some(watch);
            replaced
        });
        Ok((ended, replaced))
    }
}

/// Says what a detector's end without a last reading means.
fn lost(error: Error) -> Error {
    error.context("what was counted since the last report is lost")
}

fn begin(prepared: Prepared, asked: &Detection) -> Result<(String, Watch)> {
    let ready = prepared.begin(asked)?;
    Ok((ready.plan(), ready.start(asked)?))
}
