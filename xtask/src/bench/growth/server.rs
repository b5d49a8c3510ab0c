//! A real Prometheus, small: what a sample takes on its disk, and a series in its memory.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Recorded, nodes::SCRAPES_S};
use crate::{prometheus, sh};

/// Nodes that the small server scrapes, and the CPUs of each.
pub(super) const NODES: u64 = 50;
pub(super) const CPUS: u32 = 64;
/// How often, and for how long.
const SCRAPE: Duration = Duration::from_secs(5);
const SCRAPED: Duration = Duration::from_secs(20);
/// How long it may take to start, or to have scraped all nodes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Snapshots of a day at the default interval.
const DAY: (u64, u64) = (17_280, 5);

/// See the module.
pub(super) struct Prometheus {
    pub(super) version: String,
    /// By [`SCRAPES_S`].
    pub(super) disk: Vec<Disk>,
    pub(super) memory: Memory,
}

/// Blocks of a day of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disk {
    pub(super) bytes: u64,
    pub(super) samples: u64,
}

/// What a server holds more after it has scraped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) series: u64,
    pub(super) heap_bytes: u64,
    pub(super) resident_bytes: u64,
}

/// Measures both.
pub(super) fn measure(recorded: &Recorded) -> Result<Prometheus> {
    let [server, promtool] = prometheus::find()?;
    let version = sh::read(Command::new(&server).arg("--version"))?;
    let version = version.split(" (").next().unwrap_or_default();
    Ok(Prometheus {
        version: version.replace(", version", ""),
        disk: SCRAPES_S
            .into_iter()
            .map(|seconds| disk(recorded, &promtool, seconds.into()))
            .collect::<Result<_>>()?,
        memory: memory(recorded, &server)?,
    })
}

