//! A running `smilat run --listen`, and asking it over HTTP.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{killed::Killed, smilat, wait_until};

/// How long a client of these waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running smilat that serves metrics.
pub struct Serving {
    /// The process.
    pub child: Killed,
    /// Where it listens.
    pub address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Serving {
    /// Starts `smilat run --listen` with `args`, on a free port of loopback.
    ///
    /// # Panics
    /// When it does not say where it listens.
    #[track_caller]
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(smilat().args(["run", "--listen", "127.0.0.1:0"]).args(args))
    }

    /// Starts `command`, a `smilat run --listen`.
    ///
    /// # Panics
    /// When it does not say where it listens.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = Killed::start(command.stderr(Stdio::piped()));
        let mut said = BufReader::new(child.stderr.take().expect("standard error"));
        let mut line = String::new();
        while !line.starts_with("metrics: http://") {
            line.clear();
            let read = said.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "it ended without saying where it listens");
        }
        // What it says later must find room.
        std::thread::spawn(move || io::copy(&mut said, &mut io::sink()));
        Self {
            address: address(&line),
            child,
        }
    }

    /// Waits until there are metrics.
    ///
    /// # Panics
    /// When there are none within 20 s.
    #[track_caller]
    pub fn ready(&self) {
        wait_until("metrics", || {
            get(self.address, "/metrics").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// The metrics as text.
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let answer = get(self.address, "/metrics").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// As [`sum`], of the metrics now.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn sum(&self, family: &str, label: &str) -> f64 {
        sum(&self.metrics(), family, label)
    }

    /// Asks it to end, as Ctrl-C does.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn interrupt(&self) {
        self.signal(libc::SIGINT);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When that fails.
    pub fn signal(&self, signal: i32) {
        self.child.signal(signal);
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn stop(mut self) -> ExitStatus {
        self.interrupt();
        self.child.wait().expect("waited for")
    }
}

/// Where the metrics are, by what smilat says.
///
/// # Panics
/// When it says something else.
#[track_caller]
pub fn address(said: &str) -> SocketAddr {
    said.trim()
        .trim_start_matches("metrics: http://")
        .trim_end_matches("/metrics")
        .parse()
        .expect("an address")
}

/// An address of loopback that nobody listens on at the moment.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("an address")
}

/// Asks `address` for `path`.
///
/// # Errors
/// When there is no answer.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0, so that no answer comes in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let parsed = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer {
            status,
            body: body.to_owned(),
        })
    });
    parsed.ok_or_else(|| io::Error::other(format!("no answer: {answer}")))
}

/// The sum of those samples of a family in `metrics` whose labels contain `label`.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn sum(metrics: &str, family: &str, label: &str) -> f64 {
    let values: Vec<f64> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(family)?.rsplit_once(' '))
        .filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'))
        .filter(|(labels, _)| labels.contains(label))
        .map(|(_, value)| value.parse().expect("a number"))
        .collect();
    assert!(!values.is_empty(), "no {family} in {metrics}");
    values.iter().sum()
}
