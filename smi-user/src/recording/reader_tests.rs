use std::{fs, io::Write as _};

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::{
    made_up,
    recording::{parts, samples},
};

fn pack(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text).expect("packed");
    packed.finish().expect("packed")
}

fn reader(text: &[u8]) -> Reader {
    Reader::single(
        Path::new("a file"),
        Box::new(io::Cursor::new(text.to_vec())),
    )
}

/// What is in the rest of a recording: the numbers of intervals, `-` before a header, `!` for a torn line.
fn told(reader: &mut Reader) -> String {
    let mut told = Vec::new();
    while let Some(line) = reader.next_line().expect("a line") {
        told.push(match line {
            Line::Header(header) => format!("-{}", header.part),
            Line::Snapshot(snapshot) => snapshot.interval.to_string(),
            Line::Torn { number, bytes } => format!("!{number}:{bytes}"),
        });
    }
    told.join(" ")
}

#[test]
fn a_last_line_torn_at_any_byte_is_told_and_all_before_it_read() {
    let whole = [samples::header(1), samples::line(1)].concat();
    let last = samples::line(2);
    for kept in 0..=last.len() {
        let text = [&whole[..], &last[..kept]].concat();
        let expected = match kept {
            0 => "-1 1".to_owned(),
            kept if kept >= last.len() - 1 => "-1 1 2".to_owned(),
            kept => format!("-1 1 !3:{kept}"),
        };
        assert_eq!(told(&mut reader(&text)), expected, "{kept} bytes");
        assert_eq!(told(&mut reader(&pack(&text))), expected, "{kept} packed");
    }
}

#[test]
fn a_torn_header_is_torn_and_not_foreign() {
    let header = samples::header(1);
    for kept in 1..header.len() - 1 {
        let expected = format!("!1:{kept}");
        assert_eq!(told(&mut reader(&header[..kept])), expected, "{kept}");
    }
}

#[test]
fn a_compressed_file_cut_at_any_byte_is_torn_after_what_can_be_had() {
    let text = [samples::header(1), samples::line(1), samples::line(2)].concat();
    let packed = pack(&text);
    for kept in 2..packed.len() {
        let mut reader = reader(&packed[..kept]);
        let told = told(&mut reader);
        let last = told.split(' ').next_back().expect("something");
        assert!(last.starts_with('!'), "{kept}: {told}");
        assert!(
            "-1 1 2".starts_with(told.trim_end_matches(last).trim_end()),
            "{kept}: {told}"
        );
        assert!(
            matches!(reader.remarks()[..], [Remark::Damaged { .. }]),
            "{kept}"
        );
    }
}

#[test]
fn a_damaged_compressed_file_is_torn_where_the_damage_is_and_the_next_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("r");
    let mut packed = pack(&[samples::header(1), samples::line(1)].concat());
    // The checksum (RFC 1952): the content is all there.
    let checksum = packed.len() - 8;
    packed[checksum] ^= 1;
    fs::write(parts::compressed(&path, 1), packed).expect("written");
    fs::write(&path, [samples::header(2), samples::line(2)].concat()).expect("written");
    let mut reader = Reader::open(&path).expect("it opens");
    assert_eq!(told(&mut reader), "-1 1 !3:0 -2 2");
    let remarks = reader.remarks();
    assert!(
        matches!(&remarks[..], [Remark::Damaged { line: 3, .. }]),
        "{remarks:?}"
    );
}

#[test]
fn parts_are_read_oldest_first_and_one_given_by_name_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("r");
    for part in 1..=11u64 {
        let text = [samples::header(part), samples::line(part)].concat();
        fs::write(parts::compressed(&path, 13 - part), pack(&text)).expect("written");
    }
    let plain = [samples::header(12), samples::line(12)].concat();
    fs::write(parts::plain(&path), plain).expect("written");
    fs::write(&path, [samples::header(13), samples::line(13)].concat()).expect("written");
    let expected: Vec<String> = (1..=13).map(|part| format!("-{part} {part}")).collect();
    let mut all = Reader::open(&path).expect("it opens");
    assert_eq!(told(&mut all), expected.join(" "));
    assert_eq!(all.remarks(), []);
    let mut one = Reader::open(&parts::compressed(&path, 12)).expect("it opens");
    assert_eq!(told(&mut one), "-1 1");
    // A kill between putting a file aside and making the next.
    fs::remove_file(&path).expect("removed");
    let mut rest = Reader::open(&path).expect("it opens");
    assert_eq!(told(&mut rest), expected[..12].join(" "));
}

