//! A busy machine, for `cargo xtask bench workload`: redis, asked by its own benchmark through the loopback interface.
//!
//! Both keep to the CPUs of the thread that starts them, so that it decides where the load is.

use std::{
    io::{self, Read as _, Seek as _},
    net::{Ipv4Addr, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{killed::Killed, serving::free_address, wait_until};

/// The server and its checker are one program, which goes by its name. Debian's package `redis-server` adds nothing but the
/// right name and a service that starts with the machine, and so is not wanted.
const SERVER: &str = "/usr/bin/redis-check-rdb";
const BENCHMARK: &str = "/usr/bin/redis-benchmark";

/// Threads that ask; with the server's one there are three, more than the CPUs of whoever measures.
const THREADS: &str = "2";

/// A benchmark that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(2);

/// A server that keeps all in memory, on a port of its own. Dropped, it ends.
pub struct Redis {
    _server: Killed,
    port: u16,
    /// Requests a second that it serves when it has the machine for itself.
    rate: f64,
}

impl Redis {
    /// Starts it and finds out how fast it is.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn start() -> Self {
        let port = free_address().port();
        let mut command = Command::new(SERVER);
        command
            .arg0("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null());
        end_with_this(&mut command);
        let server = Killed::start(&mut command);
        wait_until("redis", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        let mut redis = Self {
            _server: server,
            port,
            rate: 0.0,
        };
        // More and more, until starting the benchmark is little of it.
        let mut requests = 1_000;
        while redis.rate == 0.0 {
            let began = Instant::now();
            redis.ask(requests);
            let took = began.elapsed();
            if took > Duration::from_secs(1) {
                redis.rate = requests as f64 / took.as_secs_f64();
            }
            requests *= 4;
        }
        redis
    }

    /// Asks as much as takes `time`, when only `share` of the CPUs is left for it; what the benchmark reports.
    ///
    /// # Panics
    /// When that fails, or takes minutes.
    #[track_caller]
    pub fn ask_for(&self, time: Duration, share: f64) -> String {
        self.ask((self.rate * time.as_secs_f64() * share) as u64)
    }

    #[track_caller]
    fn ask(&self, requests: u64) -> String {
        let mut output = tempfile::tempfile().expect("a file");
        let mut benchmark = Killed::start(
            Command::new(BENCHMARK)
                .args(["-p", &self.port.to_string(), "--threads", THREADS])
                .args(["-t", "get", "-n", &requests.to_string()])
                .stdout(output.try_clone().expect("a descriptor")),
        );
        let began = Instant::now();
        let status = loop {
            if let Some(status) = benchmark.try_wait().expect("a child") {
                break status;
            }
            assert!(began.elapsed() < LIMIT, "redis-benchmark does not end");
            thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "redis-benchmark: {status}");
        let mut report = String::new();
        output.rewind().expect("a file");
        output.read_to_string(&mut report).expect("UTF-8");
        shortened(&report)
    }
}

/// A report of redis-benchmark without its progress, whose lines are each written over the one before, and the second of two
/// listings of latencies, which may be long.
fn shortened(report: &str) -> String {
    let report = report.rsplit_once('\r').map_or(report, |(_, last)| last);
    match report.split_once("Cumulative distribution") {
        Some((listing, rest)) => {
            let summary = rest.find("Summary:").map_or("", |at| &rest[at..]);
            format!("{listing}{summary}")
        }
        None => report.to_owned(),
    }
}

/// Has the command be killed when the thread that starts it ends, however that comes.
fn end_with_this(command: &mut Command) {
    // SAFETY: only a system call between fork and exec.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        );
    }
}
