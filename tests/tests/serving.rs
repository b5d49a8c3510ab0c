//! `smilat run --listen` and its clients: neither many nor bad ones delay or end the collection.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use smi_user::model::Snapshot;
use tests::{
    refused,
    serving::{Serving, get, sum},
    smilat, wait_until,
};

/// How long a client of these waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a Prometheus with native histograms asks for.
const AS_PROMETHEUS: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\
    Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
    application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\
    Accept-Encoding: gzip\r\n\r\n";

/// What was counted up to some moment, or between two.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// When, or how long, in seconds.
    time: f64,
    /// Windows of all CPUs.
    run: f64,
    skipped: f64,
    /// Time spent sampling, in seconds.
    exposure: f64,
    /// CPU time of smilat, in seconds.
    cpu_time: f64,
}

impl Counts {
    /// All of them of the same snapshot.
    fn of(serving: &Serving) -> Self {
        let metrics = serving.metrics();
        let of = |family, label| sum(&metrics, family, label);
        Self {
            time: of("smilat_snapshot_timestamp_seconds", ""),
            run: of("smilat_windows_total", "outcome=\"run\""),
            skipped: of("smilat_windows_total", "outcome=\"skipped\""),
            exposure: of("smilat_exposure_seconds_total", ""),
            cpu_time: of("smilat_cpu_seconds_total", ""),
        }
    }

    fn combined(self, other: Self, of: fn(f64, f64) -> f64) -> Self {
        Self {
            time: of(self.time, other.time),
            run: of(self.run, other.run),
            skipped: of(self.skipped, other.skipped),
            exposure: of(self.exposure, other.exposure),
            cpu_time: of(self.cpu_time, other.cpu_time),
        }
    }

    fn since(self, earlier: Self) -> Self {
        self.combined(earlier, |now, then| now - then)
    }

    fn and(self, other: Self) -> Self {
        self.combined(other, |one, other| one + other)
    }
}

/// Scrapes `count` times over one connection, `every` so often; returns how long it took.
fn scrape(serving: &Serving, count: u32, every: Duration) -> Duration {
    let stream = TcpStream::connect(serving.address).expect("connected");
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut requests = stream;
    let began = Instant::now();
    for i in 0..count {
        thread::sleep((every * i).saturating_sub(began.elapsed()));
        requests.write_all(AS_PROMETHEUS.as_bytes()).expect("sent");
        let mut line = String::new();
        answers.read_line(&mut line).expect("an answer");
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        let (mut length, mut head) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            answers.read_line(&mut line).expect("a head");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
            head += &line;
        }
        let mut body = vec![0; length];
        answers.read_exact(&mut body).expect("a body");
        if i == 0 {
            assert!(head.contains("application/vnd.google.protobuf"), "{head}");
            assert!(head.contains("content-encoding: gzip"), "{head}");
        }
        assert!(body.starts_with(&[0x1f, 0x8b]) && length > 300, "{length}");
    }
    began.elapsed()
}