/// An empty folder for what is measured.
fn folder(name: &str) -> Result<std::path::PathBuf> {
    let folder = sh::root().join("target").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The blocks that promtool makes of a day of one node of this machine's size, scraped so often.
fn disk(recorded: &Recorded, promtool: &Path, seconds: u64) -> Result<Disk> {
    let folder = folder("growth-tsdb")?;
    let scrapes = folder.join("scrapes");
    let (snapshots, interval_s) = DAY;
    let mut grown = recorded.grown("scrapes", snapshots, interval_s);
    let cpus = thread::available_parallelism()?.get();
    sh::run(
        grown
            .args([cpus.to_string(), (seconds / interval_s).to_string()])
            .stdout(File::create(&scrapes)?),
    )?;
    let blocks = folder.join("blocks");
    sh::run(
        Command::new(promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
            .args([&scrapes, &blocks])
            .stdout(Stdio::null()),
    )?;
    let mut sum = Disk::default();
    for block in fs::read_dir(&blocks)? {
        let block = block?.path();
        let Ok(meta) = fs::read_to_string(block.join("meta.json")) else {
            continue;
        };
        sum.samples += samples(&meta)?;
        sum.bytes += size(&block)?;
    }
    fs::remove_dir_all(&folder)?;
    Ok(sum)
}

/// Samples of a block.
fn samples(meta: &str) -> Result<u64> {
    let meta: Value = serde_json::from_str(meta)?;
    meta["stats"]["numSamples"]
        .as_u64()
        .with_context(|| format!("a block's meta.json has no stats.numSamples: {meta}"))
}

/// Bytes of all files in `folder`.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            size(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What the nodes' series take in the memory of a server.
fn memory(recorded: &Recorded, server: &Path) -> Result<Memory> {
    let page = sh::read(recorded.grown("page", 1, 60).arg(CPUS.to_string()))? + "\n";
    let series = page.lines().filter(|line| !line.starts_with('#')).count() as u64;
    let nodes = Nodes::serve(page)?;
    let folder = folder("growth-prometheus")?;
    let config = folder.join("prometheus.yml");
    fs::write(&config, nodes.config()?)?;
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let _running = Running(
        Command::new(server)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={listen}"))
            .args(["--log.level=error"])
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", server.display()))?,
    );
    wait_until("Prometheus to be ready", || {
        Ok(get(listen, "/-/ready").is_ok_and(|answer| answer.contains("200 OK")))
    })?;
    // It has asked all of them, and knows what it says of each itself.
    wait_until("Prometheus to ask all nodes", || {
        Ok(number(&get(listen, "/metrics")?, "prometheus_tsdb_head_series")? >= NODES)
    })?;
    let before = state(listen)?;
    nodes.open.store(true, Ordering::Relaxed);
    wait_until("Prometheus to scrape all nodes", || {
        let all = number(&get(listen, "/metrics")?, "prometheus_tsdb_head_series")?;
        Ok(all >= before.series + NODES * series)
    })?;
    thread::sleep(SCRAPED);
    let after = state(listen)?;
    Ok(Memory {
        series: after.series - before.series,
        heap_bytes: after.heap_bytes.saturating_sub(before.heap_bytes),
        resident_bytes: after.resident_bytes.saturating_sub(before.resident_bytes),
    })
}

/// What a server holds now, after it was told to collect garbage.
fn state(server: SocketAddr) -> Result<Memory> {
    get(server, "/debug/pprof/heap?gc=1")?;
    let own = get(server, "/metrics")?;
    Ok(Memory {
        series: number(&own, "prometheus_tsdb_head_series")?,
        heap_bytes: number(&own, "go_memstats_heap_alloc_bytes")?,
        resident_bytes: number(&own, "process_resident_memory_bytes")?,
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so()? {
        if began.elapsed() > PATIENCE {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The answer to a request, head and all. HTTP/1.0: it is neither cut into pieces nor followed by another.
fn get(server: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The value of the metric `name`, which has no labels.
fn number(page: &str, name: &str) -> Result<u64> {
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .map(|value: f64| value as u64)
        .with_context(|| format!("Prometheus says nothing of {name}"))
}

/// Nodes that answer with the same page, once they are open.
struct Nodes {
    address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Nodes {
    fn serve(page: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        // It ends with this process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let page = is_open.load(Ordering::Relaxed).then_some(page.as_str());
                // Whoever went away does not want it.
                let _answered = answer(&stream, page);
            }
        });
        Ok(Self { address, open })
    }

    /// A configuration of Prometheus that scrapes all of them: one address by many names.
    fn config(&self) -> Result<String> {
        let mut text = format!(
            "global: {{scrape_interval: {}s, scrape_timeout: {}s}}\nscrape_configs:\n- job_name: smilat\n  static_configs:\n",
            SCRAPE.as_secs(),
            SCRAPE.as_secs()
        );
        for node in 0..NODES {
            writeln!(
                text,
                "  - {{targets: ['{}'], labels: {{instance: 'node-{node}:9793'}}}}",
                self.address
            )?;
        }
        Ok(text)
    }
}

fn answer(stream: &TcpStream, page: Option<&str>) -> io::Result<()> {
    let mut request = BufReader::new(stream).lines();
    while request
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let (status, page) = page.map_or(("503 Service Unavailable", ""), |page| ("200 OK", page));
    let mut to = stream;
    write!(
        to,
        "HTTP/1.1 {status}\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_prometheus_are_read() {
        let page = "# TYPE a gauge\na_b 7\na 1.5e+06\n";
        assert_eq!(number(page, "a").expect("a number"), 1_500_000);
        assert!(number(page, "b").is_err());
        let meta = r#"{"stats": {"numSamples": 12, "numSeries": 3}}"#;
        assert_eq!(samples(meta).expect("a number"), 12);
    }

    #[test]
    fn a_node_answers_once_it_is_open() {
        let nodes = Nodes::serve("a 1\n".to_owned()).expect("a port");
        assert!(
            get(nodes.address, "/metrics")
                .expect("an answer")
                .contains(" 503 ")
        );
        nodes.open.store(true, Ordering::Relaxed);
        assert!(
            get(nodes.address, "/metrics")
                .expect("an answer")
                .ends_with("\r\n\r\na 1\n")
        );
        assert_eq!(
            nodes.config().expect("a text").matches("targets").count() as u64,
            NODES
        );
    }
}
