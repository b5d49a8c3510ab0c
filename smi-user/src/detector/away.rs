//! Watched CPUs that are offline: each is told once when it goes and once when it is back.

use std::collections::BTreeSet;

/// Those that were told to be offline.
#[derive(Debug, Default)]
pub(super) struct Away(BTreeSet<u32>);

impl Away {
    /// Notes that `cpu` is offline, or is not; what to tell the user if that is new. `loss` says what becomes of its
    /// windows meanwhile.
    pub(super) fn note(&mut self, cpu: u32, offline: bool, loss: &str) -> Option<String> {
        if offline {
            self.0
                .insert(cpu)
                .then(|| format!("CPU {cpu} went offline; {loss} until it is back"))
        } else {
            self.0
                .remove(&cpu)
                .then(|| format!("CPU {cpu} is back online"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_and_coming_are_told_once() {
        let mut away = Away::default();
        let mut told = |offline| away.note(1, offline, "it is not watched");
        assert_eq!(told(false), None);
        let gone = told(true).expect("told");
        assert_eq!(
            gone,
            "CPU 1 went offline; it is not watched until it is back"
        );
        assert_eq!(told(true), None);
        assert_eq!(told(false).expect("told"), "CPU 1 is back online");
        assert_eq!(told(false), None);
    }
}
