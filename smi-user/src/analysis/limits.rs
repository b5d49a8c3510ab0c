//! How runs stand against their hardlimits: each against its own, or all against the one asked for.

use super::{clock::Clock, notes::Notes};
use crate::{
    model::{Gap, Verdict},
    units::show_ns,
};

/// See the module.
pub(super) struct Limits {
    asked_ns: Option<u64>,
    /// That of the run that goes on.
    now_ns: Option<u64>,
    judged: Vec<Judged>,
    /// Runs without one.
    unjudged: u64,
    below: Notes,
}

/// The runs that were held against one limit.
struct Judged {
    limit_ns: u64,
    max_ns: Option<u64>,
    over: u64,
    /// The longest that was recorded singly, with its position on the time line.
    worst: Option<(i128, Gap)>,
}

impl Judged {
    /// The longest gap by the limit: above 1, the limit was exceeded.
    fn severity(&self) -> f64 {
        self.max_ns.unwrap_or(0) as f64 / self.limit_ns.max(1) as f64
    }

    fn exceeded(&self) -> bool {
        self.max_ns.is_some_and(|max| max > self.limit_ns)
    }
}

impl Limits {
    /// Nothing judged yet. `asked_ns` goes before those in the recording.
    pub(super) fn new(asked_ns: Option<u64>) -> Self {
        Self {
            asked_ns,
            now_ns: asked_ns,
            judged: Vec::new(),
            unjudged: 0,
            below: Notes::default(),
        }
    }

    /// A run begins that was recorded with this limit.
    pub(super) fn run(&mut self, recorded_ns: Option<u64>) {
        self.now_ns = self.asked_ns.or(recorded_ns);
    }

    /// Single gaps of the run.
    pub(super) fn add(&mut self, gaps: &[Gap], clock: &Clock) {
        let Some(limit_ns) = self.now_ns else { return };
        let judged = self.judged(limit_ns);
        for gap in gaps.iter().filter(|gap| gap.duration_ns > limit_ns) {
            judged.over += 1;
            if judged
                .worst
                .is_none_or(|(_, worst)| gap.duration_ns > worst.duration_ns)
            {
                judged.worst = Some((clock.position(gap.end_time), *gap));
            }
        }
    }

    /// The run ended, with this longest gap and highest threshold.
    pub(super) fn end_run(&mut self, max_ns: Option<u64>, threshold_ns: u64) {
        let Some(limit_ns) = self.now_ns else {
            self.unjudged += 1;
            return;
        };
        if limit_ns < threshold_ns {
            self.below.add(|| {
                format!(
                    "the recorded hardlimit {} is below the threshold {}: gaps in between were dropped in the kernel and are \
                     not judged",
                    show_ns(limit_ns as f64),
                    show_ns(threshold_ns as f64)
                )
            });
        }
        let judged = self.judged(limit_ns);
        judged.max_ns = judged.max_ns.max(max_ns);
    }

    fn judged(&mut self, limit_ns: u64) -> &mut Judged {
        let known = self.judged.iter().position(|of| of.limit_ns == limit_ns);
        let at = known.unwrap_or_else(|| {
            self.judged.push(Judged {
                limit_ns,
                max_ns: None,
                over: 0,
                worst: None,
            });
            self.judged.len() - 1
        });
        &mut self.judged[at]
    }

    /// What is worst, and what to know of it.
    pub(super) fn finish(mut self, clock: &Clock, remarks: &mut Vec<String>) -> Option<Verdict> {
        self.below
            .finish("runs with a hardlimit below their threshold", remarks);
        self.judged.sort_by_key(|of| of.limit_ns);
        if self.judged.len() > 1 {
            let each: Vec<String> = self
                .judged
                .iter()
                .map(|of| {
                    format!(
                        "{} {}",
                        show_ns(of.limit_ns as f64),
                        if of.exceeded() { "exceeded" } else { "kept" }
                    )
                })
                .collect();
            remarks.push(format!(
                "runs were recorded with different hardlimits, and each is held against its own: {}",
                each.join(", ")
            ));
        }
        if self.unjudged > 0 && !self.judged.is_empty() {
            remarks.push(format!(
                "{} of the runs were recorded without a hardlimit and are not judged; give --hardlimit to judge all",
                self.unjudged
            ));
        }
        let over = self.judged.iter().map(|of| of.over).sum();
        self.judged
            .into_iter()
            .max_by(|a, b| a.severity().total_cmp(&b.severity()))
            .map(|worst| Verdict {
                exceeded: worst.exceeded(),
                hardlimit_ns: worst.limit_ns,
                max_ns: worst.max_ns,
                over,
                worst: worst.worst.map(|(position, gap)| Gap {
                    end_time: clock.time(position),
                    ..gap
                }),
            })
    }
}
