use std::{fs, path::PathBuf};

use super::*;
use crate::{
    made_up,
    recording::{Line, Reader, samples},
};

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        // In memory where that can be: thousands of files are made here.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.expect("folder");
        let path = folder.path().join("gaps.ndjson");
        Self {
            _folder: folder,
            path,
        }
    }

    fn begin(&self, size: u64, keep: u64) -> Writer {
        let claim = Claim::take(&self.path).expect("it is free");
        Writer::begin(claim, Rotation { size, keep }, made_up::header()).expect("begun")
    }

    /// Names of the files, and the numbers of intervals in each, oldest first; `-` for a header and `!` for a torn line.
    fn told(&self) -> Vec<String> {
        let mut reader = Reader::open(&self.path).expect("it opens");
        let mut files: Vec<(PathBuf, Vec<String>)> = Vec::new();
        while let Some(line) = reader.next_line().expect("a line") {
            if files.last().is_none_or(|(path, _)| path != reader.path()) {
                files.push((reader.path().to_owned(), Vec::new()));
            }
            let (_, told) = files.last_mut().expect("pushed");
            told.push(match line {
                Line::Header(header) => format!("-{}", header.part),
                Line::Snapshot(snapshot) => snapshot.interval.to_string(),
                Line::Torn { bytes, .. } => format!("!{bytes}"),
            });
        }
        let base = self.path.to_string_lossy().into_owned();
        files
            .iter()
            .map(|(path, told)| {
                let name = path.to_string_lossy().replace(&base, "r");
                format!("{name}: {}", told.join(" "))
            })
            .collect()
    }

    fn names(&self) -> Vec<String> {
        let folder = self.path.parent().expect("a folder");
        let entries = fs::read_dir(folder)
            .expect("read")
            .map(|entry| entry.expect("entry"));
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .replace("gaps.ndjson", "r")
            })
            .collect();
        names.sort();
        names
    }
}

impl Writer {
    /// As the thread that records does at the end.
    fn finish(mut self) -> io::Result<()> {
        let synced = self.sync_all();
        self.end();
        synced
    }
}

fn append(writer: &mut Writer, interval: u64) -> io::Result<()> {
    let interval_ns = writer.header.interval_ns;
    writer.append(&samples::line(interval), interval_ns)
}

/// Writes intervals and lets each compression end, so that files are put aside when they are full.
fn write(writer: &mut Writer, intervals: impl IntoIterator<Item = u64>) {
    for interval in intervals {
        append(writer, interval).expect("appended");
        writer.collect();
    }
}

/// Room for a header and two snapshots.
fn two() -> u64 {
    (samples::header(10).len() + 2 * samples::line(1).len()) as u64 + 10
}

#[test]
fn full_files_move_up_and_only_so_many_are_kept() {
    let place = Place::new();
    let mut writer = place.begin(two(), 3);
    write(&mut writer, 1..=3);
    assert_eq!(place.told(), ["r.1.gz: -1 1 2", "r: -2 3"]);
    write(&mut writer, 4..=11);
    writer.finish().expect("finished");
    assert_eq!(
        place.told(),
        [
            "r.3.gz: -3 5 6",
            "r.2.gz: -4 7 8",
            "r.1.gz: -5 9 10",
            "r: -6 11"
        ]
    );
    assert_eq!(place.names(), ["r", "r.1.gz", "r.2.gz", "r.3.gz"]);
}

#[test]
fn a_file_that_others_shorten_or_add_to_goes_on_with_whole_lines() {
    let place = Place::new();
    let mut writer = place.begin(1 << 20, 1);
    write(&mut writer, 1..=2);
    let file = fs::File::options()
        .append(true)
        .open(&place.path)
        .expect("open");
    let whole = file.metadata().expect("there").len();
    file.set_len(whole - 10).expect("shortened");
    write(&mut writer, [3]);
    let torn = samples::line(2).len() - 10;
    assert_eq!(place.told(), [format!("r: -1 1 !{torn} -2 3")]);
    io::Write::write_all(&mut &file, &samples::line(9)).expect("added");
    write(&mut writer, [4]);
    file.set_len(0).expect("emptied");
    write(&mut writer, [5]);
    assert_eq!(place.told(), ["r: -4 5"]);
}

#[test]
fn with_none_or_one_to_keep_the_rest_is_deleted() {
    for (keep, told) in [(0, vec!["r: -3 5"]), (1, vec!["r.1.gz: -2 3 4", "r: -3 5"])] {
        let place = Place::new();
        let mut writer = place.begin(two(), keep);
        write(&mut writer, 1..=5);
        writer.finish().expect("finished");
        assert_eq!(place.told(), told);
    }
}

