//! Watches what is mapped and unmapped in the IOMMU, and for whom.

#[cfg(test)]
pub(crate) mod made_up;
