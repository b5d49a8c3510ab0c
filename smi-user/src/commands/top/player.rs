//! A recording, snapshot by snapshot, forward and back.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem::{self, size_of},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;

use crate::{
    model::{CauseStats, CpuSnapshot, Gap, Header, Snapshot},
    recording::{Line, Reader},
    report::tui::Carried,
};

/// Snapshots kept for going back; farther back means reading from the beginning.
const KEPT: usize = 256;

/// Bytes that they take together; two are kept whatever they take.
const KEPT_BYTES: usize = 64 << 20;

/// What comes next in a recording.
#[derive(Debug)]
pub(super) enum Next {
    /// A snapshot.
    Snapshot(Arc<Snapshot>),
    /// A file or a run begins.
    Header(Box<Header>),
    /// Nothing.
    End,
}

/// A snapshot that was read.
struct Kept {
    snapshot: Arc<Snapshot>,
    /// What the view knew after it of what came before it.
    carried: Carried,
    /// Bytes it takes, about.
    bytes: usize,
}

impl Kept {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        let causes: usize = snapshot.cpus.iter().map(|cpu| cpu.causes.len()).sum();
        let bytes = size_of::<Snapshot>()
            + snapshot.cpus.len() * size_of::<CpuSnapshot>()
            + causes * size_of::<CauseStats>()
            + snapshot.gaps.len() * size_of::<Gap>();
        Self {
            snapshot,
            carried: Carried::default(),
            bytes,
        }
    }
}

/// See the module.
pub(super) struct Player {
    path: PathBuf,
    reader: Reader,
    /// The last ones read.
    kept: VecDeque<Kept>,
    /// Bytes they take.
    bytes: usize,
    /// Snapshots read from the file.
    read: u64,
    /// Snapshots given out.
    position: u64,
    /// How many there are, once the end was reached.
    total: Option<u64>,
    torn: u64,
    /// By file: the last torn line that was told.
    torn_lines: BTreeMap<PathBuf, u64>,
    /// What the reader remarked and was told.
    remarked: BTreeSet<String>,
    /// To be told.
    remarks: Vec<String>,
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
            bytes: 0,
            read: 0,
            position: 0,
            total: None,
            torn: 0,
            torn_lines: BTreeMap::new(),
            remarked: BTreeSet::new(),
            remarks: Vec::new(),
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

    /// What there is to say of the lines since the last call: torn ones, missing ones. Nothing is said twice, however
    /// often the file is read.
    pub(super) fn remarks(&mut self) -> Vec<String> {
        mem::take(&mut self.remarks)
    }