#[test]
fn fewer_to_keep_than_there_are_deletes_the_oldest() {
    let place = Place::new();
    let mut writer = place.begin(two(), 5);
    write(&mut writer, 1..=9);
    writer.finish().expect("finished");
    assert_eq!(place.names(), ["r", "r.1.gz", "r.2.gz", "r.3.gz", "r.4.gz"]);
    let mut writer = place.begin(two(), 2);
    write(&mut writer, 1..=2);
    writer.finish().expect("finished");
    assert_eq!(
        place.told(),
        ["r.2.gz: -4 7 8", "r.1.gz: -5 9 -1", "r: -2 1 2"]
    );
}

#[test]
fn a_line_longer_than_a_file_gets_one_of_its_own() {
    let place = Place::new();
    let mut writer = place.begin(10, 5);
    write(&mut writer, 1..=2);
    writer.finish().expect("finished");
    assert_eq!(place.told(), ["r.1.gz: -1 1", "r: -2 2"]);
}

#[test]
fn the_next_run_is_added_after_the_last_line_torn_at_any_byte() {
    let before = [samples::header(1), samples::line(1)].concat();
    let last = samples::line(2);
    for kept in 0..=last.len() {
        let place = Place::new();
        fs::write(&place.path, [&before[..], &last[..kept]].concat()).expect("written");
        let mut writer = place.begin(1 << 20, 1);
        write(&mut writer, [1]);
        drop(writer);
        let expected = match kept {
            0 => "r: -1 1 -1 1".to_owned(),
            kept if kept + 1 >= last.len() => "r: -1 1 2 -1 1".to_owned(),
            kept => format!("r: -1 1 !{kept} -1 1"),
        };
        assert_eq!(place.told(), [expected], "{kept}");
        // Other programs can read each line, too.
        let text = fs::read_to_string(&place.path).expect("text");
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        }
    }
}

#[test]
fn a_last_line_longer_than_a_block_is_cut_off_too() {
    let place = Place::new();
    let torn = [&b"{\"schema_version\":1,"[..], &vec![b' '; 200_000]].concat();
    fs::write(&place.path, [&samples::line(1)[..], &torn].concat()).expect("written");
    place.begin(1 << 20, 1).finish().expect("finished");
    assert_eq!(place.told(), [format!("r: 1 !{} -1", torn.len())]);
}

#[test]
fn what_is_no_recording_is_left_as_it_is() {
    for text in [
        &b"precious"[..],
        b"{\"precious\":1}\n",
        b"\x1f\x8b",
        b"\0",
        b"{\"schema_version\":2}\n",
    ] {
        let place = Place::new();
        fs::write(&place.path, text).expect("written");
        let refused = Claim::take(&place.path).err().expect("refused");
        let refused = format!("{refused:#}");
        assert!(refused.contains("move this one away"), "{refused}");
        assert_eq!(fs::read(&place.path).expect("read"), text);
        assert_eq!(place.names(), ["r"]);
    }
    let folder = tempfile::tempdir().expect("folder");
    let refused = Claim::take(folder.path()).err().expect("refused");
    assert!(refused.to_string().contains("no regular file"), "{refused}");
}

#[test]
fn a_file_has_one_writer_and_a_claim_alone_leaves_nothing() {
    let place = Place::new();
    let claim = Claim::take(&place.path).expect("free");
    let refused = Claim::take(&place.path).err().expect("refused").to_string();
    let holder = format!("process {} is recording to it", std::process::id());
    assert!(refused.contains(&holder), "{refused}");
    drop(claim);
    assert!(place.names().is_empty());
    drop(Claim::take(&place.path).expect("free again"));
}

#[test]
fn a_file_moved_away_is_followed_by_another_with_its_header() {
    let place = Place::new();
    let mut writer = place.begin(1 << 20, 1);
    write(&mut writer, [1]);
    fs::rename(&place.path, place.path.with_extension("old")).expect("moved");
    write(&mut writer, [2]);
    assert_eq!(place.told(), ["r: -2 2"]);
    // Nothing foreign is written to, and nothing is given up.
    fs::remove_file(&place.path).expect("removed");
    fs::write(&place.path, "precious").expect("written");
    let refused = append(&mut writer, 3).expect_err("foreign");
    assert!(refused.to_string().contains("no recording"), "{refused}");
    fs::remove_file(&place.path).expect("removed");
    write(&mut writer, [4]);
    assert_eq!(place.told(), ["r: -3 4"]);
}

