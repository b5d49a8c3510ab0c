use std::{
    fs,
    future::{pending, ready},
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Instant,
};

use clap::Parser as _;

use super::*;
use crate::{
    cli::{Cli, Command},
    made_up,
    recording::{Line, Reader},
};

struct Place {
    _folder: tempfile::TempDir,
    record: PathBuf,
    output: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            record: folder.path().join("gaps.ndjson"),
            output: folder.path().join("report"),
            _folder: folder,
        }
    }
}

fn args(options: &[&str]) -> RunArgs {
    let cli = Cli::parse_from(["smilat", "run", "--format=ndjson"].iter().chain(options));
    match cli.command {
        Command::Run(args) => *args,
        _ => panic!("another command"),
    }
}

fn open(args: &RunArgs) -> Result<Outlets> {
    let exports = Exports::prepare(args)?;
    Outlets::open(args, exports, recording::claim(args)?, "")
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn intervals(path: &Path) -> Vec<u64> {
    let mut reader = Reader::open(path).expect("it opens");
    let mut all = Vec::new();
    while let Some(line) = reader.next_line().expect("a line") {
        if let Line::Snapshot(snapshot) = line {
            all.push(snapshot.interval);
        }
    }
    all
}

fn snapshot(interval: u64) -> Arc<Snapshot> {
    Arc::new(made_up::snapshot(interval))
}

#[tokio::test]
async fn reports_and_recording_in_one_file_are_refused_and_it_stays_as_it_was() {
    let place = Place::new();
    let record = option("record", &place.record);
    let both = args(&[&record, &option("output", &place.output)]);
    let mut outlets = open(&both).expect("opened");
    outlets.interval(&snapshot(1));
    outlets
        .finish(Some(&snapshot(2)), pending())
        .await
        .expect("written");
    let before = fs::read(&place.record).expect("read");
    let link = place.record.with_file_name("link");
    fs::hard_link(&place.record, &link).expect("a link");
    for output in [
        place.record.clone(),
        link,
        place.record.with_file_name("gaps.ndjson.3.gz"),
        place.record.with_file_name(".gaps.ndjson.smilat-lock"),
    ] {
        let args = args(&[&record, &option("output", &output)]);
        let refused = open(&args).err().expect("refused").to_string();
        assert!(refused.contains("would destroy the recording"), "{refused}");
    }
    assert_eq!(fs::read(&place.record).expect("read"), before);
    assert_eq!(intervals(&place.record), [1, 2]);
    // The same lines, made once.
    assert_eq!(
        fs::read_to_string(&place.output)
            .expect("read")
            .lines()
            .count(),
        2
    );
}

#[tokio::test]
async fn a_recording_that_cannot_be_begun_leaves_the_reports_of_yesterday() {
    let place = Place::new();
    fs::write(&place.output, "yesterday").expect("written");
    let args = args(&[
        &option("record", &place.record),
        &option("output", &place.output),
    ]);
    let claim = recording::claim(&args).expect("free");
    // In the meantime something else came there.
    fs::write(&place.record, "precious").expect("written");
    let exports = Exports::prepare(&args).expect("none");
    assert!(Outlets::open(&args, exports, claim, "").is_err());
    assert_eq!(fs::read(&place.output).expect("read"), b"yesterday");
    assert_eq!(fs::read(&place.record).expect("read"), b"precious");
    // One that was made for it goes again.
    fs::remove_file(&place.output).expect("removed");
    let claim = recording::claim(&args).err();
    assert!(claim.is_some());
    assert!(!place.output.exists());
}

#[tokio::test]
async fn reports_that_fail_end_only_themselves_where_there_is_a_recording() {
    let place = Place::new();
    let args = args(&[&option("record", &place.record), "--output=/dev/full"]);
    let mut outlets = open(&args).expect("opened");
    let mut one = made_up::snapshot(1);
    one.gaps_dropped = 0;
    assert_eq!(outlets.interval(&Arc::new(one)), 0);
    outlets.closed().await;
    assert!(outlets.go_on());
    // What is to be waited for then never comes.
    assert!(
        tokio::time::timeout(Duration::from_millis(10), outlets.closed())
            .await
            .is_err()
    );
    for interval in 2..=3 {
        assert_eq!(outlets.interval(&snapshot(interval)), 0);
    }
    let told = outlets
        .finish(Some(&snapshot(4)), pending())
        .await
        .expect_err("not all was written");
    assert!(
        format!("{told:#}").contains("cannot write to /dev/full"),
        "{told:#}"
    );
    assert_eq!(intervals(&place.record), [1, 2, 3, 4]);
}

#[tokio::test]
async fn reports_that_fail_end_the_run_where_there_is_nothing_else() {
    let args = args(&["--output=/dev/full"]);
    let mut outlets = open(&args).expect("opened");
    outlets.interval(&snapshot(1));
    outlets.closed().await;
    assert!(!outlets.go_on());
    assert!(outlets.finish(Some(&snapshot(2)), pending()).await.is_err());
}

/// Takes one request of OTLP, and says that it came.
fn receiver() -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (came, arrived) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).expect("a line");
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a body");
            let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            io::Write::write_all(stream.get_mut(), answer).expect("answered");
            if came.send(()).is_err() {
                break;
            }
        }
    });
    (url, arrived)
}

