//! Pages of snapshots of gaps.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{pages::Page, recent::Recent};
use crate::{
    model::Snapshot,
    report::prometheus::{self, About, EncodeError, Form, Served},
};

/// Makes them, one after the other.
pub struct GapPages {
    about: Arc<About>,
    recent: Recent,
}

impl GapPages {
    /// Of a run.
    pub fn new(about: About) -> Self {
        Self {
            about: Arc::new(about),
            recent: Recent::default(),
        }
    }

    /// The page of `snapshot`, which comes after those before.
    pub fn page(&mut self, snapshot: &Arc<Snapshot>) -> Arc<dyn Page> {
        self.recent.add(snapshot);
        Arc::new(GapPage {
            snapshot: Arc::clone(snapshot),
            about: Arc::clone(&self.about),
            recent_max_ns: self.recent.longest(),
        })
    }
}

struct GapPage {
    snapshot: Arc<Snapshot>,
    about: Arc<About>,
    recent_max_ns: BTreeMap<u32, u64>,
}

impl Page for GapPage {
    fn interval(&self) -> u64 {
        self.snapshot.interval
    }

    fn is_last(&self) -> bool {
        self.snapshot.last
    }

    fn encode(&self, form: Form, connections_displaced: u64) -> Result<Bytes, EncodeError> {
        let served = Served {
            recent_max_ns: self.recent_max_ns.clone(),
            connections_displaced,
        };
        prometheus::encode(form, &self.snapshot, &self.about, &served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::prometheus::tests::snapshot;

    #[test]
    fn a_gap_that_no_scrape_of_its_interval_saw_is_told() {
        let mut pages = GapPages::new(About {
            started: jiff::Timestamp::now(),
            hardlimit: None,
            per_cpu_histograms: false,
        });
        let mut newest = None;
        for (number, max_ns) in [(1, Some(7_000_000)), (2, None)] {
            let mut one = snapshot();
            one.interval = number;
            one.elapsed_ns = number * 1_000_000_000;
            one.cpus[1].gaps.interval_max_ns = max_ns;
            newest = Some(pages.page(&Arc::new(one)));
        }
        let page = newest.expect("a page").encode(Form::Text, 0).expect("text");
        let text = String::from_utf8(page.to_vec()).expect("UTF-8");
        for line in [
            "smilat_gap_interval_max_seconds{cpu=\"3\"} 0",
            "smilat_gap_recent_max_seconds{cpu=\"3\"} 0.007",
        ] {
            assert!(text.lines().any(|had| had == line), "no {line} in\n{text}");
        }
    }
}