/// Every state that a kill can leave, in the order in which they come.
#[test]
fn what_a_kill_left_of_putting_a_file_aside_is_finished_by_the_next_run() {
    type Stage = fn(&Path);
    let pack = |path: &Path, to: PathBuf| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let text = fs::read(parts::plain(path)).expect("read");
        io::Write::write_all(&mut packed, &text).expect("packed");
        fs::write(to, packed.finish().expect("packed")).expect("written");
    };
    let aside: Stage = |path| fs::rename(path, parts::plain(path)).expect("renamed");
    let stages: [&dyn Fn(&Path); 7] = [
        // Older files moved up in part.
        &|path| {
            fs::rename(parts::compressed(path, 2), parts::compressed(path, 3)).expect("renamed");
        },
        &|path| {
            make_gap(path);
        },
        &|path| {
            make_gap(path);
            aside(path);
        },
        // The next file is made, without its header.
        &|path| {
            make_gap(path);
            aside(path);
            fs::write(path, "").expect("written");
        },
        &|path| {
            make_gap(path);
            aside(path);
            fs::write(parts::unfinished(path), b"\x1f\x8bhalf").expect("written");
        },
        &|path| {
            make_gap(path);
            aside(path);
            pack(path, parts::unfinished(path));
        },
        &|path| {
            make_gap(path);
            aside(path);
            pack(path, parts::compressed(path, 1));
        },
    ];
    for (number, stage) in stages.into_iter().enumerate() {
        let place = Place::new();
        let mut writer = place.begin(two(), 3);
        write(&mut writer, 1..=6);
        writer.finish().expect("finished");
        assert_eq!(
            place.told(),
            ["r.2.gz: -1 1 2", "r.1.gz: -2 3 4", "r: -3 5 6"]
        );
        stage(&place.path);
        let left = place.told();
        let intervals = |files: &[String]| -> Vec<String> {
            let all = files.join(" ");
            let words = all.split(' ').map(str::to_owned);
            words.filter(|word| word.parse::<u64>().is_ok()).collect()
        };
        assert_eq!(
            intervals(&left),
            ["1", "2", "3", "4", "5", "6"],
            "stage {number}"
        );
        let mut writer = place.begin(two(), 3);
        writer.collect();
        write(&mut writer, [1]);
        writer.finish().expect("finished");
        assert_eq!(
            intervals(&place.told()),
            ["1", "2", "3", "4", "5", "6", "1"],
            "stage {number}"
        );
        let names = place.names();
        assert!(
            names == ["r", "r.1.gz", "r.2.gz", "r.3.gz"],
            "stage {number}: {names:?}"
        );
    }
}

/// Moves the compressed files up.
fn make_gap(path: &Path) {
    for number in [2, 1] {
        fs::rename(
            parts::compressed(path, number),
            parts::compressed(path, number + 1),
        )
        .expect("renamed");
    }
}

#[test]
fn files_that_cannot_be_put_aside_grow_until_they_can() {
    let place = Place::new();
    let mut writer = place.begin(two(), 3);
    // A folder of the name that is needed.
    let in_the_way = parts::plain(&place.path);
    fs::create_dir(&in_the_way).expect("made");
    write(&mut writer, 1..=4);
    assert_eq!(place.told(), ["r: -1 1 2 3 4"]);
    fs::remove_dir(&in_the_way).expect("removed");
    writer.compressor = Compressor::new();
    write(&mut writer, 5..=5);
    writer.finish().expect("finished");
    assert_eq!(place.told(), ["r.1.gz: -1 1 2 3 4", "r: -2 5"]);
}

