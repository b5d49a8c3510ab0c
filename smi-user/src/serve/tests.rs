use std::{
    cell::RefCell,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use flate2::read::GzDecoder;

use super::{room::ROOM, *};
use crate::{
    model::Snapshot,
    report::prometheus::{About, tests::snapshot},
};

struct Lab {
    server: Server,
    pages: RefCell<GapPages>,
}

impl Lab {
    fn new() -> Self {
        let about = About {
            started: "2026-11-22T11:59:50Z".parse().expect("a time"),
            hardlimit: None,
            per_cpu_histograms: false,
        };
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(loopback, Duration::from_secs(1));
        Self {
            server: server.expect("a server"),
            pages: RefCell::new(GapPages::new(about)),
        }
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = snapshot();
        change(&mut snapshot);
        let page = self.pages.borrow_mut().page(&Arc::new(snapshot));
        self.server.publish(page);
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address()).expect("connected")
    }

    /// Sends `request`, asks for an end of the connection, and returns head and body of the answer.
    fn ask(&self, request: &str) -> (String, Vec<u8>) {
        let mut stream = self.connect();
        let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
        )
        .expect("sent");
        answer(&mut stream)
    }

    fn status(&self, request: &str) -> (u16, String) {
        let (head, body) = self.ask(request);
        let status = head.split(' ').nth(1).expect("a status");
        let body = String::from_utf8(body).expect("UTF-8");
        (status.parse().expect("a number"), body)
    }
}

/// Reads to the end.
fn answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an answer");
    let end = all
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("a head");
    let body = all.split_off(end + 4);
    (String::from_utf8(all).expect("UTF-8"), body)
}

#[test]
fn there_are_metrics_from_the_first_snapshot_to_the_last() {
    let lab = Lab::new();
    let (status, why) = lab.status("GET /metrics");
    assert_eq!(
        (status, why.as_str()),
        (
            503,
            "smilat is starting: its first interval is not over yet\n"
        )
    );
    assert_eq!(lab.status("GET /healthz").0, 200);

    lab.publish(|_| {});
    let (status, text) = lab.status("GET /metrics");
    assert_eq!(status, 200);
    assert!(text.contains("\nsmilat_snapshots_total 2\n"), "{text}");
    let (status, health) = lab.status("GET /healthz");
    assert_eq!(status, 200, "{health}");
    assert!(health.contains("number 2 came"), "{health}");

    lab.publish(|snapshot| snapshot.interval = 3);
    let (_, text) = lab.status("GET /metrics");
    assert!(
        text.contains("\nsmilat_snapshots_total 3\n"),
        "a page of the snapshot before: {text}"
    );

    lab.publish(|snapshot| snapshot.last = true);
    for path in ["GET /metrics", "GET /healthz"] {
        let (status, why) = lab.status(path);
        assert_eq!(
            (status, why.as_str()),
            (503, "smilat is ending: the run is over\n")
        );
    }
    let address = lab.server.address();
    drop(lab);
    assert!(TcpStream::connect(address).is_err(), "it still listens");
}

#[test]
fn clients_get_the_form_and_the_coding_they_accept() {
    let lab = Lab::new();
    lab.publish(|_| {});
    let (head, plain) = lab.ask("GET /metrics\nAccept: application/openmetrics-text\r\n");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(!head.contains("content-encoding"), "{head}");
    assert!(plain.ends_with(b"# EOF\n"));

    let (head, packed) =
        lab.ask("GET /metrics\nAccept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(packed.len() < plain.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.as_slice())
        .read_to_end(&mut unpacked)
        .expect("gzip");
    assert_eq!(unpacked, plain);

    let (head, body) = lab.ask("HEAD /metrics\nAccept: application/openmetrics-text\r\n");
    assert!(
        head.contains(&format!("content-length: {}", plain.len())),
        "{head}"
    );
    assert!(body.is_empty());
}

#[test]
fn what_is_not_offered_is_refused() {
    let lab = Lab::new();
    lab.publish(|_| {});
    assert_eq!(lab.status("GET /").0, 200);
    assert_eq!(lab.status("GET /metrics?x=y").0, 200);
    assert_eq!(lab.status("GET /nothing").0, 404);
    assert_eq!(lab.status("GET /metrics/").0, 404);
    let (head, _) = lab.ask("POST /metrics");
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert!(head.contains("allow: GET, HEAD"), "{head}");
    let (head, _) = lab.ask("POST /metrics\nContent-Length: 1000000000\r\n");
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    let (head, _) = lab.ask("GET /metrics\nTransfer-Encoding: chunked\r\n");
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    let (status, _) = lab.status(&format!("GET /metrics\nX: {}\r\n", "x".repeat(2 * HEAD)));
    assert_eq!(status, 431);
    let (status, _) = lab.status(&format!("GET /metrics\n{}", "X: y\r\n".repeat(2 * HEADERS)));
    assert_eq!(status, 431);
    assert_eq!(lab.status("\u{1}\u{2}").0, 400);
}

#[test]
fn a_connection_serves_many_requests() {
    let lab = Lab::new();
    lab.publish(|_| {});
    let mut stream = lab.connect();
    for _ in 0..3 {
        write!(stream, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "));
    }
}

/// Asks, keeps the connection, and reads the answer, which has no body; false when it was closed instead.
fn asks(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let sent = write!(stream, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    while sent.is_ok() && !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.extend(byte),
            _ => return false,
        }
    }
    head.starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn who_comes_when_there_is_no_room_is_answered_and_the_one_idle_longest_goes() {
    let lab = Lab::new();
    lab.publish(|_| {});
    let mut held: Vec<TcpStream> = (0..ROOM).map(|_| lab.connect()).collect();
    assert!(held.iter_mut().all(asks), "there is room for all of them");
    // The first has asked again, and idles for the shortest time now.
    assert!(asks(&mut held[0]));
    let mut newcomers: Vec<TcpStream> = (0..3).map(|_| lab.connect()).collect();
    assert!(newcomers.iter_mut().all(asks), "a probe is locked out");
    for stream in &mut held[1..4] {
        let closed = stream.read(&mut [0]);
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    assert!(asks(&mut held[0]));
    assert!(held[4..].iter_mut().all(asks), "others had to go, too");
    // On a connection that is there, since another would displace another.
    write!(
        held[0],
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let (_, page) = answer(&mut held[0]);
    let text = String::from_utf8(page).expect("UTF-8");
    let line = "\nsmilat_http_connections_displaced_total 3\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn an_address_in_use_is_named() {
    let first = Lab::new();
    let address = first.server.address();
    let second = Server::start(address, Duration::from_secs(1));
    let error = second.err().expect("taken").to_string();
    assert!(
        error.contains(&format!(
            "cannot listen on {address}: the address is in use"
        )),
        "{error}"
    );
    let elsewhere = "192.0.2.1:0".parse().expect("an address");
    let error = Server::start(elsewhere, Duration::from_secs(1));
    let error = error.err().expect("not here").to_string();
    assert!(
        error.contains("this machine has no such address"),
        "{error}"
    );
}
