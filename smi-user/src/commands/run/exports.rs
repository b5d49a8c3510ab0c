//! Ways out that take the newest snapshot when they want it: made before anything is done to the machine, so that what
//! cannot be had stops a run before it begins.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use jiff::Timestamp;

use super::super::listen::listen;
use crate::{
    cli::{PushArgs, RunArgs},
    model::Snapshot,
    push::{self, Headers, Push},
    report::prometheus::About,
    serve::{GapPages, Server},
    units::ns,
};

/// See the module.
pub(super) struct Exports {
    server: Option<(Server, GapPages)>,
    push: Option<Push>,
}

impl Exports {
    /// Takes hold of all that `args` ask for.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(super) fn prepare(args: &RunArgs) -> Result<Self> {
        Ok(Self {
            server: server(args)?,
            push: push_plan(args).map(Push::start).transpose()?,
        })
    }

    /// Makes `snapshot` the newest.
    pub(super) fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        if let Some((server, pages)) = &mut self.server {
            server.publish(pages.page(snapshot));
        }
        if let Some(push) = &self.push {
            push.publish(snapshot);
        }
    }

    /// From now on, a snapshot comes every `interval`, if another is given, and pushes are made as `asked`; where to stays
    /// as it is. Both have been checked.
    pub(super) fn set(&mut self, interval: Option<Duration>, asked: Option<&PushArgs>) {
        if let (Some((server, _)), Some(interval)) = (&self.server, interval) {
            server.set_interval(interval);
        }
        if let Some(push) = &mut self.push
            && (interval.is_some() || asked.is_some())
        {
            let change = asked.map(|asked| push::Change {
                interval: asked.otlp_interval,
                headers: Headers::join(&asked.otlp_header),
            });
            if let Err(error) = push.set(interval, change) {
                log::error!("pushes go on as before: {error:#}");
            }
        }
    }

    /// Waits, for a bounded time, until those who are to get the last snapshot have it. Who asks goes on being answered.
    pub(super) async fn finish(&mut self) {
        if let Some(push) = self.push.take() {
            push.finish().await;
        }
    }
}

/// The server of metrics, if one is asked for, at work.
fn server(args: &RunArgs) -> Result<Option<(Server, GapPages)>> {
    let Some(address) = args.listen else {
        return Ok(None);
    };
    let about = About {
        started: Timestamp::now(),
        hardlimit: args.hardlimit,
        per_cpu_histograms: args.per_cpu_histograms,
    };
    let server = listen(address, args.interval, args.quiet)?;
    Ok(Some((server, GapPages::new(about))))
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
