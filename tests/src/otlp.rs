//! A receiver of OTLP in another process, and a smilat that pushes to it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;
use smi_user::model::Snapshot;
use tempfile::TempDir;

use crate::{from_env, smilat, wait_until};

const RECEIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/otlp_receiver.py");

/// A process that ends with this value.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A receiver at work; ends with this value.
pub struct Receiver {
    process: Guard,
    folder: TempDir,
    /// Where it listens.
    pub port: u16,
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Request(Value);

impl Receiver {
    /// Starts one that gives these answers (see `otlp_receiver.py`).
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(answers: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("requests");
        let child = Command::new(from_env("SMILAT_PYTHON"))
            .arg(RECEIVER)
            .args(answers)
            .stdin(Stdio::piped())
            .stdout(File::create(&path).expect("a file"))
            .spawn()
            .expect("the receiver starts");
        let process = Guard(child);
        let mut port = None;
        wait_until("the receiver", || {
            let text = fs::read_to_string(&path).expect("its output");
            port = text.split_once('\n').map(|(first, _)| {
                let line: Value = serde_json::from_str(first).expect("a line");
                line["port"].as_u64().expect("a port")
            });
            port.is_some()
        });
        Self {
            process,
            folder,
            port: u16::try_from(port.expect("a port")).expect("a port"),
        }
    }

    /// Has one that was started `--closed` take connections from now on.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn open(&mut self) {
        let input = self.process.0.stdin.as_mut();
        let told = input.expect("standard input").write_all(b"open\n");
        told.expect("it listens to its standard input");
    }

    /// Its address as smilat takes it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What came so far.
    ///
    /// # Panics
    /// When the receiver wrote something else.
    #[track_caller]
    pub fn requests(&self) -> Vec<Request> {
        let text = fs::read_to_string(self.folder.path().join("requests")).expect("its output");
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let lines = complete.lines().skip(1);
        lines
            .map(|line| Request(serde_json::from_str(line).expect("a line")))
            .collect()
    }
}

impl Request {
    /// When it came, in seconds by the receiver's monotonic clock.
    ///
    /// # Panics
    /// When it does not say.
    pub fn at(&self) -> f64 {
        self.0["at"].as_f64().expect("a time")
    }

    /// What it was answered.
    pub fn answer(&self) -> &str {
        self.0["answer"].as_str().unwrap_or_default()
    }

    /// Where it was sent to.
    pub fn path(&self) -> &str {
        self.0["path"].as_str().unwrap_or_default()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"][name].as_str()
    }

    /// Its message.
    pub fn body(&self) -> &Value {
        &self.0["body"]
    }

    /// The attributes of its resource.
    pub fn resource(&self) -> BTreeMap<String, String> {
        attributes(&self.0["body"]["resourceMetrics"][0]["resource"]["attributes"])
    }

    fn metrics(&self) -> &[Value] {
        self.0["body"]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
            .as_array()
            .map_or(&[], Vec::as_slice)
    }

    /// The names of its metrics with their units.
    pub fn names(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pair = |metric: &Value| (text(&metric["name"]), text(&metric["unit"]));
        self.metrics().iter().map(pair).collect()
    }

    /// The points of a sum or gauge by their attributes, joined as `name=value,...`; empty without the metric.
    ///
    /// # Panics
    /// When a point has no number.
    #[track_caller]
    pub fn points(&self, name: &str) -> BTreeMap<String, f64> {
        let metric = self.metrics().iter().find(|metric| metric["name"] == name);
        let points = metric
            .map(|metric| metric.get("sum").unwrap_or(&metric["gauge"]))
            .and_then(|data| data["dataPoints"].as_array());
        let one = |point: &Value| {
            let value = point["asDouble"].as_f64();
            let value = value.or_else(|| point["asInt"].as_str()?.parse().ok());
            let all = attributes(&point["attributes"]);
            let joined = all.iter().map(|(key, value)| format!("{key}={value}"));
            let key = joined.collect::<Vec<_>>().join(",");
            (key, value.unwrap_or_else(|| panic!("{name}: {point}")))
        };
        points.into_iter().flatten().map(one).collect()
    }

    /// The only point of an exponential histogram.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn histogram(&self, name: &str) -> &Value {
        let metric = self.metrics().iter().find(|metric| metric["name"] == name);
        &metric.expect(name)["exponentialHistogram"]["dataPoints"][0]
    }
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let one = |attribute: &Value| {
        let value = &attribute["value"];
        let text = value["stringValue"].as_str().or(value["intValue"].as_str());
        let key = attribute["key"].as_str().expect("a key");
        (key.to_owned(), text.expect("a value").to_owned())
    };
    list.as_array().into_iter().flatten().map(one).collect()
}

/// A `smilat run` in the background that reports as NDJSON. Killed with this value.
pub struct Pushing {
    process: Guard,
    folder: TempDir,
}

impl Pushing {
    /// Starts it; `environment` is set for it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(args: &[&str], environment: &[(&str, PathBuf)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name| File::create(folder.path().join(name)).expect("a file");
        let mut command = smilat();
        for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        let child = command
            .args(["run", "--format=ndjson", "--threshold=5us"])
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("smilat starts");
        Self {
            process: Guard(child),
            folder,
        }
    }

    /// What it said on standard error so far.
    ///
    /// # Panics
    /// When that cannot be read.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).expect("standard error")
    }

    /// Its reports so far; a line that is not complete yet is left out.
    ///
    /// # Panics
    /// When they cannot be read.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let text = fs::read_to_string(self.folder.path().join("stdout")).expect("reports");
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).expect("a snapshot"))
            .collect()
    }

    /// Sends it SIGINT.
    ///
    /// # Panics
    /// When that fails.
    pub fn interrupt(&self) {
        self.signal(libc::SIGINT);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When that fails.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.process.0.id()).expect("a process id");
        // SAFETY: a plain system call; the process has not been waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until it has ended, 20 s at most.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the end of smilat", || {
            status = self.process.0.try_wait().expect("its status");
            status.is_some()
        });
        status.expect("a status")
    }
}
