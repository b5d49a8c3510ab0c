//! Watches what is mapped and unmapped in the IOMMU, and for whom.

mod domains;
mod facts;
mod watching;

pub use domains::{Domains, InUse, kind};
pub use watching::{Own, Watching};