    /// Goes on to the next line that can be read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> Result<Next> {
        if let Some(place) = self.place(self.position + 1) {
            self.position += 1;
            return Ok(Next::Snapshot(Arc::clone(&self.kept[place].snapshot)));
        }
        loop {
            let line = self.reader.next_line();
            for remark in self.reader.remarks() {
                let remark = remark.to_string();
                if self.remarked.insert(remark.clone()) {
                    self.remarks.push(remark);
                }
            }
            return Ok(match line? {
                Some(Line::Snapshot(snapshot)) => {
                    let snapshot = Arc::from(snapshot);
                    self.read += 1;
                    self.position += 1;
                    self.keep(Arc::clone(&snapshot));
                    Next::Snapshot(snapshot)
                }
                Some(Line::Header(header)) => Next::Header(header),
                Some(Line::Torn { number, bytes }) => {
                    self.tell_torn(number, bytes);
                    continue;
                }
                None => {
                    self.total = Some(self.read);
                    Next::End
                }
            });
        }
    }

    fn tell_torn(&mut self, number: u64, bytes: u64) {
        let path = self.reader.path();
        if self
            .torn_lines
            .get(path)
            .is_some_and(|told| number <= *told)
        {
            return;
        }
        self.remarks.push(format!(
            "line {number} of {} ({bytes} bytes) is torn or no snapshot and is left out",
            path.display()
        ));
        self.torn_lines.insert(path.to_owned(), number);
        self.torn += 1;
    }

    /// Where snapshot `number` is kept, if it is.
    fn place(&self, number: u64) -> Option<usize> {
        let from_end = usize::try_from(self.read.checked_sub(number)?).ok()?;
        self.kept.len().checked_sub(from_end + 1)
    }

    fn keep(&mut self, snapshot: Arc<Snapshot>) {
        let kept = Kept::new(snapshot);
        self.bytes += kept.bytes;
        self.kept.push_back(kept);
        while self.kept.len() > KEPT || self.bytes > KEPT_BYTES && self.kept.len() > 2 {
            if let Some(oldest) = self.kept.pop_front() {
                self.bytes -= oldest.bytes;
            }
        }
    }

    /// Keeps what the view knows after the snapshot given out last.
    pub(super) fn carry(&mut self, carried: Carried) {
        if let Some(place) = self.place(self.position) {
            self.kept[place].carried = carried;
        }
    }

    /// Goes back, so that snapshots from as far before number `target` as are at hand come next: all of them must be
    /// taken anew, up to `target`. Returns what was known after the first of them; `None` where that is the first of all.
    ///
    /// # Errors
    /// When the file cannot be read again.
    pub(super) fn rewind(&mut self, target: u64) -> Result<Option<Carried>> {
        let first_kept = self.read - self.kept.len() as u64 + 1;
        // One more, so that what came in the interval is known.
        if target > first_kept || first_kept == 1 {
            self.position = first_kept - 1;
            return Ok(self.kept.front().map(|first| first.carried));
        }
        self.reader = Reader::open(&self.path)?;
        self.kept.clear();
        self.bytes = 0;
        self.read = 0;
        self.position = 0;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;
    use crate::made_up::Machine;

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

    /// Goes on until snapshot `number` comes; returns how many came on the way, and how much was told.
    fn forward(player: &mut Player, number: u64) -> (u64, usize) {
        let mut came = 0;
        loop {
            match player.next().expect("read") {
                Next::Snapshot(snapshot) => {
                    came += 1;
                    assert_eq!(snapshot.interval, player.position());
                    if snapshot.interval == number {
                        return (came, player.remarks().len());
                    }
                }
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
    #[test]
    fn torn_lines_are_told_of_every_part_with_its_name_and_so_is_what_is_missing() {
        let folder = tempfile::tempdir().expect("folder");
        let mut machine = Machine::new(1);
        let mut line = || serde_json::to_string(&*machine.interval(&[])).expect("json");
        let lines: Vec<String> = (0..6).map(|_| line()).collect();
        let torn = &lines[0][..30];
        // The same number in both, and the fourth interval is in neither.
        let parts = [
            (
                "night.1",
                [&lines[0], torn, &lines[1], &lines[2]].join("\n"),
            ),
            ("night", [&lines[4], torn, torn, &lines[5]].join("\n")),
        ];
        for (name, text) in parts {
            std::fs::write(folder.path().join(name), text + "\n").expect("write");
        }
        let mut player = Player::open(&folder.path().join("night")).expect("open");
        for pass in 0..2 {
            let mut told = Vec::new();
            while !matches!(player.next().expect("read"), Next::End) {
                told.extend(player.remarks());
            }
            told.extend(player.remarks());
            if pass == 0 {
                let torn: Vec<_> = told
                    .iter()
                    .filter(|told| told.contains("is torn"))
                    .collect();
                assert_eq!(torn.len(), 3, "{told:?}");
                for (told, [line, file]) in torn.into_iter().zip([
                    ["line 2 of ", "/night.1 (31 bytes)"],
                    ["line 2 of ", "/night (31 bytes)"],
                    ["line 3 of ", "/night (31 bytes)"],
                ]) {
                    assert!(told.starts_with(line) && told.contains(file), "{told}");
                }
                let missing = told
                    .iter()
                    .filter(|told| told.contains("1 snapshots are missing"));
                assert_eq!(missing.count(), 1, "{told:?}");
            } else {
                assert_eq!(told, [""; 0], "told before");
            }
            assert_eq!(player.torn(), 3);
            // From the beginning of the file.
            player.kept.drain(..2);
            player.rewind(1).expect("rewind");
            assert_eq!(player.position(), 0);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_by_what_it_takes() {
        let folder = tempfile::tempdir().expect("folder");
        let mut player = Player::open(&recording(folder.path(), 3)).expect("open");
        let mut machine = Machine::new(1);
        let gaps = vec![(0, 20_000, 0); KEPT_BYTES / size_of::<Gap>() / 3];
        let large = machine.interval(&gaps);
        for _ in 0..5 {
            player.keep(Arc::clone(&large));
        }
        assert_eq!(player.kept.len(), 2, "{} bytes each", player.kept[0].bytes);
        assert!(player.bytes <= KEPT_BYTES);
    }

    #[test]
    fn what_was_known_comes_with_the_way_back() {
        let folder = tempfile::tempdir().expect("folder");
        let all = KEPT as u64 + 100;
        let mut player = Player::open(&recording(folder.path(), all)).expect("open");
        let known = Carried::missing;
        for number in 1..=all {
            forward(&mut player, number);
            player.carry(known(number));
        }
        // Those after the first hundred are kept.
        assert_eq!(player.rewind(all - 10).expect("rewind"), Some(known(101)));
        forward(&mut player, all);
        assert_eq!(player.rewind(50).expect("rewind"), None);
    }
}
