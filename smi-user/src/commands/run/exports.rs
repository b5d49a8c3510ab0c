//! Ways out that take the newest snapshot when they want it: made before anything is done to the machine, so that what
//! cannot be had stops a run before it begins.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::watch;

use crate::{cli::RunArgs, model::Snapshot};

/// See the module.
pub(super) struct Exports {
    newest: watch::Sender<Option<Arc<Snapshot>>>,
}

impl Exports {
    /// Takes hold of all that `args` ask for.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(super) fn prepare(_args: &RunArgs) -> Result<Self> {
        let (newest, _nobody_yet) = watch::channel(None);
        Ok(Self { newest })
    }

    /// Makes `snapshot` the newest.
    pub(super) fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.newest.send_replace(Some(Arc::clone(snapshot)));
    }
}