#[test]
fn what_is_missing_is_remarked() {
    let started = made_up::BEGAN;
    let text = [
        samples::header(3),
        samples::line(7),
        samples::line(8),
        samples::line(10),
        samples::header(5),
        samples::line(14),
    ]
    .concat();
    let mut reader = reader(&text);
    assert_eq!(told(&mut reader), "-3 7 8 10 -5 14");
    let path = PathBuf::from("a file");
    let remarks = reader.remarks();
    assert_eq!(
        remarks,
        [
            Remark::PartsMissing {
                started,
                first: 1,
                last: 2
            },
            Remark::SnapshotsMissing {
                path: path.clone(),
                after: 8,
                before: 10
            },
            Remark::PartsMissing {
                started,
                first: 4,
                last: 4
            },
            Remark::SnapshotsMissing {
                path,
                after: 10,
                before: 14
            },
        ]
    );
    let said: Vec<String> = remarks.iter().map(Remark::to_string).collect();
    assert!(
        said[0].starts_with("parts 1 to 2 of the run of "),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("1 snapshots are missing in a file"),
        "{said:?}"
    );
}

#[test]
fn runs_one_after_another_miss_nothing() {
    let text = [
        samples::line(1),
        samples::line(2),
        samples::line(1),
        samples::header(1),
        samples::line(1),
    ]
    .concat();
    let mut reader = reader(&text);
    assert_eq!(told(&mut reader), "1 2 1 -1 1");
    assert_eq!(reader.remarks(), []);
}

#[test]
fn a_line_that_was_cut_off_is_told_before_the_header_that_says_so() {
    let mut header = samples::header(1);
    header.truncate(header.len() - 2);
    header.extend(b",\"torn_bytes\":77}\n");
    let text = [
        samples::header(1),
        samples::line(1),
        header,
        samples::line(1),
    ]
    .concat();
    assert_eq!(told(&mut reader(&text)), "-1 1 !3:77 -1 1");
}

#[test]
fn foreign_newer_and_empty_files_are_named_as_such() {
    let foreign: [&[u8]; 6] = [
        b"hello",
        b"hello\n",
        b"{\"a\":1}\n",
        b"{\"schema_version\":1}\n",
        b"\x7fELF",
        b"\0\0\0\0",
    ];
    for text in foreign {
        let text = text.to_vec();
        for text in [pack(&text), text] {
            let error = reader(&text).next_line().expect_err("foreign").to_string();
            assert!(error.contains("no recording of smilat"), "{error}");
        }
    }
    let as_newer = |line: Vec<u8>| {
        let text = String::from_utf8(line).expect("UTF-8");
        text.replace("\"schema_version\":1", "\"schema_version\":2")
    };
    for text in [
        as_newer(samples::line(1)),
        as_newer(samples::header(1)),
        "{\"recording\":{\"schema_version\":2,\"other\":1}}\n".into(),
        "{\"schema_version\":2,\"other\":1}\n".into(),
    ] {
        let error = reader(text.as_bytes())
            .next_line()
            .expect_err("newer")
            .to_string();
        assert!(error.contains("schema_version 2"), "{error}");
    }
    for text in [pack(b""), Vec::new()] {
        let error = reader(&text).next_line().expect_err("empty").to_string();
        assert!(error.contains("is empty"), "{error}");
    }
    let error = Reader::open(Path::new("/no/such/file"))
        .err()
        .expect("none")
        .to_string();
    assert!(
        error.contains("cannot read /no/such/file: No such file"),
        "{error}"
    );
    let damaged = reader(b"\x1f\x8bnonsense")
        .next_line()
        .expect_err("damaged")
        .to_string();
    assert!(damaged.contains("cannot read a file"), "{damaged}");
    // Not read to the end that it does not have.
    let zero = Reader::open(Path::new("/dev/zero"))
        .expect("it opens")
        .next_line();
    assert!(matches!(zero, Err(RecordingError::Foreign(_))));
}

