//! A recording, snapshot by snapshot, forward and back.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;

use crate::{
    model::{Header, Snapshot},
    recording::{Line, Reader},
};

/// Snapshots kept for going back; farther back means reading from the beginning.
const KEPT: usize = 256;

/// CPUs whose snapshots are kept, all snapshots together: some 64 MB.
const KEPT_CPUS: usize = 16_384;

/// What comes next in a recording.
#[derive(Debug)]
pub(super) enum Next {
    /// A snapshot.
    Snapshot(Arc<Snapshot>),
    /// A file or a run begins.
    Header(Box<Header>),
    /// A line that cannot be read, told the first time only.
    Torn(String),
    /// Nothing.
    End,
}

/// See the module.
pub(super) struct Player {
    path: PathBuf,
    reader: Reader,
    /// The last ones read.
    kept: VecDeque<Arc<Snapshot>>,
    /// Snapshots read from the file.
    read: u64,
    /// Snapshots given out.
    position: u64,
    /// How many there are, once the end was reached.
    total: Option<u64>,
    torn: u64,
    last_torn_line: u64,
}

impl Player {
    /// Before the first snapshot of `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            reader: Reader::open(path)?,
            kept: VecDeque::new(),
            read: 0,
            position: 0,
            total: None,
            torn: 0,
            last_torn_line: 0,
        })
    }

    /// Number of the snapshot given out last, from 1.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How many there are, once the end was reached.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Lines that could not be read.
    pub(super) fn torn(&self) -> u64 {
        self.torn
    }

    /// Goes on by one line.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> Result<Next> {
        let behind = usize::try_from(self.read - self.position).unwrap_or(usize::MAX);
        if behind > 0
            && let Some(snapshot) = self
                .kept
                .len()
                .checked_sub(behind)
                .and_then(|at| self.kept.get(at))
        {
            self.position += 1;
            return Ok(Next::Snapshot(Arc::clone(snapshot)));
        }
        Ok(match self.reader.next_line()? {
            Some(Line::Snapshot(snapshot)) => {
                let snapshot = Arc::from(snapshot);
                self.read += 1;
                self.position += 1;
                self.keep(Arc::clone(&snapshot));
                Next::Snapshot(snapshot)
            }
            Some(Line::Header(header)) => Next::Header(header),
            Some(Line::Torn { number, bytes }) => {
                if number <= self.last_torn_line {
                    return self.next();
                }
                self.last_torn_line = number;
                self.torn += 1;
                Next::Torn(format!(
                    "line {number} ({bytes} bytes) is torn or no snapshot and is left out"
                ))
            }
            None => {
                self.total = Some(self.read);
                Next::End
            }
        })
    }

    fn keep(&mut self, snapshot: Arc<Snapshot>) {
        let most = (KEPT_CPUS / snapshot.cpus.len().max(1)).clamp(2, KEPT);
        self.kept.push_back(snapshot);
        while self.kept.len() > most {
            self.kept.pop_front();
        }
    }

    /// Goes back, so that snapshots from as far before number `target` as are at hand come next: all of them must be
    /// taken anew, up to `target`.
    ///
    /// # Errors
    /// When the file cannot be read again.
    pub(super) fn rewind(&mut self, target: u64) -> Result<()> {
        let first_kept = self.read - self.kept.len() as u64 + 1;
        // One more, so that what came in the interval is known.
        if target > first_kept || first_kept == 1 {
            self.position = first_kept - 1;
            return Ok(());
        }
        self.reader = Reader::open(&self.path)?;
        self.kept.clear();
        self.read = 0;
        self.position = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;
    use crate::report::tui::machine::Machine;

    /// A recording of so many snapshots, with a torn line after the second.
    fn recording(folder: &Path, snapshots: u64) -> PathBuf {
        let path = folder.join("recording");
        let mut file = File::create(&path).expect("create");
        let mut machine = Machine::new(1);
        for number in 1..=snapshots {
            let line = serde_json::to_string(&*machine.interval(&[(0, 20_000, 0)])).expect("json");
            writeln!(file, "{line}").expect("write");
            if number == 2 {
                writeln!(file, "{}", &line[..30]).expect("write");
            }
        }
        path
    }

    /// Goes on until snapshot `number` comes; returns how many came on the way, and torn lines that were told.
    fn forward(player: &mut Player, number: u64) -> (u64, u64) {
        let (mut came, mut torn) = (0, 0);
        loop {
            match player.next().expect("read") {
                Next::Snapshot(snapshot) => {
                    came += 1;
                    assert_eq!(snapshot.interval, player.position());
                    if snapshot.interval == number {
                        return (came, torn);
                    }
                }
                Next::Torn(_) => torn += 1,
                Next::Header(_) => {}
                Next::End => panic!("the end at {}", player.position()),
            }
        }
    }

    #[test]
    fn a_short_way_back_needs_no_reading_and_a_long_one_begins_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let all = KEPT as u64 + 100;
        let mut player = Player::open(&recording(folder.path(), all)).expect("open");
        assert_eq!(forward(&mut player, all), (all, 1));
        assert_eq!(player.total(), None);
        assert!(matches!(player.next().expect("read"), Next::End));
        assert_eq!(player.total(), Some(all));

        player.rewind(all - 10).expect("rewind");
        assert_eq!(player.position(), 100, "the first that is kept comes next");
        assert_eq!(forward(&mut player, all - 10).0, KEPT as u64 - 10);
        assert_eq!(forward(&mut player, all).0, 10);

        player.rewind(50).expect("rewind");
        assert_eq!(player.position(), 0);
        // The torn line was told before.
        assert_eq!(forward(&mut player, 50), (50, 0));
        assert_eq!(player.torn(), 1);
        assert_eq!(player.total(), Some(all));
        player.rewind(49).expect("rewind");
        assert_eq!(forward(&mut player, 49).0, 49);
    }
}
