//! What smilat may do to the system: what it gives up, and that what its unit allows is enough and needed.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use smi_user::kernel::{
    perf::paranoid,
    process::{
        CAP_BPF, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_NICE,
        CAP_SYS_RAWIO, CAP_SYSLOG, Capabilities,
    },
    release::{self, Version},
};
use tests::{
    capabilities::{are_enough_and_needed, set},
    output,
    service::{CLOSELY, PATIENCE, Service, lines},
    serving::{self, address},
    smilat, smilat_path, stderr, two_cpus, wait_until,
};

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
    are_enough_and_needed(&names, |names| {
        let set = set(names);
        output(
            Command::new("setpriv")
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
                .arg(&config),
        )
    });
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
