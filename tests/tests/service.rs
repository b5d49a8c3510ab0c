//! smilat as a service: its configuration, read again while it counts, and what it tells a service manager.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Permissions},
    io::{self, BufRead as _, BufReader, Read},
    net::SocketAddr,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::{fs::PermissionsExt as _, net::UnixDatagram, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    ptr,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use smi_user::{
    kernel::{
        perf::paranoid,
        process::{
            CAP_BPF, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_SYS_ADMIN,
            CAP_SYS_NICE, CAP_SYS_RAWIO, CAP_SYSLOG, Capabilities,
        },
        release::{self, Version},
    },
    model::Snapshot,
};
use tempfile::TempDir;
use tests::{
    otlp, output, refused, serving, smilat, smilat_path, snapshots, stderr, two_cpus, wait_until,
};

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts closely and reports often: there are gaps in every interval, or nearly.
const CLOSELY: &str = "width = '50ms'\nmode = 'per-cpu'\nformat = 'ndjson'\ninterval = '200ms'\nmax-gap-records = 100000\n";

/// `smilat run --config FILE`, as a service manager would start it.
struct Service {
    child: Child,
    folder: TempDir,
    socket: UnixDatagram,
    snapshots: Receiver<Snapshot>,
    said: Receiver<String>,
    /// Everything of the two above that was taken.
    seen: Vec<Snapshot>,
}

impl Service {
    fn start(config: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_by(smilat(), config, environment)
    }

    /// Starts `command`, which is smilat or becomes it.
    fn start_by(mut command: Command, config: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        fs::write(folder.path().join("smilat.toml"), config).expect("written");
        let mut child = command
            .arg("run")
            .arg("--config")
            .arg(folder.path().join("smilat.toml"))
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("smilat starts");
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

    fn config(&self) -> PathBuf {
        self.folder.path().join("smilat.toml")
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process");
        // SAFETY: no preconditions; the child was not waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Writes another configuration and has it read.
    fn reload(&self, config: &str) {
        fs::write(self.config(), config).expect("written");
        self.signal(libc::SIGHUP);
    }

    /// The next message to the service manager.
    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits for a message to the service manager that contains `text`, and returns those before it.
    #[track_caller]
    fn told_until(&self, text: &str) -> Vec<String> {
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
    #[track_caller]
    fn says(&self, text: &str) -> String {
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
    #[track_caller]
    fn sees(&mut self, what: &str, is: impl Fn(&Snapshot) -> bool) {
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
    fn end(mut self) -> (Vec<Snapshot>, ExitStatus) {
        self.signal(libc::SIGTERM);
        while let Ok(snapshot) = self.snapshots.recv_timeout(PATIENCE) {
            self.seen.push(snapshot);
            assert!(self.seen.len() < 10_000, "it does not end");
        }
        let status = self.child.wait().expect("it ends");
        (std::mem::take(&mut self.seen), status)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only a test that failed leaves it running.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Lines of `from`, read on a thread of their own, so that the pipe never fills.
fn lines<T: Send + 'static>(
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

fn with_file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("smilat.toml");
    fs::write(&file, text).expect("written");
    let option = format!("--config={}", file.display());
    (folder, option)
}

#[test]
fn the_file_sets_options_and_the_command_line_overrules_it() {
    let (_folder, config) = with_file(
        "threshold = '20us'\nwidth = '5ms'\ncpus = '0'\nmode = 'per-cpu'\nquiet = true\nduration = '300ms'\n",
    );
    let all = snapshots(&[&config]);
    let detector = &all.last().expect("a snapshot").detector;
    assert_eq!(
        (detector.threshold_ns, detector.width_ns),
        (20_000, 5_000_000)
    );
    assert_eq!(detector.cpus, "0");
    let all = snapshots(&[&config, "--threshold=7us"]);
    let detector = &all.last().expect("a snapshot").detector;
    assert_eq!(
        (detector.threshold_ns, detector.width_ns),
        (7_000, 5_000_000)
    );
}

#[test]
fn a_wrong_file_is_refused_with_place_and_remedy() {
    for (text, told) in [
        (
            "\nthreshhold = '1us'",
            &[
                "smilat.toml:2: ",
                "no option \"threshhold\"; did you mean threshold?",
            ][..],
        ),
        (
            "width = '10parsecs'",
            &["smilat.toml:1: width: ", "unknown unit \"parsecs\""],
        ),
        ("width = 5ms", &["smilat.toml:1: this is not TOML"]),
        (
            "width = '200ms'\nwindow = '100ms'",
            &["--width 200 ms must be below --window 100 ms"],
        ),
    ] {
        let (_folder, config) = with_file(text);
        refused(smilat().args(["run", &config]), told);
    }
    refused(
        smilat().args(["run", "--config=/no/such/file"]),
        &["cannot read the configuration /no/such/file: No such file"],
    );
}

/// What of each CPU may only grow.
fn growing(snapshot: &Snapshot) -> BTreeMap<u32, Vec<u64>> {
    snapshot
        .cpus
        .iter()
        .map(|cpu| {
            let buckets = cpu.histogram.counts().iter().copied();
            let smis = cpu.smis.unwrap_or_default();
            let counts = [
                cpu.exposure_ns,
                cpu.windows.scheduled,
                cpu.windows.run,
                cpu.stretches.steps,
                cpu.gaps.count,
                cpu.gaps.sum_ns,
                cpu.gaps.max_ns.unwrap_or_default(),
                cpu.records.sent,
                smis.counted,
                smis.sampled.unwrap_or_default(),
                cpu.steal.unwrap_or_default().sampled_ns,
            ];
            (cpu.cpu, counts.into_iter().chain(buckets).collect())
        })
        .collect()
}

/// Every total only grows, every interval is there once, and the single gaps are as many as were counted.
#[track_caller]
fn nothing_is_lost_or_counted_twice(all: &[Snapshot]) {
    for (earlier, later) in all.iter().zip(&all[1..]) {
        assert_eq!(later.interval, earlier.interval + 1);
        assert!(later.elapsed_ns > earlier.elapsed_ns);
        assert!(!earlier.last);
        let now = growing(later);
        for (cpu, counts) in growing(earlier) {
            let now = now.get(&cpu).unwrap_or_else(|| panic!("CPU {cpu} is gone"));
            let back = counts.iter().zip(now).position(|(then, now)| now < then);
            assert_eq!(
                back, None,
                "CPU {cpu}, interval {}: {counts:?}, then {now:?}",
                later.interval
            );
        }
    }
    let last = all.last().expect("a snapshot");
    assert!(last.last);
    for cpu in &last.cpus {
        assert_eq!(cpu.histogram.total(), cpu.gaps.count, "CPU {}", cpu.cpu);
        let by_cause: u64 = cpu.causes.iter().map(|of| of.count).sum();
        assert_eq!(by_cause, cpu.gaps.count, "CPU {}", cpu.cpu);
        let single: Vec<u64> = all
            .iter()
            .flat_map(|snapshot| &snapshot.gaps)
            .filter(|gap| gap.cpu == cpu.cpu)
            .map(|gap| gap.duration_ns)
            .collect();
        assert_eq!((cpu.records.limited, cpu.records.lost), (0, 0));
        assert_eq!(single.len() as u64, cpu.gaps.count, "CPU {}", cpu.cpu);
        assert_eq!(
            single.iter().sum::<u64>(),
            cpu.gaps.sum_ns,
            "CPU {}",
            cpu.cpu
        );
        assert_eq!(
            single.iter().max().copied(),
            cpu.gaps.max_ns,
            "CPU {}",
            cpu.cpu
        );
    }
}

#[test]
fn reloads_change_what_is_watched_and_totals_go_on() {
    let (cpu, other) = two_cpus();
    let config =
        |threshold: &str, cpu: u32| format!("{CLOSELY}threshold = '{threshold}'\ncpus = '{cpu}'\n");
    let mut service = Service::start(&config("2us", cpu), &[]);
    let gaps_of = |snapshot: &Snapshot, of: u32| snapshot.cpu(of).map_or(0, |cpu| cpu.gaps.count);
    service.sees("gaps", |snapshot| gaps_of(snapshot, cpu) > 0);

    service.reload(&config("1us", cpu));
    service.says("threshold 1.00 us");
    service.sees("the new threshold", |snapshot| {
        snapshot.detector.threshold_ns == 1_000
    });

    service.reload(&config("1us", other));
    service.says("the detector was started again, and totals go on");
    service.sees("gaps of the other CPU", |snapshot| {
        snapshot.detector.cpus == other.to_string() && gaps_of(snapshot, other) > 0
    });
    let kept = gaps_of(service.seen.last().expect("a snapshot"), cpu);
    assert!(kept > 0);

    // Back to the first one, whose counts go on growing.
    service.reload(&config("1us", cpu));
    service.says("the detector was started again");
    service.sees("more gaps", |snapshot| gaps_of(snapshot, cpu) > kept);

    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
    // No interval has two settings: it ends where the settings change.
    let settings: Vec<(u64, &str)> = all
        .iter()
        .map(|snapshot| {
            (
                snapshot.detector.threshold_ns,
                snapshot.detector.cpus.as_str(),
            )
        })
        .collect::<Vec<_>>();
    let mut order = settings.clone();
    order.dedup();
    let (cpu, other) = (cpu.to_string(), other.to_string());
    assert_eq!(
        order,
        [
            (2_000, &*cpu),
            (1_000, &*cpu),
            (1_000, &*other),
            (1_000, &*cpu)
        ]
    );
}

#[test]
fn what_cannot_be_had_leaves_all_as_it_was() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}threshold = '1us'\ncpus = '{cpu}'\n");
    let mut service = Service::start(&config, &[]);
    service.sees("an interval", |_| true);

    service.reload("threshhold = '1us'");
    let told = service.says("not reloaded, all goes on as before");
    assert!(told.contains("did you mean threshold?"), "{told}");

    service.reload(&format!("{config}width = '100ms'\n").replace("width = '50ms'\n", ""));
    let told = service.says("not reloaded, all goes on as before");
    assert!(told.contains("must be below --window"), "{told}");

    fs::remove_file(service.config()).expect("removed");
    service.signal(libc::SIGHUP);
    service.says("cannot read the configuration");

    // Shows only when the detector has been stopped: the counter of another maker's CPUs.
    let intel = fs::read_to_string("/proc/cpuinfo")
        .expect("cpuinfo")
        .contains("GenuineIntel");
    let foreign = if intel { "ls-smi-rx" } else { "msr-pmu" };
    // Nor is anything else of that file taken.
    let slower = config.replace("'200ms'", "'1h'");
    service.reload(&format!("{slower}counter = '{foreign}'\n"));
    service.says("nothing was taken of the file, and the old ones are in force again");
    service.reload(&config);
    service.says("nothing has changed");

    service.reload(&format!("{config}hardlimit = '1s'\n"));
    service.says("hardlimit cannot be changed while it runs");
    service.reload(&config);
    service.says("nothing has changed");

    let so_far = service.seen.last().map_or(0, |snapshot| snapshot.interval);
    service.sees("further intervals", |snapshot| {
        snapshot.interval > so_far + 2
    });
    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
    assert!(
        all.iter()
            .all(|snapshot| snapshot.detector.width_ns == 50_000_000)
    );
}

#[test]
fn a_threshold_that_takes_another_hardlimit_waits_for_it() {
    let (cpu, _) = two_cpus();
    let config = |threshold: &str, limit: &str| {
        format!("{CLOSELY}cpus = '{cpu}'\nthreshold = '{threshold}'\nhardlimit = '{limit}'\n")
    };
    let service = Service::start(&config("10us", "10ms"), &[]);
    service.told_until("READY=1");
    service.reload(&config("20ms", "30ms"));
    let told = service.says("not reloaded, all goes on as before");
    assert!(
        told.contains("the hardlimit cannot be changed to 30.0 ms while it runs")
            && told.contains("start smilat again for both"),
        "{told}"
    );
    service.reload(&config("20us", "15us"));
    let told = service.says("not reloaded, all goes on as before");
    assert!(
        told.contains("--hardlimit 15.0 us is below --threshold 20.0 us"),
        "{told}"
    );
    service.end();
}

#[test]
fn reloads_reach_every_way_out() {
    let (cpu, other) = two_cpus();
    let receiver = otlp::Receiver::start(&["200"]);
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("gaps.ndjson");
    let config = |threshold: &str, cpu: u32| {
        format!(
            "{CLOSELY}threshold = '{threshold}'\ncpus = '{cpu}'\nrecord = '{}'\nlisten = '127.0.0.1:0'\n\
             otlp = '{}'\notlp-interval = '200ms'\n",
            record.display(),
            receiver.url()
        )
    };
    let mut service = Service::start(&config("2us", cpu), &[]);
    let metrics = address(&service.says("metrics: http://"));
    service.sees("gaps", |snapshot| snapshot.total().count > 0);
    service.reload(&config("1us", cpu));
    service.says("threshold 1.00 us");
    service.reload(&config("1us", other));
    service.says("the detector was started again");
    service.sees("gaps of the other CPU", |snapshot| {
        snapshot.cpu(other).is_some_and(|cpu| cpu.gaps.count > 0)
    });
    // Two intervals later what was seen above has been published.
    let seen = service.seen.last().expect("a snapshot").clone();
    service.sees("further intervals", |snapshot| {
        snapshot.interval > seen.interval + 1
    });
    let served = serving::get(metrics, "/metrics").expect("an answer").body;
    for cpu in &seen.cpus {
        let label = format!("cpu=\"{}\"", cpu.cpu);
        let served = serving::sum(&served, "smilat_exposure_seconds_total", &label);
        let then = cpu.exposure_ns as f64 / 1e9;
        assert!(
            served >= then * 0.999_999,
            "CPU {}: {served}, {then}",
            cpu.cpu
        );
    }
    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
    let recorded = fs::read_to_string(&record).expect("the recording");
    let recorded: Vec<Snapshot> = recorded
        .lines()
        .filter(|line| !line.starts_with("{\"recording\""))
        .map(|line| serde_json::from_str(line).expect("a snapshot"))
        .collect();
    assert_eq!(recorded, all);
    let last = all.last().expect("a snapshot");
    let pushed = receiver.requests();
    let pushed = pushed.last().expect("a push").points("smilat.gaps");
    for cpu in &last.cpus {
        let of_cpu = format!("cpu={}", cpu.cpu);
        let count: f64 = pushed
            .iter()
            .filter(|(key, _)| key.split(',').any(|part| part == of_cpu))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(count as u64, cpu.gaps.count, "CPU {}", cpu.cpu);
    }
}

/// Where the metrics are, by what smilat says.
#[track_caller]
fn address(said: &str) -> SocketAddr {
    said.trim()
        .trim_start_matches("metrics: http://")
        .trim_end_matches("/metrics")
        .parse()
        .expect("an address")
}

/// The two ends of a terminal: the one that shows it, and the one programs run in.
fn terminal() -> (File, OwnedFd) {
    let (mut shows, mut runs) = (-1, -1);
    // SAFETY: both numbers live until the call returns; the rest may be left out.
    let made = unsafe {
        libc::openpty(
            &raw mut shows,
            &raw mut runs,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    assert_eq!(made, 0, "no terminal");
    for end in [shows, runs] {
        // A program that inherited it would keep the terminal from being closed.
        // SAFETY: no memory is involved.
        let set = unsafe { libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC) };
        assert_eq!(set, 0, "the terminal's descriptor");
    }
    // SAFETY: the call made them, and nobody else has them.
    unsafe { (File::from_raw_fd(shows), OwnedFd::from_raw_fd(runs)) }
}

/// A process that does not outlast a test that failed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Most have ended by themselves.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Runs smilat in a terminal of its own and closes that: it must end by itself, and well, with its report whole.
#[track_caller]
fn ends_with_its_terminal(config: Option<&str>) {
    let (cpu, _) = two_cpus();
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.ndjson");
    let (mut shows, runs) = terminal();
    let mut command = smilat();
    command
        .args([
            "run",
            "--interval=3s",
            "--format=ndjson",
            "--cpus",
            &cpu.to_string(),
        ])
        .arg("--output")
        .arg(&report);
    if let Some(text) = config {
        let file = folder.path().join("smilat.toml");
        fs::write(&file, text).expect("written");
        command.arg("--config").arg(file);
    }
    let end = || Stdio::from(runs.try_clone().expect("a descriptor"));
    command.stdin(end()).stdout(end()).stderr(end());
    // SAFETY: three system calls between fork and exec, which touch no memory: the terminal on standard input becomes that
    // of a session of its own.
    unsafe {
        command.pre_exec(|| {
            // Whoever started the tests may have them ignored.
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = Killed(command.spawn().expect("smilat starts"));
    // It keeps the descriptors given to it as long as it lives.
    drop(command);
    drop(runs);
    let mut shown = String::new();
    let mut buffer = [0; 4096];
    // By then it has sampled.
    while !shown.contains("1 s, Ctrl-C ends") {
        let length = shows.read(&mut buffer).expect("the terminal");
        shown += &String::from_utf8_lossy(&buffer[..length]);
        assert!(shown.len() < 100_000, "{shown}");
    }
    drop(shows);
    let mut status = None;
    wait_until("smilat to end with its terminal", || {
        status = child.0.try_wait().expect("a child");
        status.is_some()
    });
    let status = status.expect("a status");
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(&report).expect("the report");
    let last: Snapshot =
        serde_json::from_str(text.lines().last().expect("a line")).expect("a snapshot");
    assert!(last.last && last.total().exposure_ns > 0);
}

#[test]
fn a_terminal_that_is_closed_ends_it_and_the_report_is_whole() {
    ends_with_its_terminal(None);
    // Where a hang-up means something else otherwise.
    ends_with_its_terminal(Some("threshold = '2us'\n"));
}

#[test]
fn a_new_interval_counts_from_the_reload_on() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    let slow = config.replace("'200ms'", "'1h'");
    let mut service = Service::start(&slow, &[]);
    service.told_until("READY=1");
    service.reload(&config);
    service.says("a report every 200 ms");
    service.sees("intervals", |snapshot| snapshot.interval == 3);
    nothing_is_lost_or_counted_twice(&service.end().0);
}

#[test]
fn a_service_manager_is_told_what_happens() {
    let (cpu, other) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    let service = Service::start(&config, &[("WATCHDOG_USEC", "1000000")]);
    let first = service.told();
    assert!(
        first.contains("READY=1") && first.contains(&format!("STATUS=watching CPU {cpu} by ")),
        "{first}"
    );
    let before = service.told_until("gaps in");
    service.told_until("WATCHDOG=1");
    let before_second: Vec<String> = service.told_until("WATCHDOG=1");
    let all: Vec<&String> = before.iter().chain(&before_second).collect();
    assert!(
        all.iter().all(|message| !message.contains("READY=1")),
        "{all:?}"
    );

    service.reload(&format!("{CLOSELY}cpus = '{other}'\n"));
    let told = |text: &str| service.told_until(text);
    told("RELOADING=1\nMONOTONIC_USEC=");
    told(&format!("READY=1\nSTATUS=watching CPU {other} by "));
    service.reload("nonsense");
    told("RELOADING=1");
    told("READY=1");
    service.signal(libc::SIGTERM);
    told("STOPPING=1");
}

#[test]
fn a_collection_that_stands_still_gives_no_sign_of_life() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    let service = Service::start(&config, &[("WATCHDOG_USEC", "1000000")]);
    service.told_until("WATCHDOG=1");
    service.signal(libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", service.child.id());
    wait_until("it to stop", || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    // What was sent before is still there.
    service.socket.set_nonblocking(true).expect("a socket");
    let mut buffer = [0; 4096];
    while service.socket.recv(&mut buffer).is_ok() {}
    service.socket.set_nonblocking(false).expect("a socket");
    service
        .socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a time limit");
    assert!(
        service.socket.recv(&mut buffer).is_err(),
        "a sign of life while it stands still"
    );
    service
        .socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    service.signal(libc::SIGCONT);
    service.told_until("WATCHDOG=1");
}

#[test]
fn a_manager_that_does_not_listen_holds_up_nothing() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n").replace("200ms", "10ms");
    let mut service = Service::start(&config, &[("WATCHDOG_USEC", "100000")]);
    // Many more than its socket takes without being read.
    service.sees("many intervals", |snapshot| snapshot.interval >= 100);
    let (all, status) = service.end();
    assert!(status.success(), "{status}");
    nothing_is_lost_or_counted_twice(&all);
}

/// A set of capabilities of every thread of the process.
fn capabilities(pid: u32, set: &str) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .map(|status| {
            let hex = status
                .lines()
                .find_map(|line| line.strip_prefix(set))
                .expect("a set");
            u64::from_str_radix(hex.trim(), 16).expect("hexadecimal")
        })
        .collect()
}

const SETS: [&str; 5] = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];

#[test]
fn no_thread_keeps_a_capability_that_is_not_needed_any_more() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\nthreshold = '1us'\n");
    let files = Capabilities::of([CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH]).bits();
    let perfmon = Capabilities::of([CAP_PERFMON]).bits();
    let again = Capabilities::of([
        CAP_BPF,
        CAP_SYS_NICE,
        CAP_SYS_ADMIN,
        CAP_SYSLOG,
        CAP_SYS_RAWIO,
    ])
    .bits();
    let mut service = Service::start(&config, &[]);
    service.told_until("READY=1");
    for set in SETS {
        let threads = capabilities(service.child.id(), set);
        assert!(threads.len() > 1);
        for has in threads {
            assert_eq!(has & !(files | perfmon | again), 0, "{set} {has:x}");
        }
    }
    // Enough is left to start the detector again.
    service.reload(&config.replace("50ms", "20ms"));
    service.says("the detector was started again");
    service.sees("gaps", |snapshot| {
        snapshot.detector.width_ns == 20_000_000 && snapshot.total().count > 0
    });
    assert!(service.end().1.success());

    // Without a file that could be read again, it cannot come to that.
    let mut child = smilat()
        .args([
            "run",
            "--quiet",
            "--format=ndjson",
            "--interval=100ms",
            "--threshold=1us",
            "--counter=none",
        ])
        .args(["--cpus", &cpu.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("smilat starts");
    let snapshots = lines(child.stdout.take().expect("a pipe"), |line| line);
    snapshots.recv_timeout(PATIENCE).expect("a snapshot");
    let old = Version::of_release(&release::release())
        .is_none_or(|version| version < Version::new(5, 19));
    let by_kernel = Capabilities::of(
        [
            old.then_some(CAP_BPF),
            paranoid::takes_sys_admin().map(|_| CAP_SYS_ADMIN),
        ]
        .into_iter()
        .flatten(),
    )
    .bits();
    for set in SETS {
        for has in capabilities(child.id(), set) {
            assert_eq!(has & !(files | perfmon | by_kernel), 0, "{set} {has:x}");
        }
    }
    assert!(
        capabilities(child.id(), "CapEff:")
            .iter()
            .all(|has| has & perfmon == perfmon)
    );
    // It goes on without them.
    for _ in 0..5 {
        snapshots
            .recv_timeout(PATIENCE)
            .expect("a further snapshot");
    }
    // SAFETY: the child was not waited for, so the number is its own.
    unsafe { libc::kill(i32::try_from(child.id()).expect("a process"), libc::SIGINT) };
    while snapshots.recv_timeout(PATIENCE).is_ok() {}
    assert!(child.wait().expect("it ends").success());
}

/// What `packaging/smilat.service` allows, without systemd: another user, the unit's capabilities and no more to be had.
#[test]
fn the_capabilities_of_the_unit_are_enough() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/smilat.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let allowed = |key: &str| -> Vec<String> {
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .expect(key);
        line.split(' ')
            .map(|name| name.trim_start_matches("CAP_").to_lowercase())
            .collect()
    };
    let names = allowed("AmbientCapabilities=");
    assert_eq!(names, allowed("CapabilityBoundingSet="));
    // A place that another user may run it from.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("readable");
    let copy = folder.path().join("smilat");
    fs::copy(smilat_path(), &copy).expect("copied");
    let config = folder.path().join("smilat.toml");
    fs::write(
        &config,
        format!("{CLOSELY}threshold = '1us'\nduration = '2s'\n"),
    )
    .expect("written");
    let with = |names: &[String]| {
        let set = names
            .iter()
            .fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--no-new-privs",
            ])
            .args([
                format!("--inh-caps={set}"),
                format!("--ambient-caps={set}"),
                format!("--bounding-set={set}"),
            ])
            .arg(&copy)
            .args(["run", "--config"])
            .arg(&config);
        output(&mut command)
    };
    let run = with(&names);
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(!stderr(&run).contains("priority ("), "{}", stderr(&run));
    let last = String::from_utf8_lossy(&run.stdout)
        .lines()
        .last()
        .map(str::to_owned)
        .expect("a line");
    let last: Snapshot = serde_json::from_str(&last).expect("a snapshot");
    assert!(last.total().count > 0, "no gaps of 1 us in 2 s");
    // None of them is there without need. CAP_SYS_ADMIN, which stands in for some, is of use on some kernels only.
    let (admin, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == "sys_admin");
    assert_eq!(admin.len(), 1);
    if let Some(level) = paranoid::takes_sys_admin() {
        let told = stderr(&with(&names));
        assert!(told.contains(&format!("paranoid is {level}")), "{told}");
        return;
    }
    assert!(with(&names).status.success());
    for left_out in 0..names.len() {
        let mut fewer = names.clone();
        let name = fewer.remove(left_out);
        let run = with(&fewer);
        let told = stderr(&run);
        assert!(
            told.contains(&format!("CAP_{}", name.to_uppercase())),
            "without {name}: {told}"
        );
    }
}

#[test]
fn hang_ups_that_are_ignored_from_the_start_on_end_nothing() {
    let (cpu, _) = two_cpus();
    // As nohup does.
    let child = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(smilat_path())
        .args(["run", "--quiet", "--format=ndjson", "--interval=100ms"])
        .args(["--cpus", &cpu.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("smilat starts");
    let mut child = Killed(child);
    let reports = lines(child.0.stdout.take().expect("a pipe"), |line| line);
    let pid = i32::try_from(child.0.id()).expect("a process");
    reports.recv_timeout(PATIENCE).expect("a report");
    // SAFETY: the child was not waited for, so the number is its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    // One may have been under way.
    for _ in 0..4 {
        let report = reports.recv_timeout(PATIENCE).expect("a further report");
        assert!(report.contains("\"last\":false"), "{report}");
    }
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    while reports.recv_timeout(PATIENCE).is_ok() {}
    assert!(child.0.wait().expect("it ends").success());
}

/// The system calls of a group, by systemd's own account.
fn group(name: &str) -> BTreeSet<String> {
    let shown = output(Command::new("systemd-analyze").args(["syscall-filter", name]));
    assert!(shown.status.success(), "{name}: {}", stderr(&shown));
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let members = text.lines().skip(1).map(str::trim);
    members
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(calls)
        .collect()
}

/// The system calls that `word` stands for.
fn calls(word: &str) -> BTreeSet<String> {
    if word.starts_with('@') {
        return group(word);
    }
    BTreeSet::from([word.to_owned()])
}

#[test]
fn the_units_filter_lets_every_system_call_through() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/smilat.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let mut allowed = group("@default");
    for line in unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let named: BTreeSet<String> = line
            .trim_start_matches('~')
            .split(' ')
            .flat_map(calls)
            .collect();
        if line.starts_with('~') {
            allowed = &allowed - &named;
        } else {
            allowed.extend(named);
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace");
    let record = folder.path().join("gaps.ndjson");
    let mut strace = Command::new("strace");
    // Beside it rather than above: signals and waiting are smilat's own.
    strace
        .args(["-D", "-f", "-q", "-o"])
        .arg(&trace)
        .arg(smilat_path());
    // A receiver that is not there: the port discards, if anything is behind it.
    let config = |width: &str, threshold: &str| {
        format!(
            "threshold = '{threshold}'\nwidth = '{width}'\nmode = 'per-cpu'\nformat = 'ndjson'\ninterval = '50ms'\n\
             max-gap-records = 100000\nrecord = '{}'\nrotate-size = '64KiB'\nrotate-keep = 2\n\
             listen = '127.0.0.1:0'\notlp = 'http://localhost:9'\notlp-interval = '100ms'\n",
            record.display()
        )
    };
    let mut service = Service::start_by(
        strace,
        &config("20ms", "1us"),
        &[("WATCHDOG_USEC", "1000000")],
    );
    let pid = service.child.id();
    let metrics = address(&service.says("metrics: http://"));
    service.told_until("READY=1");
    service.told_until("WATCHDOG=1");
    service.sees("gaps", |snapshot| snapshot.total().count > 0);
    let answer = serving::get(metrics, "/metrics").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    service.reload(&config("20ms", "2us"));
    service.says("threshold 2.00 us");
    service.reload(&config("10ms", "1us"));
    service.says("the detector was started again");
    wait_until("a part of the recording to be put aside", || {
        folder.path().join("gaps.ndjson.1.gz").exists()
    });
    let (_, status) = service.end();
    assert!(status.success(), "{status}");
    let mut text = String::new();
    wait_until("the end of the trace", || {
        text = fs::read_to_string(&trace).expect("the trace");
        text.lines().any(|line| {
            line.split_once(' ').is_some_and(|(thread, what)| {
                thread == pid.to_string() && what.trim_start().starts_with("+++ exited")
            })
        })
    });
    let trace = text;
    // `1234  bpf(BPF_MAP_CREATE, ...`
    let made: BTreeSet<String> = trace
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    for call in [
        "bpf",
        "perf_event_open",
        "listen",
        "connect",
        "rename",
        "setpriority",
    ] {
        assert!(made.contains(call), "{call}: {made:?}");
    }
    let refused: Vec<&String> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "SystemCallFilter= lacks {refused:?}");
}

#[test]
fn no_signs_of_life_where_none_are_wanted() {
    let (cpu, _) = two_cpus();
    let config = format!("{CLOSELY}cpus = '{cpu}'\n");
    // Meant for another process.
    for environment in [
        &[][..],
        &[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")],
    ] {
        let service = Service::start(&config, environment);
        service.told_until("gaps in");
        service.told_until("gaps in");
        service.signal(libc::SIGTERM);
        let before = service.told_until("STOPPING=1");
        assert!(
            before.iter().all(|message| !message.contains("WATCHDOG")),
            "{before:?}"
        );
    }
}
