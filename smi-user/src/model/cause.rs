//! What is proven of gaps' causes, and by what.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smi_common::cause::{NMI, SETS, SMI, STEAL};

use super::Histogram;

/// The names of single causes.
const NAMES: [(u64, &str); 3] = [(SMI, "smi"), (NMI, "nmi"), (STEAL, "steal")];
/// The name of the empty set.
const UNKNOWN: &str = "unknown";

/// A set of causes, as reports name it: `smi`, `nmi`, `steal`, several of them joined by `+`, or `unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause(u64);

impl Cause {
    /// Nothing is proven.
    pub const UNKNOWN: Self = Self(0);
    /// An SMI alone.
    pub const SMI: Self = Self(SMI);
    /// An NMI alone.
    pub const NMI: Self = Self(NMI);
    /// Steal alone.
    pub const STEAL: Self = Self(STEAL);

    /// The set of these bits of [`smi_common::cause`].
    pub fn of_bits(bits: u64) -> Self {
        Self(bits & (SETS as u64 - 1))
    }

    /// Whether the SMI counter moved.
    pub fn has_smi(self) -> bool {
        self.0 & SMI != 0
    }

    /// Whether nothing is proven.
    pub fn is_unknown(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        f.pad(&if names.is_empty() {
            UNKNOWN.to_owned()
        } else {
            names.join("+")
        })
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == UNKNOWN {
            return Ok(Self(0));
        }
        text.split('+').try_fold(Self(0), |set, part| {
            NAMES
                .iter()
                .find(|(_, name)| *name == part)
                .map(|(bit, _)| Self(set.0 | bit))
                .ok_or_else(|| D::Error::custom(format!("no cause is called {part}")))
        })
    }
}

/// Gaps of one CPU with the same cause, since start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseStats {
    /// What is proven of them.
    pub cause: Cause,
    /// How many.
    pub count: u64,
    /// Sum of their durations.
    pub sum_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// They by duration.
    pub histogram: Histogram,
}

/// How closely a cause is tied to gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// To each gap: compared in the kernel across it.
    Gap,
    /// To the interval between two snapshots only.
    Interval,
    /// Not at all.
    #[default]
    None,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gap => "gap",
            Self::Interval => "interval",
            Self::None => "none",
        })
    }
}

/// What proves causes in this run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// SMIs.
    pub smi: Proof,
    /// NMIs.
    pub nmi: Proof,
    /// Steal.
    pub steal: Proof,
    /// What counts SMIs; `None` when nothing does.
    pub counter: Option<CounterInfo>,
}

/// A counter of SMIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterInfo {
    /// Its name.
    pub name: String,
    /// What is read, for people.
    pub source: String,
    /// Whether it counts every SMI once, by its maker's word.
    pub exact: bool,
    /// What to bear in mind about it.
    pub caveats: Vec<String>,
}

/// SMIs of one CPU since start. CPUs' counts must not be added up: most SMIs stop and count on all CPUs at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SmiCounts {
    /// All, whatever the CPU was doing.
    pub counted: u64,
    /// Those that came while it was sampling; `None` where the counter is not read within the kernel.
    pub sampled: Option<u64>,
    /// Of them, those across gaps: the rest was shorter than the threshold.
    pub in_gaps: Option<u64>,
    /// Readings in the kernel that failed; gaps there have no proven cause.
    pub unread: u64,
}

/// Steal of one CPU while it was sampling, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StealCounts {
    /// All.
    pub sampled_ns: u64,
    /// Across gaps.
    pub in_gaps_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_a_name_that_reads_back() {
        let mut names = Vec::new();
        for bits in 0..SETS as u64 {
            let cause = Cause::of_bits(bits);
            let json = serde_json::to_string(&cause).expect("json");
            assert_eq!(serde_json::from_str::<Cause>(&json).expect("back"), cause);
            names.push(cause.to_string());
        }
        assert_eq!(names[..4], ["unknown", "smi", "nmi", "smi+nmi"]);
        assert_eq!(names[7], "smi+nmi+steal");
        assert!(serde_json::from_str::<Cause>("\"moon\"").is_err());
    }
}
