//! What grows with months and nodes, made of a short recording: see [`crate::replay`].

mod packed;
mod pages;
mod scrapes;

use std::{io, path::Path};

use jiff::SignedDuration;
use smi_user::{
    kernel::cpus::CpuList,
    model::{CounterInfo, CpuSnapshot, Header, Proof, SmiCounts, Snapshot},
    recording::{Line, Reader},
};

use crate::replay::{advance, replay};

pub use packed::{Packed, packed};
pub use pages::{Size, text};
pub use scrapes::scrapes;

/// What went wrong, for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A recording that is to be made longer.
pub struct Short {
    header: Header,
    snapshots: Vec<Snapshot>,
}

/// How long it is to become.
#[derive(Clone, Copy, Debug)]
pub struct Long {
    /// Snapshots.
    pub count: u64,
    /// From one to the next.
    pub interval: SignedDuration,
}

impl Short {
    /// Reads one.
    ///
    /// # Errors
    /// When it cannot be read, or is too short.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let mut reader = Reader::open(path)?;
        let mut header = None;
        let mut snapshots = Vec::new();
        while let Some(line) = reader.next_line()? {
            match line {
                Line::Header(read) => header = Some(*read),
                // The last interval may be shorter than the others.
                Line::Snapshot(snapshot) if !snapshot.last => snapshots.push(*snapshot),
                _ => {}
            }
        }
        let header = header.ok_or_else(|| format!("{} has no header", path.display()))?;
        if snapshots.len() < 2 {
            return Err(format!("{} has fewer than two whole intervals", path.display()).into());
        }
        Ok(Self { header, snapshots })
    }

    /// Writes the long recording.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, long: Long, to: &mut impl io::Write) -> io::Result<()> {
        let header = Header {
            interval_ns: u64::try_from(long.interval.as_nanos()).unwrap_or(u64::MAX),
            ..self.header.clone()
        };
        replay(
            Some(&header),
            &self.snapshots,
            long.count,
            long.interval,
            to,
        )
    }

    /// The last snapshot of the long recording; of one of a single snapshot the first of this one.
    ///
    /// # Errors
    /// None: nothing is written.
    pub fn last(&self, long: Long) -> io::Result<Snapshot> {
        let mut last = self.snapshots[0].clone();
        self.each(long, |snapshot| {
            if snapshot.last {
                last = snapshot.clone();
            }
            Ok(())
        })?;
        Ok(last)
    }

    /// Passes on each snapshot of the long recording.
    fn each(&self, long: Long, each: impl FnMut(&Snapshot) -> io::Result<()>) -> io::Result<()> {
        advance(&self.snapshots, long.count, long.interval, each)
    }
}

/// `snapshot` as if its machine had so many CPUs: those it has, over and over. Where nothing counts SMIs, a counter does that
/// counts one a minute, as Intel's would: without it a page has fewer series than on most machines.
fn widened(snapshot: &Snapshot, cpus: u32) -> Snapshot {
    let mut wide = snapshot.clone();
    let minutes = snapshot.elapsed_ns / 60_000_000_000;
    let smis = SmiCounts {
        counted: minutes,
        sampled: Some(minutes / 100),
        in_gaps: Some(minutes / 100),
        unread: 0,
    };
    let had = snapshot.cpus.iter().cycle();
    let cpus = (0..cpus).zip(had).map(|(number, cpu)| CpuSnapshot {
        cpu: number,
        smis: cpu.smis.or(Some(smis)),
        ..cpu.clone()
    });
    wide.cpus = cpus.collect();
    let numbers = wide.cpus.iter().map(|cpu| cpu.cpu);
    wide.detector.cpus = numbers.collect::<CpuList>().to_string();
    if wide.attribution.counter.is_none() {
        wide.attribution.smi = Proof::Gap;
        wide.attribution.counter = Some(CounterInfo {
            name: "msr/smi".to_owned(),
            source: "made up".to_owned(),
            exact: true,
            caveats: Vec::new(),
        });
    }
    wide
}
