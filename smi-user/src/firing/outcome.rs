//! What came of writes to the port, by the word of a counter.

use super::{Order, Writes};

/// Counts of one CPU, before the first write and after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The CPU.
    pub cpu: u32,
    /// SMIs before.
    pub before: u64,
    /// SMIs after; `None` when they could not be read any more.
    pub after: Option<u64>,
}

impl Moved {
    /// By how much.
    pub fn by(&self) -> Option<u64> {
        self.after.map(|after| after.saturating_sub(self.before))
    }
}

/// The counter, as far as a reader of the outcome needs it.
#[derive(Clone, Debug)]
pub struct Counted {
    /// What was read.
    pub source: &'static str,
    /// What to bear in mind about it.
    pub caveats: Vec<&'static str>,
    /// Whether it counts every SMI once, by its maker's word.
    pub exact: bool,
    /// Each CPU's counts, by CPU.
    pub cpus: Vec<Moved>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was to be done.
    pub order: Order,
    /// What was done.
    pub writes: Writes,
    /// What was counted; why nothing was, where there is no counter.
    pub counted: Result<Counted, String>,
}

/// What the counter proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As many SMIs as writes, on the CPU that wrote.
    Proven,
    /// Another number of them.
    Differs {
        /// SMIs counted on the CPU that wrote.
        moved: u64,
    },
    /// The CPU that wrote has a counter, but it could not be read afterwards.
    Unread,
    /// There is no counter to tell.
    NoCounter,
}

impl Outcome {
    /// See [`Verdict`].
    pub fn verdict(&self) -> Verdict {
        let Ok(counted) = &self.counted else {
            return Verdict::NoCounter;
        };
        let writer = counted.cpus.iter().find(|one| one.cpu == self.order.cpu);
        match writer.and_then(Moved::by) {
            None => Verdict::Unread,
            Some(moved) if moved == self.writes.count => Verdict::Proven,
            Some(moved) => Verdict::Differs { moved },
        }
    }

    /// The CPU whose count moved most, where that of more than one moved: such SMIs came to several CPUs at once.
    pub fn highest_of_several(&self) -> Option<Moved> {
        let cpus = self.counted.as_ref().ok()?.cpus.iter();
        let moved: Vec<&Moved> = cpus.filter(|one| one.by() > Some(0)).collect();
        let highest = moved.iter().max_by_key(|one| one.by())?;
        (moved.len() > 1).then_some(**highest)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// Three writes on CPU 0, with these counts before and after on CPUs 0, 1 and so on.
    pub(crate) fn outcome(counts: &[(u64, Option<u64>)]) -> Outcome {
        Outcome {
            order: Order {
                count: 3,
                interval: Duration::from_millis(100),
                value: 0,
                cpu: 0,
            },
            writes: Writes {
                count: 3,
                min_ns: 3_000,
                max_ns: 9_000,
                sum_ns: 15_000,
            },
            counted: Ok(Counted {
                source: "a counter",
                caveats: vec!["to bear in mind"],
                exact: true,
                cpus: (0..)
                    .zip(counts)
                    .map(|(cpu, (before, after))| Moved {
                        cpu,
                        before: *before,
                        after: *after,
                    })
                    .collect(),
            }),
        }
    }

    #[test]
    fn only_the_exact_number_on_the_writing_cpu_is_a_proof() {
        for (counts, verdict) in [
            (&[(7, Some(10)), (2, Some(2))][..], Verdict::Proven),
            (&[(7, Some(10)), (2, Some(5))], Verdict::Proven),
            (&[(7, Some(7)), (2, Some(5))], Verdict::Differs { moved: 0 }),
            (
                &[(7, Some(11)), (2, Some(2))],
                Verdict::Differs { moved: 4 },
            ),
            (&[(7, None), (2, Some(5))], Verdict::Unread),
            (&[], Verdict::Unread),
        ] {
            assert_eq!(outcome(counts).verdict(), verdict, "{counts:?}");
        }
        let uncounted = Outcome {
            counted: Err("no counter".to_owned()),
            ..outcome(&[])
        };
        assert_eq!(uncounted.verdict(), Verdict::NoCounter);
    }

    #[test]
    fn counts_of_several_cpus_give_a_maximum_not_a_sum() {
        let highest = |counts: &[_]| {
            outcome(counts)
                .highest_of_several()
                .map(|one| (one.cpu, one.by()))
        };
        assert_eq!(highest(&[(0, Some(3)), (0, Some(4))]), Some((1, Some(4))));
        assert_eq!(highest(&[(0, Some(3)), (9, Some(9))]), None);
        assert_eq!(highest(&[(0, None), (9, None)]), None);
    }
}