#[test]
fn files_of_others_beside_it_are_neither_moved_nor_replaced_nor_deleted() {
    let place = Place::new();
    let beside = |name: &str| place.path.with_file_name(name);
    let precious = b"precious";
    // A lock of another program's, a backup with a date, one beyond what is kept, and a link where the lock is to be.
    let others = [
        "gaps.ndjson.lock",
        "gaps.ndjson.20261122.gz",
        "gaps.ndjson.7.gz",
        "gaps.ndjson.old",
    ];
    for name in others {
        fs::write(beside(name), precious).expect("written");
    }
    let mut writer = place.begin(two(), 2);
    write(&mut writer, 1..=9);
    writer.finish().expect("finished");
    for name in others {
        assert_eq!(fs::read(beside(name)).expect(name), precious, "{name}");
    }
    assert!(place.names().contains(&"r.2.gz".to_owned()));
    // One that is in the way stops the rotation, and nothing is lost.
    fs::write(beside("gaps.ndjson.1.gz"), precious).expect("written");
    let mut writer = place.begin(two(), 2);
    write(&mut writer, 1..=9);
    assert!(writer.told);
    writer.finish().expect("finished");
    assert_eq!(
        fs::read(beside("gaps.ndjson.1.gz")).expect("read"),
        precious
    );
    let mut reader = Reader::open(&place.path).expect("it opens");
    let mut last = None;
    while let Some(line) = reader.next_line().expect("a line") {
        if let Line::Snapshot(snapshot) = line {
            last = Some(snapshot.interval);
        }
    }
    assert_eq!(last, Some(9));
}

#[test]
fn a_claim_touches_no_file_of_others() {
    for name in [
        "gaps.ndjson.1",
        "gaps.ndjson.1.gz.tmp",
        ".gaps.ndjson.smilat-lock",
    ] {
        let place = Place::new();
        let file = place.path.with_file_name(name);
        fs::write(&file, "precious").expect("written");
        let refused = Claim::take(&place.path).err().expect(name);
        let refused = format!("{refused:#}");
        assert!(refused.contains("move it away"), "{refused}");
        assert!(refused.contains(name), "{refused}");
        assert_eq!(fs::read(&file).expect("read"), b"precious");
    }
    // No link is followed.
    let place = Place::new();
    let precious = place.path.with_file_name("precious");
    fs::write(&precious, "").expect("written");
    let lock = parts::lock(&place.path);
    std::os::unix::fs::symlink(&precious, &lock).expect("a link");
    assert!(Claim::take(&place.path).is_err());
    assert_eq!(fs::read(&precious).expect("read"), b"");
    fs::remove_file(&lock).expect("removed");
    // One of a smilat that was killed is taken over, and of one put in its place the other's is left.
    fs::write(&lock, "4194304").expect("written");
    let claim = Claim::take(&place.path).expect("free");
    let own = std::process::id().to_string();
    assert_eq!(fs::read_to_string(&lock).expect("read"), own);
    fs::remove_file(&lock).expect("removed");
    fs::write(&lock, "other").expect("written");
    drop(claim);
    assert_eq!(fs::read(&lock).expect("read"), b"other");
}

#[test]
fn a_link_to_nothing_is_refused() {
    let place = Place::new();
    std::os::unix::fs::symlink("elsewhere", &place.path).expect("a link");
    let refused = Claim::take(&place.path).err().expect("refused").to_string();
    assert!(refused.contains("a link to elsewhere"), "{refused}");
    assert_eq!(place.names(), ["r"]);
}

#[test]
fn another_interval_is_told_by_another_header() {
    let place = Place::new();
    let mut writer = place.begin(1 << 20, 1);
    write(&mut writer, [1]);
    for interval in 2..=3 {
        writer
            .append(&samples::line(interval), 60_000_000_000)
            .expect("appended");
    }
    writer.finish().expect("finished");
    assert_eq!(place.told(), ["r: -1 1 -2 2 3"]);
    let mut reader = Reader::open(&place.path).expect("it opens");
    let mut told = Vec::new();
    while let Some(line) = reader.next_line().expect("a line") {
        if let Line::Header(header) = line {
            told.push(header.interval_ns);
        }
    }
    assert_eq!(told, [1_000_000_000, 60_000_000_000]);
    assert_eq!(reader.remarks(), []);
}

#[test]
fn a_compression_that_takes_long_is_left_to_the_next_run() {
    let place = Place::new();
    let aside = parts::plain(&place.path);
    fs::write(&aside, samples::header(1)).expect("written");
    let file = fs::File::options().write(true).open(&aside).expect("open");
    // Holes, which take no room and long to compress.
    file.set_len(16 << 30).expect("a length");
    let mut compressor = Compressor::new();
    compressor.start(&place.path, 3).expect("started");
    let ended = compressor.end(Duration::from_millis(100)).expect("ended");
    assert_eq!(ended, AtEnd::Stopped);
    assert_eq!(place.names(), ["r.1"]);
    file.set_len(samples::header(1).len() as u64)
        .expect("a length");
    compressor.start(&place.path, 3).expect("started");
    let ended = compressor.end(Duration::from_mins(1)).expect("ended");
    assert_eq!(ended, AtEnd::Done);
    assert_eq!(place.names(), ["r.1.gz"]);
}
