//! A real Prometheus on loopback, scraping once a second, and its promtool. `cargo xtask test host` says where they are.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    from_env, output,
    serving::{free_address, get},
    wait_until,
};

/// How many ports may be taken by others in the moment between finding them free and starting it.
const PORTS: u32 = 5;

/// A Prometheus; killed when dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _data: TempDir,
}

/// promtool, to be given arguments.
pub fn promtool() -> Command {
    Command::new(from_env("SMILAT_PROMTOOL"))
}

impl Prometheus {
    /// Starts one that scrapes `target`; `native`: with native histograms, which has it ask for protobuf.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(target: SocketAddr, native: bool) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let config = data.path().join("prometheus.yml");
        let write = |more: &str| {
            let scrape = format!("job_name: smilat, static_configs: [{{targets: ['{target}']}}]");
            let text =
                format!("global: {{scrape_interval: 1s{more}}}\nscrape_configs: [{{{scrape}}}]\n");
            fs::write(&config, text).expect("written");
        };
        write(", scrape_native_histograms: true");
        // From 3.8 on, native histograms are asked for here; before, by the flag below.
        let check = output(promtool().args(["check", "config"]).arg(&config));
        if !native || !check.status.success() {
            write("");
        }
        let mut taken = 0;
        loop {
            let mut child = Self::spawn(data.path(), native);
            let address = child.1;
            let mut ended = false;
            wait_until("Prometheus", || {
                ended = child.0.try_wait().expect("its status").is_some();
                ended || get(address, "/-/ready").is_ok_and(|answer| answer.status == 200)
            });
            if !ended {
                return Self {
                    child: child.0,
                    address,
                    _data: data,
                };
            }
            let said = fs::read_to_string(data.path().join("log")).expect("its log");
            assert!(
                said.contains("address already in use") && taken < PORTS,
                "Prometheus ended: {said}"
            );
            taken += 1;
        }
    }

    /// Starts it on a port that was free a moment ago, since it does not tell which one it takes by itself.
    fn spawn(data: &Path, native: bool) -> (Child, SocketAddr) {
        let address = free_address();
        let said = data.join("log");
        let mut command = Command::new(from_env("SMILAT_PROMETHEUS"));
        command
            .arg(format!(
                "--config.file={}",
                data.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                data.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(File::create(&said).expect("a file"))
            .stderr(File::options().append(true).open(&said).expect("a file"));
        if native {
            command.arg("--enable-feature=native-histograms");
        }
        (command.spawn().expect("Prometheus"), address)
    }

    /// What it answers to `query` at `time`, in seconds since 1970 (now, if `None`): the elements of `data.result`.
    ///
    /// # Panics
    /// When it refuses the query.
    #[track_caller]
    pub fn query(&self, query: &str, time: Option<&str>) -> Vec<Value> {
        let time = time.map_or(String::new(), |time| format!("&time={time}"));
        let path = format!("/api/v1/query?query={}{time}", escaped(query));
        let answer = get(self.address, &path).expect("an answer");
        let json: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(json["status"], "success", "{query}: {json}");
        json["data"]["result"].as_array().expect("a list").clone()
    }

    /// The one number that it answers to `query` at `time`.
    ///
    /// # Panics
    /// When it answers anything but one number.
    #[track_caller]
    pub fn number(&self, query: &str, time: &str) -> f64 {
        let result = self.query(query, Some(time));
        assert_eq!(result.len(), 1, "{query}: {result:?}");
        number(&result[0])
    }

    /// When it scraped the number of the last interval, and that number: all that it has, oldest first.
    ///
    /// # Panics
    /// When it refuses the query.
    #[track_caller]
    pub fn scrapes(&self) -> Vec<(String, u64)> {
        let result = self.query("smilat_snapshots_total[10m]", None);
        let samples = result
            .first()
            .and_then(|series| series["values"].as_array());
        let sample = |pair: &Value| {
            let interval = pair[1].as_str().expect("a value").parse().expect("a count");
            (pair[0].to_string(), interval)
        };
        samples.map_or(Vec::new(), |samples| samples.iter().map(sample).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// The value of an element of `data.result`.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn number(element: &Value) -> f64 {
    let text = element["value"][1].as_str();
    text.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no number in {element}"))
}

/// `text` as a part of a URL.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
