//! The kernel side of smilat: one file for each attach point, one recording path for all of them.
//!
//! The programs are named in `bin/`, so that the shipped object and the one used only by tests share this code.

#![no_std]

pub mod causes;
pub mod hwlat;
pub mod iommu;
pub mod irqsoff;
pub mod maps;
mod memory;
pub mod osnoise;
pub mod record;
pub mod spin;
pub mod turns;
