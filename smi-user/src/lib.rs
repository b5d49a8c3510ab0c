//! smilat finds the time that firmware and hardware steal from Linux.
//!
//! Data flows one way: BPF programs count in maps, [`collector`] makes a snapshot of them once an interval, and
//! [`report`] renders it. See `ARCHITECTURE.md`.

pub mod analysis;
pub mod attribution;
pub mod bpf;
pub mod cli;
pub mod collector;
pub mod commands;
pub mod config;
pub mod counter;
pub mod detector;
pub mod doctor;
pub mod firing;
pub mod iommu;
pub mod irqsoff;
pub mod kernel;
#[cfg(test)]
mod made_up;
pub mod model;
mod output;
pub mod push;
pub mod recording;
pub mod report;
pub mod serve;
pub mod settings;
pub mod units;
pub mod verifying;
mod waiting;
