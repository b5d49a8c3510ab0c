//! Finds stretches in which software kept CPUs from being interrupted or preempted.

mod claim;
mod counts;
pub mod events;
mod exemptions;
mod facts;
mod limit;
#[cfg(test)]
pub(crate) mod made_up;
mod picture;
mod probe;
mod settings;
mod watching;

pub use claim::{Claim, ClaimError};
pub use counts::counts;
pub use exemptions::{Exemption, Exemptions};
pub use limit::Limit;
pub use picture::Picture;
pub use settings::{Level, Settings, SettingsError, Threshold};
pub use watching::Watching;