#[test]
fn a_line_too_long_is_not_kept() {
    let long = [b"{\"schema_version\":1,\"", &[b'x'; 9_000][..], b"\n"].concat();
    let text = [&samples::line(1)[..], &long, &samples::line(2)].concat();
    let mut reader = reader(&text);
    reader.longest = 4_000;
    assert!(samples::line(1).len() < 4_000);
    assert_eq!(told(&mut reader), format!("1 !2:{} 2", long.len()));
}

#[test]
fn an_older_file_that_cannot_be_read_does_not_keep_the_others_from_it() {
    let newer = String::from_utf8(samples::line(2)).expect("UTF-8");
    let newer = newer.replace("\"schema_version\":1", "\"schema_version\":2");
    let bad: [(&[u8], &str); 5] = [
        (b"precious", "no recording of smilat"),
        (b"\x1f\x8bdamaged, not short", "gzip"),
        (&pack(b"{\"precious\":1}\n"), "no recording of smilat"),
        (&pack(newer.as_bytes()), "schema_version 2"),
        (b"", ""),
    ];
    for (content, why) in bad {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("r");
        let text = |part: u64| [samples::header(part), samples::line(part)].concat();
        fs::write(parts::compressed(&path, 2), pack(&text(1))).expect("written");
        fs::write(parts::compressed(&path, 1), content).expect("written");
        fs::write(&path, text(3)).expect("written");
        let mut reader = Reader::open(&path).expect("it opens");
        assert_eq!(told(&mut reader), "-1 1 -3 3", "{why}");
        let remarks: Vec<String> = reader.remarks().iter().map(Remark::to_string).collect();
        let told_of = remarks
            .iter()
            .any(|one| one.contains("r.1.gz cannot be read"));
        assert_eq!(told_of, !why.is_empty(), "{remarks:?}");
        assert!(remarks.iter().any(|one| one.contains(why)), "{remarks:?}");
        assert!(
            remarks.iter().any(|one| one.contains("part 2 of the run")),
            "{remarks:?}"
        );
        // By its own name it is what was asked for.
        assert!(
            Reader::open(&parts::compressed(&path, 1))
                .expect("it opens")
                .next_line()
                .is_err()
        );
        // Where nothing can be read, that is no recording.
        fs::remove_file(&path).expect("removed");
        fs::remove_file(parts::compressed(&path, 2)).expect("removed");
        assert!(Reader::open(&path).expect("it opens").next_line().is_err());
    }
}

#[test]
fn an_error_says_why_once() {
    let error = Reader::open(Path::new("/no/such/file"))
        .err()
        .expect("none");
    let told = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(told.matches("No such file").count(), 1, "{told}");
}

#[test]
fn a_line_that_is_being_written_is_torn_once_whatever_comes_of_it() {
    /// Ends after each piece, as a file does that grows.
    struct Growing(VecDeque<Vec<u8>>);
    impl Read for Growing {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let mut piece = self.0.pop_front().unwrap_or_default();
            if piece.len() > to.len() {
                self.0.push_front(piece.split_off(to.len()));
            }
            to[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }
    let line = samples::line(2);
    for cut in [1, line.len() / 2, line.len() - 1] {
        let begun = [&samples::header(1)[..], &samples::line(1), &line[..cut]].concat();
        let pieces = [begun, Vec::new(), line[cut..].to_vec()];
        let content = Growing(pieces.into());
        let mut reader = Reader::single(Path::new("a file"), Box::new(content));
        let expected = if cut == line.len() - 1 {
            "-1 1 2".to_owned()
        } else {
            format!("-1 1 !3:{cut}")
        };
        assert_eq!(told(&mut reader), expected, "{cut} bytes");
    }
}
