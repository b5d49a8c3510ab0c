//! One file for each subcommand: orchestration, no kernel details.

pub mod restore;
pub mod run;
