//! What a command that watches does to the machine beside detecting: it limits idle states and measures what SMIs cost, if asked to.

use anyhow::{Error, Result};

use crate::{
    cli::Detection,
    counter::cost::SmiCosts,
    kernel::{changes, dma_latency::DmaLatency, machine},
    model::Snapshot,
    settings::Settings,
};

/// What is in force. Dropping it ends and undoes all of it.
pub(super) struct Beside {
    dma_latency: Option<DmaLatency>,
    costs: Option<SmiCosts>,
}

impl Beside {
    /// Undoes what a killed smilat left changed, whichever settings they are, then does what is asked for.
    ///
    /// # Errors
    /// When something that was asked for cannot be done; then nothing is.
    pub(super) fn begin(asked: &Detection, settings: &Settings) -> Result<Self> {
        let (put_back, failures) = changes::restore_left();
        tell_put_back(&put_back);
        for error in failures {
            let error = Error::from(error);
            log::error!(
                "what a killed smilat left cannot be put back: {error:#}; run smilat restore as root"
            );
        }
        let dma_latency = asked.dma_latency.map(DmaLatency::hold).transpose()?;
        let costs = if asked.smi_cost {
            let costs = SmiCosts::start(&settings.cpus)?;
            tell_put_back(&costs.put_back);
            Some(costs)
        } else {
            None
        };
        Ok(Self { dma_latency, costs })
    }

    /// A line for each, for people.
    pub(super) fn plan(&self) -> String {
        let mut plan = String::new();
        if let Some(limit) = &self.dma_latency {
            plan += &tell_dma_latency(limit, machine::idle_states(0).is_empty());
        }
        if self.costs.is_some() {
            plan += "SMI cost: the CPUs' own counters stand still in SMIs while this runs, for all users of perf \
                     (freeze_on_smi)\n";
        }
        plan
    }

    /// Adds what was measured.
    pub(super) fn add_to(&mut self, snapshot: &mut Snapshot) {
        if let Some(costs) = &mut self.costs {
            for warning in costs.add_to(snapshot) {
                log::warn!("{warning}");
            }
        }
    }

    /// Ends and undoes all of it.
    ///
    /// # Errors
    /// When a setting cannot be put back.
    pub(super) fn end(self) -> Result<()> {
        self.costs.map_or(Ok(()), SmiCosts::stop)
    }
}

fn tell_put_back(settings: &[String]) {
    for what in settings {
        log::warn!("left by a smilat that was killed: {what}");
    }
}

/// What the limit does, and where another process has set a lower one.
fn tell_dma_latency(limit: &DmaLatency, no_states: bool) -> String {
    let us = limit.us();
    let told = match us {
        _ if no_states => {
            return format!(
                "idle: --dma-latency {us} changes nothing here, where the kernel has no idle states to choose among\n"
            );
        }
        0 => "no CPU sleeps".to_owned(),
        _ => format!("no CPU sleeps so deep that it takes more than {us} us to wake up"),
    };
    let lower = match limit.in_force_us() {
        Ok(now) if now < us => format!("; another process has it at {now} us"),
        Ok(_) => String::new(),
        Err(error) => {
            log::warn!("the limit on the latency of idle CPUs cannot be read back: {error}");
            String::new()
        }
    };
    format!("idle: {told} while this runs (--dma-latency {us}){lower}\n")
}