/// Scrapes during two of four phases, in such an order that what changes steadily meanwhile is alike in both pairs.
#[test]
fn two_hundred_scrapes_a_second_cost_no_window() {
    const PHASE: Duration = Duration::from_secs(30);
    const EVERY: Duration = Duration::from_millis(5);
    /// With fewer a second, nothing is shown.
    const ENOUGH: f64 = 190.0;
    let serving = Serving::start(&["--preset=busy", "--interval=1s", "--output=/dev/null"]);
    serving.ready();
    let (mut with, mut without) = (Counts::default(), Counts::default());
    let mut before = Counts::of(&serving);
    for scraped in [false, true, true, false] {
        if scraped {
            let count = (PHASE.as_millis() / EVERY.as_millis()) as u32;
            let rate = f64::from(count) / scrape(&serving, count, EVERY).as_secs_f64();
            println!("{rate:.1} scrapes a second");
            assert!(
                rate >= ENOUGH,
                "void: this client came to {rate:.1} scrapes a second only, so the test shows nothing"
            );
        } else {
            thread::sleep(PHASE);
        }
        let now = Counts::of(&serving);
        let sums = if scraped { &mut with } else { &mut without };
        *sums = sums.and(now.since(before));
        before = now;
    }
    println!("scraped: {with:?}; not scraped: {without:?}");

    // Windows are skipped where a hypervisor takes CPUs away, whatever smilat does: as many then, within three times the
    // deviation of two such counts.
    let chance = 3.0 * (with.skipped + without.skipped).sqrt() + 1.0;
    assert!(
        (with.skipped - without.skipped).abs() <= chance,
        "windows are skipped when it is scraped"
    );
    // One window every 50 to 150 ms, evenly spread: the number in a time deviates by 0.29 of its root. Four times the
    // deviation of two such numbers is no chance.
    let share = 4.0 * 0.29 * (1.0 / with.run + 1.0 / without.run).sqrt() + chance / without.run;
    for (what, of) in [
        ("windows", (|counts| counts.run) as fn(&Counts) -> f64),
        ("exposure", |counts| counts.exposure),
    ] {
        let (scraped, not) = (of(&with) / with.time, of(&without) / without.time);
        println!("{what} a second: {scraped} scraped, {not} not; may differ by {share:.3}");
        assert!((scraped / not - 1.0).abs() <= share, "{what} differ");
    }
    assert!(serving.stop().success());
}

/// Half a request, then nothing.
fn half_a_request(serving: &Serving) -> TcpStream {
    let mut stream = TcpStream::connect(serving.address).expect("connected");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nX: ")
        .expect("sent");
    stream
}

/// Asks and asks, and reads nothing, until the server waits for that.
fn never_reads(serving: &Serving) -> TcpStream {
    let mut stream = TcpStream::connect(serving.address).expect("connected");
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("set");
    let many = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    while stream.write_all(&many).is_ok() {}
    stream
}

/// A head that does not end.
fn endless_head(serving: &Serving) {
    let mut stream = TcpStream::connect(serving.address).expect("connected");
    let header = [&b"X: "[..], &[b'x'; 8000], b"\r\n"].concat();
    let _refused = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
    while stream.write_all(&header).is_ok() {}
}

/// Waits until the server has given up a client that takes nothing. It is seen by writing, since reading would let the
/// server go on.
#[track_caller]
fn given_up(mut deaf: TcpStream) {
    deaf.set_nonblocking(true).expect("set");
    wait_until("the end of answers that nobody takes", || {
        let written = deaf.write_all(b"x");
        written.is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    });
}

#[test]
fn bad_clients_do_not_hold_up_the_collection() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("snapshots");
    let serving = Serving::start(&[
        "--interval=500ms",
        "--format=ndjson",
        "--output",
        file.to_str().expect("UTF-8"),
    ]);
    serving.ready();
    let healthy = || get(serving.address, "/healthz").is_ok_and(|answer| answer.status == 200);
    // That it goes on is seen by two more, of which one began after this.
    let goes_on = |beside: &str| {
        let taken = || serving.sum("smilat_snapshots_total", "");
        let before = taken();
        wait_until(beside, || taken() >= before + 2.0);
        assert!(healthy(), "{beside}");
    };

    endless_head(&serving);
    goes_on("snapshots after an endless head");
    let slow: Vec<TcpStream> = (0..8).map(|_| half_a_request(&serving)).collect();
    let deaf: Vec<TcpStream> = (0..2).map(|_| never_reads(&serving)).collect();
    goes_on("snapshots beside clients that stand still");
    for path in ["/metrics/../../etc/passwd", "/nothing", "*"] {
        let answer = get(serving.address, path).expect("an answer");
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    for mut stream in slow {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let end = stream.read(&mut [0]).expect("closed, not forgotten");
        assert_eq!(end, 0, "an answer to half a request");
    }
    deaf.into_iter().for_each(given_up);

    // More than there is room for, all of them kept: who comes later gets in, and those that have idled longest go.
    let many: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(serving.address).expect("connected"))
        .collect();
    goes_on("snapshots beside 200 connections");
    wait_until("as many connections closed as there is no room for", || {
        serving.sum("smilat_http_connections_displaced_total", "") >= 200.0 - 64.0
    });
    drop(many);
    goes_on("snapshots after 200 connections");
    assert!(serving.stop().success());

    let snapshots: Vec<Snapshot> = fs::read_to_string(file)
        .expect("the snapshots")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a snapshot"))
        .collect();
    assert!(snapshots.last().is_some_and(|last| last.last));
    for (snapshot, number) in snapshots.iter().zip(1..) {
        assert_eq!(snapshot.interval, number);
    }
}

