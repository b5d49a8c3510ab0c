//! Remarks of one kind: the first few in words, the rest counted.

/// Told one by one of each kind.
const TOLD: usize = 3;

/// See the module.
#[derive(Default)]
pub(super) struct Notes {
    told: Vec<String>,
    more: u64,
}

impl Notes {
    /// Adds one.
    pub(super) fn add(&mut self, note: impl FnOnce() -> String) {
        if self.told.len() < TOLD {
            self.told.push(note());
        } else {
            self.more += 1;
        }
    }

    /// All of them; `more` names what is not told one by one.
    pub(super) fn finish(self, more: &str, remarks: &mut Vec<String>) {
        remarks.extend(self.told);
        if self.more > 0 {
            remarks.push(format!("{} more {more}", self.more));
        }
    }
}
