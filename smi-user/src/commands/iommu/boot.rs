//! `smilat iommu boot`: what happened before any program could look.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::print::{json, print};
use crate::{
    cli::BootArgs,
    iommu::{boot, topology},
    model::iommu_boot::SourceState,
    report,
};

/// Runs it.
///
/// # Errors
/// When nothing can be found out, there is no IOMMU that anything could be told of, or the outcome cannot be written.
pub(super) fn run(args: BootArgs) -> Result<ExitCode> {
    let topology = topology::read()?;
    let boot = boot::read(&topology);
    if let (SourceState::Unreadable { why: trace }, SourceState::Unreadable { why: log }) =
        (&boot.trace, &boot.log)
    {
        bail!("neither the trace buffer nor the kernel log can be read: {trace}; {log}");
    }
    if topology.groups.is_empty()
        && boot.events.is_empty()
        && let Some(readiness) = &boot.readiness
    {
        bail!("no IOMMU was set up at boot: {readiness}");
    }
    print(&if args.json {
        json(&boot)?
    } else {
        report::iommu::boot::text(&boot)
    })?;
    Ok(ExitCode::SUCCESS)
}
