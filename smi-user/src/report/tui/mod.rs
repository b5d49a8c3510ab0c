//! The live view: from snapshots and the user's wishes to frames. Nothing here knows a terminal or a clock.

mod charts;
mod data;
mod draw;
mod header;
mod lists;
mod replay;
mod rows;
mod state;
mod table;
mod theme;
mod threshold;

#[cfg(test)]
pub(crate) mod frames;

pub use data::Carried;
pub use draw::draw;
pub(super) use draw::{fitting, panel};
pub use replay::Replay;
pub use rows::Column;
pub use state::{Action, Popup, State, Subject};
pub use theme::Theme;
pub use threshold::{Direction, step};
