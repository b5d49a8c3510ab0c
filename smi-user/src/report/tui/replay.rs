//! Where in a recording the view is.

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Number of the snapshot shown, from 1.
    pub position: u64,
    /// How many there are; `None` until the end was reached once.
    pub total: Option<u64>,
    /// How much faster than it was recorded.
    pub speed: u32,
    /// It stands still.
    pub paused: bool,
    /// Lines that could not be read so far.
    pub torn: u64,
}

impl Replay {
    /// As the header says it.
    pub(super) fn text(&self) -> String {
        let total = self
            .total
            .map_or_else(String::new, |total| format!(" of {total}"));
        let state = if self.total == Some(self.position) {
            "at the end".to_owned()
        } else if self.paused {
            "paused".to_owned()
        } else {
            format!("playing {}x", self.speed)
        };
        let torn = match self.torn {
            0 => String::new(),
            1 => ", 1 torn line left out".to_owned(),
            torn => format!(", {torn} torn lines left out"),
        };
        format!("snapshot {}{total}, {state}{torn}", self.position)
    }
}