#[tokio::test]
async fn what_fails_elsewhere_does_not_keep_the_last_push_from_its_receiver() {
    let (url, arrived) = receiver();
    let args = args(&["--output=/dev/full", &format!("--otlp={url}")]);
    let mut outlets = open(&args).expect("opened");
    outlets.interval(&snapshot(1));
    let mut last = made_up::snapshot(2);
    last.last = true;
    assert!(
        outlets
            .finish(Some(&Arc::new(last)), pending())
            .await
            .is_err()
    );
    arrived
        .recv_timeout(Duration::from_secs(10))
        .expect("the last push");
}

#[tokio::test]
async fn whoever_interrupts_the_end_is_told_what_is_not_written() {
    let place = Place::new();
    let pipe = place.record.with_file_name("pipe");
    let name = std::ffi::CString::new(pipe.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: the name lives until the call returns.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let (made, reader) = mpsc::channel();
    let its_pipe = pipe.clone();
    // Both ends wait for each other to be opened.
    thread::spawn(move || made.send(fs::File::open(its_pipe).expect("open")));
    let args = args(&[&option("record", &place.record), &option("output", &pipe)]);
    let mut outlets = open(&args).expect("opened");
    let reader = reader.recv().expect("a reader");
    // More than a pipe holds.
    for interval in 1..=60 {
        let mut snapshot = made_up::snapshot(interval);
        snapshot.detector.cpus = "0-1,".repeat(2_000);
        outlets.interval(&Arc::new(snapshot));
    }
    // The recording is complete by the time that somebody loses patience.
    let whole = async {
        let began = Instant::now();
        while intervals(&place.record).len() < 61 {
            assert!(began.elapsed() < Duration::from_secs(20), "in vain");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let told = outlets
        .finish(Some(&snapshot(61)), whole)
        .await
        .expect_err("not written");
    let told = format!("{told:#}");
    assert!(
        told.contains("before the last report was written"),
        "{told}"
    );
    assert!(!told.contains("recording"), "{told}");
    drop(reader);
}

#[tokio::test]
async fn what_is_just_being_written_is_no_reason_to_fail() {
    let place = Place::new();
    let output = place.record.with_file_name("reports");
    let args = args(&[&option("record", &place.record), &option("output", &output)]);
    let outlets = open(&args).expect("opened");
    let ended = outlets.finish(Some(&snapshot(1)), ready(())).await;
    assert_eq!(ended.expect("written"), Ended::Written);
    assert_eq!(
        (intervals(&output), intervals(&place.record)),
        (vec![1], vec![1])
    );
}
