//! `smilat iommu tree`: groups, their devices, and the bridges above them.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::print::{json, print};
use crate::{
    cli::TreeArgs,
    iommu::{Readiness, readiness, topology},
    report,
};

/// Runs it.
///
/// # Errors
/// When there is no IOMMU or no such device or group, or the outcome cannot be written.
pub(super) fn run(args: &TreeArgs) -> Result<ExitCode> {
    let all = topology::read()?;
    if let Readiness::NoIommu { why, remedy } = readiness(&all) {
        bail!("there are no groups: {why}; {remedy}");
    }
    let topology = topology::select(&all, &args.part)?;
    print(&if args.json {
        json(&topology)?
    } else {
        report::iommu::tree::text(&topology)
    })?;
    Ok(ExitCode::SUCCESS)
}
