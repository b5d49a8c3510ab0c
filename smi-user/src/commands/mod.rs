//! One file for each subcommand: orchestration, no kernel details.

mod beside;
pub mod doctor;
pub mod documents;
pub mod fire;
pub mod iommu;
pub mod irqsoff;
pub mod report;
pub mod restore;
pub mod run;
pub mod top;
pub mod verify;

mod failures;
mod listen;
mod messages;
mod signals;
mod times;
mod watch;

pub use messages::tell_failure;
