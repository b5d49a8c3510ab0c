//! Ways out that take the newest snapshot when they want it: made before anything is done to the machine, so that what
//! cannot be had stops a run before it begins.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    cli::RunArgs,
    model::Snapshot,
    push::{self, Headers, Push},
    report::prometheus::About,
    serve::Server,
    units::ns,
};

/// See the module.
pub(super) struct Exports {
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    _server: Option<Server>,
    push: Option<Push>,
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
            push: push_plan(args).map(Push::start).transpose()?,
        })
    }

    /// Makes `snapshot` the newest.
    pub(super) fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.newest.send_replace(Some(Arc::clone(snapshot)));
        if let Some(push) = &self.push {
            push.publish(snapshot);
        }
    }

    /// Waits, for a bounded time, until those who are to get the last snapshot have it.
    pub(super) async fn finish(self) {
        if let Some(push) = self.push {
            push.finish().await;
        }
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

fn push_plan(args: &RunArgs) -> Option<push::Plan> {
    let asked = &args.push;
    let endpoint = asked.otlp.clone()?;
    Some(push::Plan {
        endpoint: endpoint.with_headers(Headers::join(&asked.otlp_header)),
        instance: asked.otlp_instance.clone(),
        interval: asked.otlp_interval,
        report_interval: args.interval,
        hardlimit_ns: args.hardlimit.map(ns),
    })
}
