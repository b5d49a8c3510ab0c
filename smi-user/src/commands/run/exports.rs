//! Ways out that take the newest snapshot when they want it: made before anything is done to the machine, so that what
//! cannot be had stops a run before it begins.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{cli::RunArgs, model::Snapshot, report::prometheus::About, serve::Server};

/// See the module.
pub(super) struct Exports {
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    _server: Option<Server>,
}

impl Exports {
    /// Takes hold of all that `args` ask for.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(super) fn prepare(args: &RunArgs) -> Result<Self> {
        let (newest, to_export) = watch::channel(None);
        Ok(Self {
            newest,
            _server: server(args, to_export)?,
        })
    }

    /// Makes `snapshot` the newest.
    pub(super) fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.newest.send_replace(Some(Arc::clone(snapshot)));
    }
}

/// The server of metrics, if one is asked for, at work.
fn server(
    args: &RunArgs,
    newest: watch::Receiver<Option<Arc<Snapshot>>>,
) -> Result<Option<Server>> {
    let Some(address) = args.listen else {
        return Ok(None);
    };
    let about = About {
        started: Timestamp::now(),
        hardlimit: args.hardlimit,
        per_cpu_histograms: args.per_cpu_histograms,
    };
    let server = Server::start(address, about, args.interval, newest)?;
    let address = server.address();
    if !args.quiet {
        eprintln!("metrics: http://{address}/metrics");
    }
    if !address.ip().is_loopback() {
        log::warn!("--listen {address} is not loopback: whoever reaches it can read the metrics");
    }
    Ok(Some(server))
}
