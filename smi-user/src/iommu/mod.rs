//! Watches what is mapped and unmapped in the IOMMU, and for whom.