#[test]
fn a_reload_changes_by_what_health_is_measured() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("smilat.toml");
    let write = |interval: &str| {
        fs::write(&config, format!("interval = '{interval}'\n")).expect("written");
    };
    write("200ms");
    let path = config.to_str().expect("UTF-8");
    let serving = Serving::start(&["--config", path, "--output=/dev/null"]);
    serving.ready();
    write("1h");
    serving.signal(libc::SIGHUP);
    // By the interval of before, it would be ill after 5.6 s.
    wait_until("a snapshot that is 7 s old", || {
        let answer = get(serving.address, "/healthz").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.contains("came 7.")
    });
    let taken = || serving.sum("smilat_snapshots_total", "");
    let before = taken();
    write("200ms");
    serving.signal(libc::SIGHUP);
    wait_until("snapshots as often as before", || taken() >= before + 2.0);
    assert!(serving.stop().success());
}

#[test]
fn an_address_in_use_is_refused_before_anything_is_done() {
    let serving = Serving::start(&["--interval=500ms", "--output=/dev/null"]);
    let address = serving.address.to_string();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("untouched");
    fs::write(&file, "kept").expect("written");
    refused(
        smilat()
            .args(["run", "--listen", &address, "--output"])
            .arg(&file),
        &[
            &format!("cannot listen on {address}: the address is in use"),
            "choose another port",
        ],
    );
    assert_eq!(fs::read_to_string(file).expect("read"), "kept");
    serving.ready();
}

#[test]
fn an_address_that_is_none_is_refused() {
    for (address, told) in [
        ("127.0.0.1", "names no port"),
        ("example.org:9793", "is no IP address"),
        ("127.0.0.1:99999", "is no port, 0 to 65535"),
        ("192.0.2.1:9793", "this machine has no such address"),
    ] {
        refused(smilat().args(["run", "--listen", address]), &[told]);
    }
    refused(
        smilat().args(["run", "--per-cpu-histograms"]),
        &["--listen"],
    );
}

#[test]
fn listening_for_all_is_told() {
    let mut child = smilat()
        .args([
            "run",
            "--listen",
            "0.0.0.0:0",
            "--duration=1s",
            "--output=/dev/null",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .expect("smilat");
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("standard error")
        .read_to_string(&mut said)
        .expect("UTF-8");
    assert!(child.wait().expect("waited for").success());
    assert!(
        said.contains("is not loopback: whoever reaches it can read"),
        "{said}"
    );
}

#[test]
fn a_scrape_during_shutdown_is_told_so() {
    // Nobody reads its reports, so that it cannot end.
    let mut serving = Serving::spawn(
        smilat()
            .args([
                "run",
                "--listen=127.0.0.1:0",
                "--interval=10ms",
                "--format=ndjson",
            ])
            .stdout(Stdio::piped()),
    );
    serving.ready();
    // More than a pipe holds.
    wait_until("many reports", || {
        serving.sum("smilat_snapshots_total", "") >= 150.0
    });
    serving.interrupt();
    let asked = || get(serving.address, "/metrics").expect("an answer");
    wait_until("the last snapshot", || asked().status == 503);
    assert_eq!(asked().body, "smilat is ending: the run is over\n");
    let health = get(serving.address, "/healthz").expect("an answer");
    assert_eq!(health.status, 503);

    let reports = serving.child.stdout.take().expect("standard output");
    let last = BufReader::new(reports).lines().last().expect("reports");
    let last: Snapshot = serde_json::from_str(&last.expect("UTF-8")).expect("a snapshot");
    assert!(last.last);
    assert!(serving.child.wait().expect("waited for").success());
    assert!(get(serving.address, "/metrics").is_err());
}
