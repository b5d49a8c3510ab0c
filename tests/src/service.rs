//! smilat as a service manager would run it: by a configuration, which may be read again, and listened to.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use smi_user::model::Snapshot;
use tempfile::TempDir;

use crate::{killed::Killed, smilat};

/// How long what must come may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration that counts closely and reports often: there are gaps in every interval, or nearly.
pub const CLOSELY: &str = "width = '50ms'\nmode = 'per-cpu'\nformat = 'ndjson'\ninterval = '200ms'\nmax-gap-records = 100000\n";

/// `smilat run --config FILE`, as a service manager would start it.
pub struct Service {
    /// The process.
    pub child: Killed,
    folder: TempDir,
    /// Where the service manager listens.
    pub socket: UnixDatagram,
    snapshots: Receiver<Snapshot>,
    said: Receiver<String>,
    /// The snapshots that were taken.
    pub seen: Vec<Snapshot>,
}

impl Service {
    /// Starts smilat with this configuration, in this environment besides the tests'.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(config: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_by(smilat(), config, environment)
    }

    /// Starts `command`, which is smilat or becomes it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_by(mut command: Command, config: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        fs::write(folder.path().join("smilat.toml"), config).expect("written");
        let mut child = Killed::start(
            command
                .arg("run")
                .arg("--config")
                .arg(folder.path().join("smilat.toml"))
                .env("NOTIFY_SOCKET", folder.path().join("notify"))
                .envs(environment.iter().copied())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let snapshots = lines(child.stdout.take().expect("a pipe"), |line| {
            serde_json::from_str(&line).expect("a snapshot")
        });
        let said = lines(child.stderr.take().expect("a pipe"), |line| line);
        Self {
            child,
            folder,
            socket,
            snapshots,
            said,
            seen: Vec::new(),
        }
    }

    /// The file of its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("smilat.toml")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When that fails.
    pub fn signal(&self, signal: i32) {
        self.child.signal(signal);
    }

    /// Writes another configuration and has it read.
    ///
    /// # Panics
    /// When that fails.
    pub fn reload(&self, config: &str) {
        fs::write(self.config(), config).expect("written");
        self.signal(libc::SIGHUP);
    }

    /// The next message to the service manager.
    ///
    /// # Panics
    /// When there is none within 20 s.
    pub fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits for a message to the service manager that contains `text`, and returns those before it.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn told_until(&self, text: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let message = self.told();
            if message.contains(text) {
                return before;
            }
            before.push(message);
            assert!(before.len() < 1_000, "no {text} in {before:?}");
        }
    }

    /// Waits until something is said that contains `text`.
    ///
    /// # Panics
    /// When it is not said within 20 s.
    #[track_caller]
    pub fn says(&self, text: &str) -> String {
        let mut before = String::new();
        loop {
            let line = self
                .said
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no \"{text}\" in: {before}"));
            if line.contains(text) {
                return line;
            }
            before += &line;
        }
    }

    /// Waits for a snapshot that is as it should be.
    ///
    /// # Panics
    /// When none of the next 200 is.
    #[track_caller]
    pub fn sees(&mut self, what: &str, is: impl Fn(&Snapshot) -> bool) {
        for _ in 0..200 {
            let snapshot = self
                .snapshots
                .recv_timeout(PATIENCE)
                .expect("a snapshot in time");
            let found = is(&snapshot);
            self.seen.push(snapshot);
            if found {
                return;
            }
        }
        panic!("waited in vain for {what}");
    }

    /// Ends it and returns all snapshots, the last one last.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(mut self) -> (Vec<Snapshot>, ExitStatus) {
        self.signal(libc::SIGTERM);
        while let Ok(snapshot) = self.snapshots.recv_timeout(PATIENCE) {
            self.seen.push(snapshot);
            assert!(self.seen.len() < 10_000, "it does not end");
        }
        let status = self.child.wait().expect("it ends");
        (self.seen, status)
    }
}

/// Lines of `from`, read on a thread of their own, so that the pipe never fills.
pub fn lines<T: Send + 'static>(
    from: impl Read + Send + 'static,
    of: impl Fn(String) -> T + Send + 'static,
) -> Receiver<T> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(of(line)).is_err() {
                return;
            }
        }
    });
    receive
}
