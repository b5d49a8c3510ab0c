//! stub
use jiff::tz::TimeZone;
use crate::model::{Comparison, Summary};
/// stub
pub fn summaries(s: &[Summary], c: &[Comparison], colour: bool, zone: &TimeZone) -> String { let _ = (c, colour, zone); format!("{}\n", s.len()) }
